"""Prints how likely a text is for a trained model, line by line.

  python score.py --run=runs/small --file=text.txt
  echo "the company said" | python score.py --run=runs/small --per_word

Each line is a sentence of its own: the model starts from a state of zeros,
predicts the first word from <eos>, and predicts <eos> after the last. With
--carry_state the text is one stream, as in training: each word is predicted
from all words before it, and the first word is not predicted.
"""

import dataclasses
import itertools
import json
import math
import sys

from absl import app, flags

import language_model
from lm import command
from lm.text import EOS, UNKNOWN, DataError, decode


@dataclasses.dataclass
class Word:
  """A word of the text and its score."""

  word: str
  id: int | None  # The id that is scored; None if the word is left out.
  unknown: bool
  log_prob: float | None = None  # In nats; None if it was not predicted.
  rank: int | None = None  # 1 for the likeliest word.


def define_flags():
  """Defines the command line's flags."""
  language_model.define_flags()
  boolean = flags.DEFINE_boolean
  help_text = "A UTF-8 text, a sentence a line; - is standard input."
  flags.DEFINE_string("file", "-", help_text)
  boolean("per_word", False, "Also print each word's log-probability and rank.")
  boolean("json", False, "Print JSON: an object for each line and the text.")
  boolean("carry_state", False, "Read the text as one stream, as in training.")


@command.main("score.py")
def main(args):
  """Scores as the flags say; returns the exit status."""
  name = "Standard input" if args.file == "-" else args.file
  score = score_as_stream if args.carry_state else score_each_line
  show = show_json if args.json else show_text
  total, number = (0.0, 0, 0), 0
  with open_text(args.file) as file:
    models = language_model.find(args.run, args.checkpoint, args.data_path)
    with language_model.LanguageModel(models) as model:
      for number, words in enumerate(score(model, blocks_of(file, name)), 1):
        sums = sums_of(words)
        total = [a + b for a, b in zip(total, sums, strict=True)]
        line = score_of({"line": number}, *sums)
        show(line, words if args.per_word else None)
  _, num_words, num_unknown = total
  if num_unknown and not model.knows(UNKNOWN):
    command.tell(
      f"{num_unknown:,} unknown words were left out, as the vocabulary has no "
      f"{UNKNOWN} for them."
    )
  if not num_words:
    raise DataError(f"{name} has nothing to score: no word was predicted.")
  show(score_of({"lines": number}, *total), None)
  return 0


def open_text(path):
  """Opens a text to read its bytes; "-" is standard input."""
  try:
    file = 0 if path == "-" else path
    return open(file, "rb", buffering=1 << 16, closefd=path != "-")
  except OSError as e:
    raise DataError(f"--file={path} cannot be read: {e.strerror}.") from None


def blocks_of(file, name):
  """Yields the lines of a binary file as they arrive, for use in a pipe.

  Yields:
    A list of the lines that have arrived, the last one waited for. Each ends
    with a newline; only the last line of the text may have none.

  Raises:
    DataError: if the file, which it calls by `name`, cannot be read, or if a
      line is not UTF-8; the lines before it were yielded.
  """
  numbers = itertools.count(1)
  try:
    while content := file.read1():
      if not content.endswith(b"\n"):
        content += file.readline()
      lines = []
      try:
        for line in content.splitlines(keepends=True):
          lines.append(decode(line, f"{name}, line {next(numbers)},"))
      except DataError:
        yield lines
        raise
      yield lines
  except OSError as e:
    raise DataError(f"{name} cannot be read: {e.strerror}.") from None


def score_each_line(model, blocks):
  """Scores each line of some blocks as a sentence of its own.

  Yields:
    A list of Word for each line, with <eos> at its end.

  Raises:
    DataError: if the vocabulary has no <eos>.
  """
  if not model.knows(EOS):
    raise DataError(
      f"The model knows no {EOS}, as its training text is one line: it cannot "
      "score lines as sentences. Give --carry_state."
    )
  eos = [model.id_of(EOS)]
  for lines in blocks:
    block = [words_of(model, line.rstrip("\n") + "\n") for line in lines]
    kept = [[w for w in words if w.id is not None] for words in block]
    scores = model.score_lines([eos + [w.id for w in words] for words in kept])
    for words, score in zip(kept, scores, strict=True):
      set_scores(words, *score)
    yield from block


def score_as_stream(model, blocks):
  """Scores a text as one stream; yields the same as `score_each_line`."""
  last, states = [], None  # The last id read, and the states before it.
  for lines in blocks:
    block = [words_of(model, line) for line in lines]
    kept = [w for words in block for w in words if w.id is not None]
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


def set_scores(words, log_probs, ranks):
  """Gives each Word its element of two arrays."""
  for word, log_prob, rank in zip(words, log_probs, ranks, strict=True):
    word.log_prob, word.rank = float(log_prob), int(rank)


def sums_of(words):
  """Returns the log_prob, num_words and num_unknown of a list of Word."""
  log_probs = [word.log_prob for word in words if word.log_prob is not None]
  num_unknown = sum(word.unknown for word in words)
  return math.fsum(log_probs), len(log_probs), num_unknown


def score_of(where, log_prob, num_words, num_unknown):
  """Returns the score of a line, {"line": number}, or of the text."""
  try:
    perplexity = math.exp(-log_prob / num_words)
  except (ZeroDivisionError, OverflowError):
    perplexity = None
  return {
    **where,
    "log_prob": log_prob,
    "perplexity": perplexity,
    "num_words": num_words,
    "num_unknown": num_unknown,
  }


def show_text(score, words):
  """Prints a score, and a list of Word unless it is None, for people."""
  head = f"Line {score['line']}" if "line" in score else "Whole text"
  perplexity = score["perplexity"]
  shown = "-" if perplexity is None else f"{perplexity:.3f}"
  print(
    f"{head}: log-probability {score['log_prob']:.4f}, perplexity {shown}, "
    f"{score['num_words']:,} words, {score['num_unknown']:,} unknown"
  )
  for word in words or ():
    log_prob = "-" if word.log_prob is None else f"{word.log_prob:.4f}"
    rank = "-" if word.rank is None else word.rank
    fate = "left out" if word.id is None else UNKNOWN
    mark = f" ({fate})" if word.unknown else ""
    print(f"{log_prob:>12} {rank:>8}  {word.word}{mark}")
  sys.stdout.flush()


def show_json(score, words):
  """Prints the same as a JSON object."""
  if words is not None:
    names = ("word", "log_prob", "rank", "unknown")
    words = [{name: getattr(w, name) for name in names} for w in words]
    score = {**score, "words": words}
  print(json.dumps(score, ensure_ascii=False), flush=True)


if __name__ == "__main__":
  define_flags()
  app.run(main)
