"""Turns plain text into words, in the same way for training and use.

scripts/prepare_text.py makes a corpus from any text and records its choices in
preparation.json beside the texts. Each run copies them to its config.json, so
that score.py and generate.py can prepare their input in the same way. Text that
is already prepared, such as ptb.test.txt of that corpus, does not change.
"""

import dataclasses
import functools
import os
import re
import unicodedata

import regex

from lm.base.command import InputError
from lm.base.files import read_json
from lm.text.word_ids import EOS, UNKNOWN

FILE_NAME = "preparation.json"
PUNCTUATION = ("split", "drop", "keep")

# The version of the rules by which texts are prepared today. A text that was
# prepared by version 1 keeps its rules.
VERSION = 2
_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)*")
# Markers of this and other tools, such as </s>, <unk>, [MASK] and @-@.
_MARKER = re.compile(r"(</?[^\W\d]\w*>|\[[A-Z]+\]|@[^\w\s@]@)")
# Words that another tool has made: -LRB-, &apos;t, mod@@ and ▁the.
_TOKEN = re.compile(
  r"-[LR][RSC]B-|&(?:apos|quot|amp|lt|gt|bar|#\d+);\S*|[^\s@]+@@|\u2581\S*",
  re.IGNORECASE,
)


class PreparationError(InputError, ValueError):
  """A Preparation with a choice that does not exist."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preparation:
  """How to prepare a text.

  Raises:
    PreparationError: if one of the choices does not exist.
  """

  lower_case: bool  # Whether to turn all letters into lower case.
  number_word: str  # Replaces each number, N in PTB; "" leaves numbers alone.
  # What happens to punctuation marks: "split" makes them words of their own,
  # "drop" removes them, "keep" leaves them at their word.
  punctuation: str
  version: int = 1  # Of the rules, see VERSION.

  def __post_init__(self):
    if self.version not in range(1, VERSION + 1):
      raise PreparationError(
        f"version must be from 1 to {VERSION}: a newer version of this project "
        "made the text."
      )
    if not isinstance(self.lower_case, bool):
      raise PreparationError("lower_case must be true or false.")
    if self.punctuation not in PUNCTUATION:
      raise PreparationError("punctuation must be split, drop or keep.")
    word = self.number_word
    if (
      not isinstance(word, str)
      or word in (EOS, UNKNOWN)
      or word != unicodedata.normalize("NFC", "".join(word.split()))
    ):
      raise PreparationError(
        "number_word must be empty or one word in Unicode's normalization form "
        f"C (NFC), and not {EOS} or {UNKNOWN}; it is {word!a}."
      )

  def split(self, line):
    """Returns the list of the words of a line."""
    words = unicodedata.normalize("NFC", line).split()
    return [piece for word in words for piece in _prepare(self, word)]


@functools.lru_cache(1 << 16)  # Most words occur more than once.
def _prepare(choices, word):
  """Returns the words that a Preparation makes from a text without spaces.

  A mark inside a word stays, as in "don't", "U.S" or "well-known". So does a
  comma or point inside a number. Markers do not change. What readers see as one
  character stays whole, such as a letter with its accents, a flag, or an emoji
  with its color.
  """
  if word == choices.number_word or _MARKER.fullmatch(word):
    return [word]
  parts = list(filter(None, _MARKER.split(word)))
  if choices.punctuation != "keep" and len(parts) > 1:
    return [piece for part in parts for piece in _prepare(choices, part)]
  if choices.lower_case:
    word = word.lower()
  pieces = [word]
  is_token = choices.version > 1 and _TOKEN.fullmatch(word)
  if choices.punctuation != "keep" and not is_token:
    marks = (c for c in set(word) if unicodedata.category(c)[0] in "PS")
    marks = re.escape("".join(marks))
    letter, mark = rf"[^\s{marks}]", rf"[\s{marks}]"
    inside = r"['\u2019.-]|(?<=\d),(?=\d)"
    if choices.version > 1:  # \X is what readers see as one character.
      letter, mark = rf"(?!{mark})\X", rf"(?={mark})\X"
      inside += r"|\u00b7"  # As in paral\u00b7lel.
    pattern = rf"(?:{letter})+(?:(?:{inside})(?:{letter})+)*|{mark}"
    pieces = regex.findall(pattern, word)
    if choices.punctuation == "drop":
      pieces = [piece for piece in pieces if not regex.match(mark, piece)]
  if choices.number_word:
    return [choices.number_word if _NUMBER.fullmatch(p) else p for p in pieces]
  return pieces


def read_preparation(folder):
  """Returns the Preparation of the corpus in a folder, or None.

  Without a Preparation, spaces separate the words.

  Raises:
    DamagedFileError: if preparation.json cannot be read or is damaged.
  """
  path = os.path.join(folder, FILE_NAME)
  if not os.path.lexists(path):
    return None
  advice = (
    "If scripts/prepare_text.py made the text, run it again. If not, delete "
    "the file."
  )
  return read_json(
    path, lambda value: Preparation(**value["preparation"]), advice
  )
