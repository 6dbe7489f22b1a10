"""Makes a text whose best perplexity is known: make_sample_corpus.py DIR."""

import pathlib
import sys

from absl import app, flags

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from lm import command, sample_corpus


def define_flags():
  """Defines the command line's flags."""
  flags.DEFINE_integer("seed", 1, "Seed of the random text.", 0, 2**32 - 1)
  help_text = "Words to train on; a tenth each to validate and test."
  flags.DEFINE_integer("train_words", 100_000, help_text, 1, 10**8)


def main(argv):
  """Makes the corpus; returns the exit status."""
  name = "make_sample_corpus.py"
  return command.run(name, argv, lambda: _main(argv), arguments=1)


def _main(argv):
  if len(argv) < 2 or not argv[1]:
    raise command.InputError("Name the folder to make.")
  args = flags.FLAGS
  about = sample_corpus.write_corpus(argv[1], args.seed, args.train_words)
  print(
    "{0}: {train:,} words to train on, {valid:,} to validate and {test:,} to "
    "test, in a language of {vocabulary}.\n"
    "Best reachable test perplexity: {best_perplexity:.3f} (knowing only the "
    "previous word: {bigram_perplexity:.1f}, no word: "
    "{unigram_perplexity:.1f})".format(argv[1], **about, **about["words"])
  )
  return 0


if __name__ == "__main__":
  define_flags()
  app.run(main)
