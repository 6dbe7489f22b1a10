"""Makes a corpus for training from any plain text.

  .venv/bin/python scripts/prepare_text.py --text=book.txt --output=my-text
  .venv/bin/python ptb_word_lm.py --data_path=my-text --save_path=runs/my-text

Each line of the text is a sentence. The last lines are for testing, the lines
before them for validation. Or give three texts: --train, --valid and --test.
The vocabulary has the most frequent words of the training text, the others
become <unk>. preparation.json records the choices.
"""

import collections
import dataclasses
import hashlib
import json
import pathlib
import sys

from absl import app, flags

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from lm import command, files, preparation
from lm.text import EOS, UNKNOWN, DataError, decode, vocabulary_of

PARTS = ("train", "valid", "test")


def define_flags():
  """Defines the command line's flags."""
  flags.DEFINE_string("text", None, "The text to split, UTF-8.")
  for part in PARTS:
    flags.DEFINE_string(part, None, f"The {part} text, instead of --text.")
  flags.DEFINE_string("output", None, "The folder to make; it must not exist.")
  for part in PARTS[1:]:
    flags.DEFINE_float(
      f"{part}_share", 0.05, f"The share of --text's lines that is for {part}."
    )
  flags.DEFINE_boolean("lower_case", True, "Convert letters to lower case.")
  help_text = "The word for every number; empty keeps numbers."
  flags.DEFINE_string("number_word", "N", help_text)
  help_text = "Make marks words, drop them, or keep them at the words."
  choices = preparation.PUNCTUATION
  flags.DEFINE_enum("punctuation", "split", choices, help_text)
  help_text = "Words at most, including <unk> and <eos>."
  flags.DEFINE_integer("vocab_size", 10_000, help_text, 3)
  help_text = "Rarer words of the training text become <unk>."
  flags.DEFINE_integer("min_count", 2, help_text, 1)


def main(argv):
  """Prepares a text as the flags say; returns the exit status."""
  return command.run("prepare_text.py", argv, lambda: _main(flags.FLAGS))


def _main(args):
  """Makes the corpus; returns the exit status."""
  files.check_new_folder(args.output, "--output")
  choices = preparation.Preparation(
    lower_case=args.lower_case,
    number_word=args.number_word,
    punctuation=args.punctuation,
  )
  texts, sources = read_texts(args, choices)
  vocabulary = choose_words(texts["train"], args.vocab_size, args.min_count)
  about = {
    "preparation": dataclasses.asdict(choices),
    "vocab_size": args.vocab_size,
    "min_count": args.min_count,
    "sources": sources,
    "lines": {part: len(lines) for part, lines in texts.items()},
  }
  with files.new_folder(args.output, "--output") as folder:
    unknown = {
      part: write_text(f"{folder}/ptb.{part}.txt", lines, vocabulary)
      for part, lines in texts.items()
    }
    content = json.dumps(about, indent=2) + "\n"
    files.write_file(f"{folder}/{preparation.FILE_NAME}", content)
  for part, lines in texts.items():
    num_words = sum(map(len, lines))
    print(
      f"{args.output}/ptb.{part}.txt: {len(lines):,} lines, {num_words:,} "
      f"words, {unknown[part] / num_words:.1%} of them read as {UNKNOWN}"
    )
  vocabulary |= {EOS, UNKNOWN} if unknown["train"] else {EOS}
  print(f"Vocabulary: {len(vocabulary):,} words")
  if UNKNOWN not in vocabulary:
    command.tell(
      f"The training text has no {UNKNOWN}, so unknown words of other texts "
      "will be left out. A larger --min_count or a smaller --vocab_size would "
      "change that."
    )
  return 0


def read_texts(args, choices):
  """Reads the files that the flags name, and prepares them.

  Returns:
    (texts, sources): Two dictionaries: a list of lists of words for each of
    PARTS; the path and checksum of each file by its flag.

  Raises:
    DataError: If the flags do not fit, or a text has no words or is not UTF-8.
    OSError: If a file cannot be read.
  """
  paths = {name: getattr(args, name) for name in ("text", *PARTS)}
  paths = {name: path for name, path in paths.items() if path}
  if tuple(paths) not in (("text",), PARTS):
    raise DataError("Give --text alone, or all of --train, --valid and --test.")
  if "text" not in paths:
    command.refuse(args, ["valid_share", "test_share"], "three texts")
  texts, sources = {}, {}
  for name, path in paths.items():
    content = pathlib.Path(path).read_bytes()
    lines = map(choices.words_of, decode(content, path).split("\n"))
    texts[name] = [line for line in lines if line]
    if not texts[name]:
      raise DataError(f"{path} has no words.")
    sha256 = hashlib.sha256(content).hexdigest()
    sources[name] = {"path": path, "sha256": sha256}
  if "text" in texts:
    texts = split(texts["text"], args.valid_share, args.test_share)
  return texts, sources


def split(lines, valid_share, test_share):
  """Splits a list of lines into the three PARTS, a dictionary of lists.

  Raises:
    DataError: If a part would be empty.
  """
  if not (0 < valid_share < 1 and 0 < test_share < 1):
    raise DataError("--valid_share and --test_share must be between 0 and 1.")
  num_valid = round(len(lines) * valid_share)
  num_test = round(len(lines) * test_share)
  num_train = len(lines) - num_valid - num_test
  if min(num_train, num_valid, num_test) < 1:
    raise DataError(
      f"Of {len(lines):,} lines, {max(num_train, 0):,} would be for training, "
      f"{num_valid:,} for validation and {num_test:,} for testing, but each "
      "needs one. Change the shares, use a text with one sentence per line, or "
      "give --train, --valid and --test."
    )
  valid, test = num_train, num_train + num_valid  # Where these begin.
  parts = lines[:valid], lines[valid:test], lines[test:]
  return dict(zip(PARTS, parts, strict=True))


def choose_words(lines, vocab_size, min_count):
  """Returns the set of words to keep.

  Args:
    lines: The training text, a list of lists of words.
    vocab_size: The most words to keep, including <eos> and <unk>.
    min_count: How often the text must have a word.
  """
  counts = collections.Counter(word for line in lines for word in line)
  fixed = {UNKNOWN, EOS}
  words = [word for word in vocabulary_of(counts) if word not in fixed]
  words = [w for w in words[: vocab_size - 2] if counts[w] >= min_count]
  return {*words, *(fixed & counts.keys())}


def write_text(path, lines, vocabulary):
  """Writes a text with <unk> for unknown words; returns their number."""
  with open(path, "w", encoding="utf-8", newline="\n") as f:
    for line in lines:
      words = [word if word in vocabulary else UNKNOWN for word in line]
      f.write(" ".join(words) + "\n")
  return sum(word not in vocabulary for line in lines for word in line)


if __name__ == "__main__":
  define_flags()
  app.run(main)
