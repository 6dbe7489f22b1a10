"""Turns plain text into words, in the same way for training and use.

scripts/prepare_text.py makes a corpus of any text and records its choices in
preparation.json beside it. Each run copies them to its config.json, so that
score.py and generate.py can prepare their input in the same way. Text that is
already prepared, such as ptb.test.txt of that corpus, does not change.
"""

import dataclasses
import functools
import json
import os
import re
import unicodedata

from lm.command import InputError
from lm.text import EOS, UNKNOWN

FILE_NAME = "preparation.json"
PUNCTUATION = ("split", "drop", "keep")

_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)*")


class PreparationError(InputError, ValueError):
  """A choice that is not possible, or a preparation.json that is damaged."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preparation:
  """The choices.

  Raises:
    PreparationError: If a value has the wrong type or is out of range.
  """

  lower_case: bool  # Whether to turn all letters into lower case.
  number_word: str  # The word that replaces numbers, N in PTB; "": none does.
  punctuation: str  # "split": marks become words; "drop": they go; "keep".

  def __post_init__(self):
    word = self.number_word
    if not isinstance(self.lower_case, bool):
      raise PreparationError("lower_case must be true or false.")
    if not isinstance(word, str) or word.split() not in ([word], []):
      raise PreparationError(
        f"number_word must be one word, or empty, not {word!r}."
      )
    if word in (EOS, UNKNOWN) or unicodedata.normalize("NFC", word) != word:
      raise PreparationError(
        f"number_word must not be {EOS} or {UNKNOWN}, and must be in Unicode's "
        f"normal form C, not {word!a}."
      )
    if self.punctuation not in PUNCTUATION:
      raise PreparationError(
        f"punctuation must be one of {', '.join(PUNCTUATION)}, not "
        f"{self.punctuation!r}."
      )

  def words_of(self, line):
    """Returns the list of words of a line, which is empty for a blank line."""
    fixed = {UNKNOWN, EOS, self.number_word}
    words = unicodedata.normalize("NFC", line).split()
    if self.lower_case:
      words = [w if w in fixed else w.lower() for w in words]
    if self.punctuation != "keep":
      words = [
        piece
        for word in words
        for piece in ([word] if word in fixed else _words_and_marks(word))
        if self.punctuation == "split" or word in fixed or not _is_mark(piece)
      ]
    if self.number_word:
      words = [self.number_word if _NUMBER.fullmatch(w) else w for w in words]
    return words


def _is_mark(text):
  """Says whether a text is a single punctuation mark or symbol."""
  return len(text) == 1 and unicodedata.category(text)[0] in "PS"


@functools.lru_cache(1 << 16)  # Most words occur more than once.
def _words_and_marks(word):
  """Splits a text without spaces into words and marks.

  A mark inside a word stays, as in "don't", "U.S" or "well-known". So does a
  comma or point inside a number.
  """
  marks = re.escape("".join(filter(_is_mark, set(word))))
  if not marks:
    return (word,)
  letters = rf"[^{marks}]+"
  return tuple(
    re.findall(
      rf"{letters}(?:(?:['\u2019.-]|(?<=\d),(?=\d)){letters})*|[{marks}]", word
    )
  )


def read(folder):
  """Returns the Preparation of the corpus in a folder.

  None if the folder has no preparation.json. Words are then whatever stands
  between spaces.

  Raises:
    PreparationError: If the file cannot be read or is damaged.
  """
  path = os.path.join(folder, FILE_NAME)
  try:
    with open(path, encoding="utf-8") as f:
      return Preparation(**json.load(f)["preparation"])
  except FileNotFoundError:
    return None
  except (OSError, ValueError, KeyError, TypeError):
    raise PreparationError(
      f"{path} is damaged or unreadable. If scripts/prepare_text.py made the "
      "text, run it again, else remove the file."
    ) from None


def from_json(choices):
  """Returns the Preparation that a dictionary holds, or None for None.

  Raises:
    PreparationError: If a choice is missing, unknown, or out of range.
  """
  try:
    return None if choices is None else Preparation(**choices)
  except TypeError:
    raise PreparationError(f"{choices!r} is not a preparation.") from None
