"""Turns raw English into words as the tutorial's Penn Treebank text has them.

A line is a sentence. Contractions and possessives are split, letters are lower
case, N stands for each number and for %, and punctuation is left out. nltk does
the splitting, and is loaded only here. Text that is already in these words
hardly changes.
"""

import re

from lm.base.command import InputError
from lm.text.word_ids import EOS, UNKNOWN

_PLAIN = str.maketrans({
  "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": " -- ",
  "\u2014": " -- ", "\u2026": " ... ", "\u00a0": " ", "\u00a3": "# ",
})  # fmt: skip
# nltk would split these. Letters of Unicode's private use stand for them.
_KEPT = {
  re.compile(r"(?<=\w)&(?=\w)"): ("\ue000", "&"),  # AT&T
  re.compile(r"(?<=[A-Za-z])\$"): ("\ue001 ", "$"),  # US$5
  re.compile(re.escape(UNKNOWN)): ("\ue002", UNKNOWN),
}
_NUMBER = re.compile(r"[+-]?\.?\d+(?:[.,:/-]\d+|\\/\d+)*[.,]?|%")
_ENDINGS = {"'s", "'re", "'ve", "'ll", "'d", "'m", "'em"}


class Tokenizer:
  """Raises InputError if nltk is not installed."""

  def __init__(self):
    try:
      from nltk.tokenize.treebank import TreebankWordTokenizer
    except ImportError as error:
      raise InputError(
        f"--tokenize=ptb needs nltk, which cannot be loaded: {error}. Install "
        "requirements.txt again (scripts/setup_venv.sh does that)."
      ) from None
    self._split = TreebankWordTokenizer().tokenize

  def words_of(self, line):
    """Returns the list of words of a line. <eos> separates sentences."""
    first, *others = map(self._words_of_sentence, line.split(EOS))
    return first + [word for words in others for word in (EOS, *words)]

  def _words_of_sentence(self, sentence):
    sentence = sentence.translate(_PLAIN)
    for pattern, (letter, _) in _KEPT.items():
      sentence = pattern.sub(letter, sentence)
    words = []
    for token in self._split(sentence):
      word = _word_of(token)
      # A possessive follows an s; other single marks are quotation marks.
      if word and (word != "'" or (words and words[-1].endswith("s"))):
        words.append(word)
    return words


def _word_of(token):
  """Returns the word that a token of nltk becomes, "" for punctuation."""
  for letter, kept in _KEPT.values():
    token = token.replace(letter.strip(), kept)
  if token in (UNKNOWN, "N", "$", "#", "&", "'"):
    return token
  if _NUMBER.fullmatch(token):
    return "N"
  word = token.lower()
  if not any(letter.isalnum() for letter in word):
    return ""
  if word[0] == "'" and word not in _ENDINGS and not word[1].isdigit():
    word = word[1:]  # An opening quotation mark, which nltk leaves there.
  word = re.sub(r"(?<!\\)/", r"\\/", word)  # PTB writes mgm\/ua.
  return "u.s." if word == "u.s" else word  # It keeps its point at the end.
