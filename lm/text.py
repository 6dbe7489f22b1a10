"""Reads texts as words, and numbers the words of a vocabulary."""

import codecs
import collections
import hashlib
import math
import os

from lm.command import InputError
from lm.files import read_file

EOS = "<eos>"  # The word that stands for the end of a line.
UNKNOWN = "<unk>"  # The word that stands for words outside the vocabulary.


class DataError(InputError, ValueError):
  """A text that is missing, unreadable, or too short for a batch."""


def read_vocabulary(data_path):
  """Returns the vocabulary of the ptb.train.txt in a folder.

  Raises:
    DataError: if the folder or the text is missing or cannot be used.
  """
  check_folder(data_path)
  words, _ = read_words(os.path.join(data_path, "ptb.train.txt"))
  return vocabulary_of(words)


def vocabulary_of(words):
  """Returns the distinct words of a training text in the order of their ids.

  The most frequent word comes first. Words that are equally frequent are in
  alphabetical order. The text is a list or a Counter of words.
  """
  counts = collections.Counter(words)
  return sorted(counts, key=lambda word: (-counts[word], word))


def check_folder(data_path):
  """Raises DataError if the folder does not exist."""
  what = "the folder with the ptb.*.txt files (scripts/download_ptb.sh makes "
  what += "simple-examples/data)"
  if not data_path:
    raise DataError(f"--data_path is missing: {what}.")
  if not os.path.isdir(data_path):
    raise DataError(f"There is no folder '{data_path}'. Name {what}.")


def read_words(path):
  """Reads the words of a UTF-8 file, with "<eos>" in place of each newline.

  Returns:
    (words, sha256): the list of words, and the checksum of the file.

  Raises:
    DataError: if the file is missing, unreadable, not UTF-8, or has no word.
  """
  try:
    content = read_file(path, math.inf)
  except FileNotFoundError:
    raise DataError(f"{path} is missing. {_advice_for(path)}") from None
  except OSError as error:
    raise DataError(f"{path} cannot be read: {error.strerror}.") from None
  words = decode(content, path).replace("\n", f" {EOS} ").split()
  if not set(words) - {EOS}:
    raise DataError(f"{path} is empty: it must have at least one word.")
  return words, hashlib.sha256(content).hexdigest()


def _advice_for(path):
  """Says what to do about a missing ptb.*.txt."""
  folder, name = os.path.split(path)
  part = name.removeprefix("ptb.").removesuffix(".txt")
  names = sorted(os.listdir(folder))
  ends = f"{part}.txt", f"{part}.tokens"
  if found := [name_ for name_ in names if name_.endswith(ends)]:
    return (
      f"Rename {found[0]} to {name}, if it has a sentence a line and words "
      "between spaces; else prepare it by scripts/prepare_text.py."
    )
  return "scripts/download_ptb.sh fetches all three ptb.*.txt."


def decode(content, name):
  """Decodes UTF-8. Line endings become newlines, byte-order marks go.

  Raises:
    DataError: if the bytes are not UTF-8. It calls the text by its `name`.
  """
  if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
    raise DataError(
      f"{name} is UTF-16 text. Convert it by `iconv -f UTF-16 -t UTF-8 OLD > "
      "NEW`, or choose another."
    )
  try:
    text = content.decode("utf-8")
  except UnicodeDecodeError as error:
    raise DataError(
      f"{name} is not UTF-8 text: byte {content[error.start]:#04x} at offset "
      f"{error.start}. Convert it, or choose another text."
    ) from None
  if "\0" in text:  # UTF-16 text, read as UTF-8, has one for each letter.
    raise DataError(
      f"{name} is not UTF-8 but, by its NUL characters, UTF-16: convert it."
    )
  # Files that were joined can have byte-order marks in the middle.
  return text.replace("\r\n", "\n").replace("\r", "\n").replace("\ufeff", "")
