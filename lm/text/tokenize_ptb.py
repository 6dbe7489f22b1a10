"""Splits raw English into words as in the tutorial's Penn Treebank text.

Each line is a sentence. The tokenizer splits contractions and possessives,
turns letters into lower case, replaces each number and each % by N, and removes
punctuation. It uses nltk, which is loaded only here. Text that already has this
form hardly changes.
"""

import re

from lm.base.command import InputError
from lm.text.word_ids import EOS, UNKNOWN

_PLAIN = str.maketrans({
  "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": " -- ",
  "\u2014": " -- ", "\u2026": " ... ", "\u00a0": " ", "\u00a3": "# ",
})  # fmt: skip
# nltk would split these. Characters for private use replace them meanwhile:
# {pattern: (replacement, original)}
_PROTECTED = {
  re.compile(r"(?<=\w)&(?=\w)"): ("\ue000", "&"),  # AT&T
  re.compile(r"(?<=[A-Za-z])\$"): ("\ue001 ", "$"),  # US$5
  re.compile(re.escape(UNKNOWN)): ("\ue002", UNKNOWN),
}
_NUMBER = re.compile(r"[+-]?\.?\d+(?:[.,:/-]\d+|\\/\d+)*[.,]?|%")
_ENDINGS = {"'s", "'re", "'ve", "'ll", "'d", "'m", "'em"}


def define_flag(define):
  """Defines --tokenize, whose only value stands for Tokenizer."""
  define.enum(
    "tokenize",
    None,
    ["ptb"],
    "Turn raw English into the Penn Treebank's words: lower case, do n't for "
    "don't, N for numbers, no punctuation.",
  )


class Tokenizer:
  """Splits lines into words.

  Raises:
    InputError: if nltk is not installed.
  """

  def __init__(self):
    try:
      from nltk.tokenize.treebank import TreebankWordTokenizer
    except ImportError as error:
      raise _missing("--tokenize=ptb", error) from None
    self._tokenize = TreebankWordTokenizer().tokenize

  def split(self, line):
    """Returns the list of the words of a line. <eos> separates sentences."""
    return [word for word, _ in self.split_with_places(line)]

  def split_with_places(self, line):
    """Returns a line's words as pairs (word, place of its field in the line).

    Spaces separate the fields; the first has the place 1.
    """
    words, sentence = [], []
    for place, field in enumerate(line.split(), 1):
      for part in filter(None, re.split(f"({EOS})", field)):
        if part == EOS:
          words += [*self._split_sentence(sentence), (EOS, place)]
          sentence = []
        else:
          sentence.append((_protect(part), place))
    return words + self._split_sentence(sentence)

  def _split_sentence(self, fields):
    """Returns the same for one sentence, given as pairs (field, its place)."""
    letters = "".join("".join(text.split()) for text, _ in fields)
    places = [p for text, p in fields for _ in "".join(text.split())]
    words, begin = [], 0
    for token in self._tokenize(" ".join(text for text, _ in fields)):
      place = places[begin]
      # nltk turns " into two letters. All other tokens keep their length.
      begin += 1 if letters[begin] == '"' else len(token)
      word = _word_of(token)
      # A possessive follows an s; other single marks are quotation marks.
      if word and (word != "'" or (words and words[-1][0].endswith("s"))):
        words.append((word, place))
    return words


def detokenizer():
  """Returns a function that joins words to raw English, without capitals.

  It undoes what Tokenizer does to contractions and possessives.
  """
  try:
    from nltk.tokenize.treebank import TreebankWordDetokenizer
  except ImportError as error:
    raise _missing("--detokenize", error) from None
  join = TreebankWordDetokenizer().detokenize
  return lambda words: join(words).replace("\\/", "/")


def _missing(flag, error):
  """Returns the InputError for an ImportError of nltk."""
  return InputError(
    f"{flag} needs nltk, which cannot be loaded: {error}. Install "
    "requirements.txt again (scripts/setup_venv.sh does that)."
  )


def _protect(text):
  """Returns a text as nltk should see it."""
  text = text.translate(_PLAIN)
  for pattern, (replacement, _) in _PROTECTED.items():
    text = pattern.sub(replacement, text)
  return text


def _word_of(token):
  """Returns the PTB's form of nltk's token; "" for punctuation."""
  for replacement, original in _PROTECTED.values():
    token = token.replace(replacement.strip(), original)
  if token in (UNKNOWN, "N", "$", "#", "&", "'"):
    return token
  if _NUMBER.fullmatch(token):
    return "N"
  word = token.lower()
  if not any(letter.isalnum() for letter in word):
    return ""
  if word[0] == "'" and word not in _ENDINGS and not word[1].isdigit():
    word = word[1:]  # An opening quotation mark that nltk did not split off.
  word = re.sub(r"(?<!\\)/", r"\\/", word)  # PTB writes mgm\/ua.
  # At the end of a sentence, nltk splits off the point.
  return "u.s." if word == "u.s" else word
