"""Prints how likely a text is for a trained model, line by line.

  python score.py --run=runs/small --file=text.txt
  echo "the company said" | python score.py --run=runs/small --per_word

Each line is a sentence of its own: the model starts from a state of zeros,
predicts the first word from <eos>, and predicts <eos> after the last. With
--carry_state the text is one stream, as in training: each word is predicted
from all words before it, and the first word is not predicted.
"""

import contextlib
import dataclasses
import json
import math
import sys

from absl import app, flags

import language_model
from lm import command
from lm.command import InputError
from lm.text import EOS, UNKNOWN, DataError, decode


class TextError(InputError, ValueError):
  """A text that cannot be read or scored."""


@dataclasses.dataclass
class Word:
  """A word of the text and its score."""

  word: str
  id: int | None  # The id that is scored; None if the word is left out.
  unknown: bool
  log_prob: float | None = None  # In nats; None if it was not predicted.
  rank: int | None = None  # 1 for the likeliest word.


@dataclasses.dataclass(frozen=True)
class Score:
  """The score of a line or of a text."""

  log_prob: float = 0.0  # In nats.
  num_words: int = 0  # The words that were predicted, each <eos> included.
  num_unknown: int = 0

  @classmethod
  def of(cls, words):
    """Returns the Score of a list of Word."""
    log_probs = [w.log_prob for w in words if w.log_prob is not None]
    num_unknown = sum(word.unknown for word in words)
    return cls(math.fsum(log_probs), len(log_probs), num_unknown)

  def __add__(self, other):
    return Score(
      self.log_prob + other.log_prob,
      self.num_words + other.num_words,
      self.num_unknown + other.num_unknown,
    )

  @property
  def perplexity(self):
    """The perplexity; None without words, or if it is too large for a float."""
    try:
      return math.exp(-self.log_prob / self.num_words)
    except (ZeroDivisionError, OverflowError):
      return None


def define_flags():
  """Defines the command line's flags."""
  language_model.define_flags()
  flags.adopt_module_key_flags(language_model)  # So that --help lists them.
  flags.DEFINE_string(
    "file", "-", "The text, UTF-8, one sentence per line; - for standard input."
  )
  flags.DEFINE_boolean(
    "per_word", False, "Also print the log-probability and rank of each word."
  )
  flags.DEFINE_boolean(
    "json", False, "Print a JSON object for each line, and one for the text."
  )
  flags.DEFINE_boolean(
    "carry_state",
    False,
    "Read the text as one stream, as in training, not line by line.",
  )


def main(argv):
  """Scores as the flags say; returns the exit status."""
  return command.run("score.py", argv, lambda: _main(flags.FLAGS))


def _main(args):
  """Prints the scores; returns the exit status."""
  name = "Standard input" if args.file == "-" else args.file
  score = score_as_stream if args.carry_state else score_each_line
  show = show_json if args.json else show_text
  total, number = Score(), 0
  with open_text(args.file) as file:
    models = language_model.find(args.run, args.checkpoint, args.data_path)
    with language_model.LanguageModel(models) as model:
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
  """Opens a text to read its bytes; "-" is standard input."""
  if path == "-":
    return contextlib.nullcontext(sys.stdin.buffer)
  try:
    return open(path, "rb")
  except OSError as error:
    raise TextError(
      f"--file={path} cannot be read: {error.strerror}."
    ) from None


def blocks_of(file, name):
  """Yields the lines of a text as soon as they are there, for use in a pipe.

  Args:
    file: a binary file.
    name: its name, for errors.

  Yields:
    A list of all lines that have arrived. Each line ends with a newline; only
    the last line of the text may have none.

  Raises:
    TextError: if the file cannot be read.
    DataError: if a line is not UTF-8; the lines before it were yielded.
  """
  number, rest = 0, bytearray()
  content = None
  while content != b"":
    try:
      content = file.read1(1 << 16)
    except OSError as error:
      raise TextError(f"{name} cannot be read: {error.strerror}.") from None
    rest += content
    end = rest.rfind(b"\n") + 1 if content else len(rest)
    block, rest = rest[:end], rest[end:]
    lines = []
    for line in block.splitlines(keepends=True):
      number += 1
      try:
        lines.append(decode(line, f"{name}, line {number},"))
      except DataError:
        if lines:
          yield lines
        raise
    if lines:
      yield lines


def score_each_line(model, blocks):
  """Scores each line of some blocks as a sentence of its own.

  Yields:
    A list of Word for each line, with <eos> at its end.

  Raises:
    TextError: if the vocabulary has no <eos>.
  """
  if not model.knows(EOS):
    raise TextError(
      f"The model knows no {EOS}, as its training text is one line: it cannot "
      "score lines as sentences. Give --carry_state."
    )
  for lines in blocks:
    block = [words_of(model, line.rstrip("\n") + "\n") for line in lines]
    kept = [with_id(words) for words in block]
    scores = model.score_lines(
      [[model.id_of(EOS), *(word.id for word in words)] for words in kept]
    )
    for words, score in zip(kept, scores, strict=True):
      set_scores(words, *score)
    yield from block


def score_as_stream(model, blocks):
  """Scores a text as one stream; yields the same as `score_each_line`."""
  last, states = [], None  # The last id read, and the states before it.
  for lines in blocks:
    block = [words_of(model, line) for line in lines]
    kept = with_id(word for words in block for word in words)
    if kept:
      ids = last + [word.id for word in kept]
      *score, states = model.score_stream(ids, states)
      # Nothing precedes the first word of the text, so it is not predicted.
      set_scores(kept if last else kept[1:], *score)
      last = ids[-1:]
    yield from block


def words_of(model, line):
  """Returns the words of a line, not yet scored: a list of Word."""
  words = model.words_of(line)
  if line.endswith("\n") and model.knows(EOS):
    words.append(EOS)
  return [Word(w, model.id_of(w), not model.knows(w)) for w in words]


def with_id(words):
  """Returns a list of the words that are not left out."""
  return [word for word in words if word.id is not None]


def set_scores(words, log_probs, ranks):
  """Gives each Word its element of two arrays."""
  scores = zip(log_probs.tolist(), ranks.tolist(), strict=True)
  for word, score in zip(words, scores, strict=True):
    word.log_prob, word.rank = score


def show_text(where, score, words):
  """Prints a Score, and a list of Word unless it is None, for people.

  `where` is {"line": number}, or for the complete text {"lines": their number}.
  """
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
    if word.unknown:
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
    names = ("word", "log_prob", "rank", "unknown")
    shown["words"] = [{n: getattr(word, n) for n in names} for word in words]
  print(json.dumps(shown, ensure_ascii=False), flush=True)


if __name__ == "__main__":
  define_flags()
  app.run(main)
