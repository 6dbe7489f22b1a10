"""Makes texts whose best reachable perplexity is known.

.venv/bin/python scripts/make_sample_corpus.py FOLDER
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from lm.base import imports

if __name__ == "__main__":
  imports.report_failures()


from lm.base import command
from lm.text import sample_corpus


def define_flags(define):
  """Defines the command line's flags."""
  define.integer("seed", 1, "The seed of the random text.", 0, 2**32 - 1)
  help_text = "The number of words to train on; valid and test have a tenth as "
  help_text += "many."
  define.integer("train_words", 100_000, help_text, 1, 10**8)


@command.entry_point("make_sample_corpus.py", define_flags, arguments=1)
def main(args, folder=None):
  """Makes the corpus; returns the exit status."""
  if not folder:
    raise command.InputError("FOLDER is missing: give the folder to create.")
  source = sample_corpus.write_corpus(folder, args.seed, args.train_words)
  words = source["words"]
  print(
    f"{folder}: {words['train']:,} words to train on, {words['valid']:,} to "
    f"validate and {words['test']:,} to test, with a vocabulary of "
    f"{source['vocabulary']}.\n"
    f"Best reachable test perplexity: {source['best_perplexity']:.3f} (knowing "
    f"only the previous word: {source['bigram_perplexity']:.1f}, no word: "
    f"{source['unigram_perplexity']:.1f})"
  )
  return 0


if __name__ == "__main__":
  sys.exit(main())
