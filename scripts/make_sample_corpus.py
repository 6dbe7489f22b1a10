"""Makes a text whose best perplexity is known: make_sample_corpus.py DIR."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from lm.base import imports

if __name__ == "__main__":
  imports.explain_missing()


from lm.base import command
from lm.text import sample_corpus


def define_flags(define):
  """Defines the command line's flags."""
  define.integer("seed", 1, "Seed of the random text.", 0, 2**32 - 1)
  help_text = "Words to train on; a tenth each to validate and test."
  define.integer("train_words", 100_000, help_text, 1, 10**8)


@command.entry_point("make_sample_corpus.py", define_flags, arguments=1)
def main(args, folder=None):
  """Makes the corpus; returns the exit status."""
  if not folder:
    raise command.InputError("Name the folder to make.")
  about = sample_corpus.write_corpus(folder, args.seed, args.train_words)
  print(
    "{0}: {train:,} words to train on, {valid:,} to validate and {test:,} to "
    "test, in a language of {vocabulary}.\n"
    "Best reachable test perplexity: {best_perplexity:.3f} (knowing only the "
    "previous word: {bigram_perplexity:.1f}, no word: "
    "{unigram_perplexity:.1f})".format(folder, **about, **about["words"])
  )
  return 0


if __name__ == "__main__":
  sys.exit(main())
