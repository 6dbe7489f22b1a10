"""Makes a corpus to train on of any plain text.

  .venv/bin/python scripts/prepare_text.py --text=book.txt --output=my-text
  .venv/bin/python ptb_word_lm.py --data_path=my-text --save_path=runs/my-text

writes ptb.train.txt, ptb.valid.txt, ptb.test.txt, and the choices made, in
preparation.json. A line of the text is a sentence. Of --text, the last lines
are for testing and those before them for validation; or name three files with
--train, --valid and --test. The vocabulary is that of the training text: its
most frequent words; all others are read as <unk>.
"""

import collections
import dataclasses
import hashlib
import json
import os
import pathlib
import sys

from absl import app, flags

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import reader
from lm import (
  command,
  files,
  preparation,
)

PARTS = ("train", "valid", "test")


class TextError(command.InputError, ValueError):
  """A text that no corpus can be made of, or choices that do not fit."""


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
  flags.DEFINE_boolean("lower_case", True, "Make all letters small.")
  flags.DEFINE_string(
    "number_word", "N", "What stands for each number; empty keeps numbers."
  )
  flags.DEFINE_enum(
    "punctuation",
    "split",
    preparation.PUNCTUATION,
    "Marks become words of their own, are dropped, or stay at the words.",
  )
  flags.DEFINE_integer(
    "vocab_size", 10_000, "Words at most, <unk> and <eos> counted.", 3
  )
  flags.DEFINE_integer(
    "min_count",
    2,
    "How often the training text must have a word, or it becomes <unk>.",
    1,
  )


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
  vocabulary = limited_vocabulary(
    texts["train"], args.vocab_size, args.min_count
  )
  texts, unknown = replace_unknown(texts, vocabulary)
  about = {
    "preparation": dataclasses.asdict(choices),
    "vocab_size": args.vocab_size,
    "min_count": args.min_count,
    "sources": sources,
    "lines": {part: len(lines) for part, lines in texts.items()},
  }
  with files.new_folder(args.output, "--output") as folder:
    write(folder, texts, about)
  tell_what_it_made(args.output, texts, unknown)
  return 0


def read_texts(args, choices):
  """Reads what the flags name.

  Returns:
    (texts, sources): the lines of each part, as `read_lines` has them; the
    path and the checksum of each file, by the flag that names it.

  Raises:
    TextError: also for flags that do not go together.
  """
  given = [part for part in PARTS if args[part].present]
  if args.text is not None and not given:
    lines, sha256 = read_lines(args.text, choices)
    texts = split(lines, args.valid_share, args.test_share)
    return texts, {"text": {"path": args.text, "sha256": sha256}}
  if args.text is not None or len(given) < len(PARTS):
    raise TextError("Give --text alone, or all of --train, --valid and --test.")
  command.refuse(args, ["valid_share", "test_share"], "three texts")
  texts, sources = {}, {}
  for part in PARTS:
    path = args[part].value
    texts[part], sha256 = read_lines(path, choices)
    sources[part] = {"path": path, "sha256": sha256}
  return texts, sources


def read_lines(path, choices):
  """Reads a text.

  Args:
    path: of the file.
    choices: a Preparation.

  Returns:
    (lines, sha256): the words of each line that has any; the file's checksum.

  Raises:
    TextError: if it cannot be read, or has no word.
    reader.DataError: if it is not UTF-8.
  """
  if not path:
    raise TextError("A text has an empty name; name a file.")
  try:
    content = pathlib.Path(path).read_bytes()
  except (OSError, ValueError) as error:
    reason = getattr(error, "strerror", None) or error
    raise TextError(f"{path} cannot be read: {reason}.") from None
  lines = map(choices.words_of, reader.decode(content, path).split("\n"))
  lines = [line for line in lines if line]
  if not lines:
    raise TextError(f"{path} has no words.")
  return lines, hashlib.sha256(content).hexdigest()


def split(lines, valid_share, test_share):
  """Splits the lines in three: a dictionary of lists by PARTS.

  Raises:
    TextError: if a part would be empty.
  """
  if not (0 < valid_share < 1 and 0 < test_share < 1):
    raise TextError("--valid_share and --test_share must be between 0 and 1.")
  num_valid = round(len(lines) * valid_share)
  num_test = round(len(lines) * test_share)
  num_train = len(lines) - num_valid - num_test
  if min(num_train, num_valid, num_test) < 1:
    raise TextError(
      f"Of {len(lines):,} lines, {max(num_train, 0):,} would be for training, "
      f"{num_valid:,} for validation and {num_test:,} for testing, and none "
      "may be 0. Give other shares, or a text with a sentence a line, or "
      "--train, --valid and --test."
    )
  return {
    "train": lines[:num_train],
    "valid": lines[num_train : num_train + num_valid],
    "test": lines[num_train + num_valid :],
  }


def limited_vocabulary(lines, vocab_size, min_count):
  """Returns the words of a training text that are kept, without <eos>, a set.

  Args:
    lines: lists of words.
    vocab_size: how many at most, <eos> and <unk> counted.
    min_count: how often each must be in the text.
  """
  counts = collections.Counter(word for line in lines for word in line)
  fixed = {preparation.UNKNOWN, reader.EOS}
  frequent = sorted(
    (w for w, n in counts.items() if n >= min_count and w not in fixed),
    key=lambda word: (-counts[word], word),
  )
  return {*frequent[: vocab_size - len(fixed)], *(fixed & counts.keys())}


def replace_unknown(texts, vocabulary):
  """Replaces words that are not in the vocabulary.

  Args:
    texts: lists of lines by part.
    vocabulary: a set of words.

  Returns:
    (texts, unknown): the same with <unk> in their places, and how many there
    were in each part.
  """
  unknown = {
    part: sum(word not in vocabulary for line in lines for word in line)
    for part, lines in texts.items()
  }
  replaced = {
    part: [
      [word if word in vocabulary else preparation.UNKNOWN for word in line]
      for line in lines
    ]
    for part, lines in texts.items()
  }
  return replaced, unknown


def write(folder, texts, about):
  """Writes the corpus to a folder."""
  for part, lines in texts.items():
    path = os.path.join(folder, f"ptb.{part}.txt")
    with open(path, "w", encoding="utf-8", newline="\n") as f:
      f.writelines(" ".join(line) + "\n" for line in lines)
  path = os.path.join(folder, preparation.FILE_NAME)
  with open(path, "w", encoding="utf-8") as f:
    json.dump(about, f, indent=2)
    f.write("\n")


def tell_what_it_made(folder, texts, unknown):
  """Prints the sizes of a corpus."""
  words = {part: sum(map(len, lines)) for part, lines in texts.items()}
  for part, lines in texts.items():
    print(
      f"{folder}/ptb.{part}.txt: {len(lines):,} lines, {words[part]:,} words, "
      f"{unknown[part] / words[part]:.1%} of them read as {preparation.UNKNOWN}"
    )
  vocabulary = {word for line in texts["train"] for word in line}
  print(f"Vocabulary: {len(vocabulary | {reader.EOS}):,} words")
  if preparation.UNKNOWN not in vocabulary:
    command.tell(
      f"The training text has no {preparation.UNKNOWN}: other texts' unknown "
      "words will be left out. A larger --min_count or a smaller --vocab_size "
      "would mend that."
    )


if __name__ == "__main__":
  define_flags()
  app.run(main)
