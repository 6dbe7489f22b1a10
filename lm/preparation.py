"""How a plain text becomes words, so that a later text is treated alike.

scripts/prepare_text.py makes a corpus of any text, and writes its choices to
preparation.json beside it. A run keeps them in its config.json; score.py and
generate.py then prepare what they are given in the same way. A text that is
prepared already, as ptb.test.txt of that corpus, stays as it is.
"""

import dataclasses
import functools
import json
import os
import re
import unicodedata

from lm.command import InputError
from lm.text import EOS

UNKNOWN = "<unk>"  # The word that stands for all that are not in a vocabulary.
FILE_NAME = "preparation.json"
PUNCTUATION = ("split", "drop", "keep")


class PreparationError(InputError, ValueError):
  """A choice that cannot be, or a preparation.json that is damaged."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preparation:
  """The choices.

  Raises:
    PreparationError: for a value of the wrong type or out of range.
  """

  lower_case: bool  # Whether all letters become small ones.
  number_word: str  # Stands for each number, as N in PTB; "": they are kept.
  # Whether a mark becomes a word of its own, goes, or stays where it is.
  punctuation: str  # One of PUNCTUATION.

  def __post_init__(self):
    if not isinstance(self.lower_case, bool):
      raise PreparationError("lower_case must be true or false.")
    word = self.number_word
    if not isinstance(word, str) or word.split() not in ([word], []):
      raise PreparationError(
        f"number_word must be one word, or empty, not {word!r}."
      )
    if word in (EOS, UNKNOWN) or unicodedata.normalize("NFC", word) != word:
      raise PreparationError(
        f"number_word must not be {EOS} or {UNKNOWN}, and in Unicode's normal "
        f"form C, not {word!a}."
      )
    if self.punctuation not in PUNCTUATION:
      raise PreparationError(
        f"punctuation must be one of {', '.join(PUNCTUATION)}, not "
        f"{self.punctuation!r}."
      )

  def words_of(self, line):
    """Returns the words of a line, a list; it is empty for a blank line."""
    line = unicodedata.normalize("NFC", line)
    fixed = {UNKNOWN, EOS, self.number_word}
    words = line.split()
    if self.lower_case:
      words = [w if w in fixed else w.lower() for w in words]
    if self.punctuation != "keep":
      words = [
        piece
        for word in words
        for piece in ([word] if word in fixed else self._pieces(word))
      ]
    if self.number_word:
      words = [self.number_word if _NUMBER.fullmatch(w) else w for w in words]
    return words

  def _pieces(self, word):
    """Returns a word and the marks at it, or the word alone."""
    pieces = _words_and_marks(word)
    if self.punctuation == "split":
      return pieces
    return [piece for piece in pieces if not _is_mark(piece)]


_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)*")


def _is_mark(text):
  """Says whether a text is one punctuation mark or symbol, of any script."""
  return len(text) == 1 and unicodedata.category(text)[0] in "PS"


@functools.lru_cache(1 << 16)  # Most words come again.
def _words_and_marks(word):
  """Returns the words and the marks that a text without spaces consists of.

  A mark within a word, as in "don't", "U.S" or "well-known", and a comma or a
  point in a number, belong to it.
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

  None if it has no preparation.json: then words are what is between spaces.

  Raises:
    PreparationError: if the file cannot be read, or is damaged.
  """
  path = os.path.join(folder, FILE_NAME)
  try:
    with open(path, encoding="utf-8") as f:
      return from_json(dict(json.load(f)["preparation"]))
  except FileNotFoundError:
    return None
  except (OSError, ValueError, KeyError, TypeError):
    raise PreparationError(
      f"{path} is damaged or unreadable. Remove it if the text was not made by "
      "scripts/prepare_text.py; else make the text anew."
    ) from None


def from_json(choices):
  """Returns the Preparation that a dictionary holds; None for None.

  Raises:
    PreparationError: if a choice is missing, not known, or out of range.
  """
  if choices is None:
    return None
  try:
    return Preparation(**choices)
  except TypeError:
    raise PreparationError(f"{choices!r} is no whole preparation.") from None
