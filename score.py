"""Prints how likely a text is for a trained model, line by line.

  python score.py --run=runs/small --file=text.txt
  echo "the company said" | python score.py --run=runs/small --per_word

Each line is a sentence of its own: it starts from a state of zeros, its first
word is predicted from <eos>, and <eos> is predicted at its end. With
--carry_state the text is one stream, as in training: each word is predicted
from all before it, and the first, which has none before it, is not.
"""

import contextlib
import dataclasses
import itertools
import json
import math
import sys

from absl import app, flags

import language_model
import reader
from lm import command
from lm.command import InputError
from lm.preparation import UNKNOWN


class TextError(InputError, ValueError):
  """A text that cannot be read, or not scored."""


@dataclasses.dataclass(frozen=True)
class Word:
  """A word of the text, and how likely it was."""

  word: str
  id: int | None  # As what it is scored; None if it is left out.
  is_unknown: bool
  log_prob: float | None = None  # In nats; None if it was not predicted.
  rank: int | None = None  # 1: no other word was likelier.


@dataclasses.dataclass(frozen=True)
class Score:
  """What the words of a line, or of a text, add up to."""

  log_prob: float = 0.0  # In nats.
  num_words: int = 0  # Those that were predicted, each <eos> too.
  num_unknown: int = 0

  @classmethod
  def of(cls, words):
    """Returns the Score of a list of Word."""
    log_probs = [w.log_prob for w in words if w.log_prob is not None]
    num_unknown = sum(word.is_unknown for word in words)
    return cls(math.fsum(log_probs), len(log_probs), num_unknown)

  def __add__(self, other):
    return Score(
      self.log_prob + other.log_prob,
      self.num_words + other.num_words,
      self.num_unknown + other.num_unknown,
    )

  @property
  def perplexity(self):
    """The exp of the mean of -log_prob; None if there is none, or no float."""
    try:
      return math.exp(-self.log_prob / self.num_words)
    except (ZeroDivisionError, OverflowError):
      return None


def define_flags():
  """Defines the command line's flags."""
  language_model.define_flags()
  flags.adopt_module_key_flags(language_model)  # So that --help lists them.
  flags.DEFINE_string(
    "file", "-", "The text, UTF-8, a sentence a line. -: standard input."
  )
  flags.DEFINE_boolean(
    "per_word", False, "Print each word's log-probability and rank, too."
  )
  flags.DEFINE_boolean(
    "json", False, "Print a JSON object for each line, and one for the whole."
  )
  flags.DEFINE_boolean(
    "carry_state",
    False,
    "Read the text as one stream, as training does, not line by line.",
  )


def main(argv):
  """Scores as the flags say; returns the exit status."""
  return command.run("score.py", argv, lambda: _main(flags.FLAGS))


def _main(args):
  """Prints the scores; returns the exit status."""
  name = "Standard input" if args.file == "-" else args.file
  with open_text(args.file) as file:
    trained = language_model.find(args.run, args.checkpoint, args.data_path)
    with language_model.LanguageModel(trained) as model:
      score = score_as_stream if args.carry_state else score_each_line
      show = show_json if args.json else show_text
      total, number = Score(), 0
      for number, words in enumerate(score(model, blocks_of(file, name)), 1):
        total += (line := Score.of(words))
        show({"line": number}, line, words if args.per_word else None)
  if total.num_unknown and not model.knows(UNKNOWN):
    command.tell(
      f"{total.num_unknown:,} unknown words were left out, as the vocabulary "
      f"has no {UNKNOWN} for them."
    )
  if not total.num_words:
    raise TextError(f"{name} has nothing to score: no word was predicted.")
  show({"lines": number}, total, None)
  return 0


def open_text(path):
  """Opens a text to read its bytes; "-" is standard input.

  Raises:
    TextError: if it cannot be opened.
  """
  if path == "-":
    return contextlib.nullcontext(sys.stdin.buffer)
  try:
    return open(path, "rb")
  except (OSError, ValueError) as error:  # ValueError: a NUL in its name.
    reason = getattr(error, "strerror", None) or error
    raise TextError(f"--file={path} cannot be read: {reason}.") from None


def blocks_of(file, name):
  """Yields the lines of a text as they come, so that a pipe is answered.

  Args:
    file: a binary file.
    name: what to call it in an error.

  Yields:
    A list of lines: all that are there. A line ends with a newline, but the
    last of a text may have none.

  Raises:
    TextError: if it cannot be read.
    reader.DataError: if a line is not UTF-8.
  """
  numbers, rest, content = itertools.count(1), [], None
  while content != b"":
    try:
      content = file.read1(1 << 16)
    except OSError as error:
      raise TextError(f"{name} cannot be read: {error.strerror}.") from None
    whole, newline, after = content.rpartition(b"\n")
    if content and not newline:
      rest.append(content)
      continue
    block, rest = b"".join([*rest, whole, newline]), [after]
    lines = []
    for line in block.splitlines(keepends=True):
      try:
        lines.append(reader.decode(line, f"{name}, line {next(numbers)},"))
      except reader.DataError:
        if lines:  # What stands before it is scored.
          yield lines
        raise
    if any(lines):  # Else there was a byte-order mark at most.
      yield lines


def score_each_line(model, blocks):
  """Scores each line as a sentence of its own.

  Args:
    model: a LanguageModel.
    blocks: lists of lines.

  Yields:
    The words of each line, with <eos> at its end: a list of Word.

  Raises:
    TextError: if the vocabulary has no <eos>.
  """
  if not model.knows(reader.EOS):
    raise TextError(
      f"The model knows no {reader.EOS}, as its training text is one line: it "
      "cannot score lines as sentences. Give --carry_state."
    )
  eos = model.id_of(reader.EOS)
  for lines in blocks:
    block = [words_of(model, line.rstrip("\n") + "\n") for line in lines]
    scores = model.score_lines([[eos, *ids_of(words)] for words in block])
    for words, score in zip(block, scores, strict=True):
      yield with_scores(words, pairs(*score))


def score_as_stream(model, blocks):
  """Scores a text as one stream; yields what `score_each_line` does."""
  before, states = [], None
  for lines in blocks:
    block = [words_of(model, line) for line in lines]
    ids = before + [i for words in block for i in ids_of(words)]
    scores = iter([])
    if ids:
      *score, states = model.score_stream(ids, states)
      scores = pairs(*score)
      if not before:  # Nothing comes before the text's first word.
        scores = itertools.chain([(None, None)], scores)
      before = ids[-1:]
    for words in block:
      yield with_scores(words, scores)


def words_of(model, line):
  """Returns a line's words, not yet scored: a list of Word."""
  words = model.words_of(line)
  if line.endswith("\n") and model.knows(reader.EOS):
    words.append(reader.EOS)
  return [Word(w, model.id_of(w), not model.knows(w)) for w in words]


def ids_of(words):
  """Returns the ids of those that are not left out."""
  return [word.id for word in words if word.id is not None]


def pairs(log_probs, ranks):
  """Returns an iterator of (log_prob, rank) of an array each."""
  return zip(log_probs.tolist(), ranks.tolist(), strict=True)


def with_scores(words, scores):
  """Returns the words; those that have an id with the next (log_prob, rank)."""
  found = []
  for word in words:
    if word.id is not None:
      log_prob, rank = next(scores)
      word = dataclasses.replace(word, log_prob=log_prob, rank=rank)
    found.append(word)
  return found


def show_text(where, score, words):
  """Prints the score of a line, or of the text, to be read."""
  perplexity = "-" if score.perplexity is None else f"{score.perplexity:.3f}"
  head = f"Line {where['line']}" if "line" in where else "Whole text"
  print(
    f"{head}: log-probability {score.log_prob:.4f}, perplexity {perplexity}, "
    f"{score.num_words:,} words, {score.num_unknown:,} unknown"
  )
  for word in words or ():
    log_prob = "-" if word.log_prob is None else f"{word.log_prob:.4f}"
    rank = "-" if word.rank is None else word.rank
    mark = ""
    if word.is_unknown:
      mark = " (left out)" if word.id is None else f" ({UNKNOWN})"
    print(f"{log_prob:>12} {rank:>8}  {word.word}{mark}")
  sys.stdout.flush()


def show_json(where, score, words):
  """Prints the same as a JSON object."""
  shown = {
    **where,
    "log_prob": score.log_prob,
    "perplexity": score.perplexity,
    "num_words": score.num_words,
    "num_unknown": score.num_unknown,
  }
  if words is not None:
    shown["words"] = [
      {
        "word": word.word,
        "log_prob": word.log_prob,
        "rank": word.rank,
        "unknown": word.is_unknown,
      }
      for word in words
    ]
  print(json.dumps(shown, ensure_ascii=False), flush=True)


if __name__ == "__main__":
  define_flags()
  app.run(main)
