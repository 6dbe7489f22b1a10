"""Prints how likely a text is for a trained model, line by line.

  python score.py --run=runs/small --file=text.txt
  echo "the company said" | python score.py --run=runs/small --per_word
  python score.py --run=runs/small --file=n_best.txt --ids --log_base=10 --json

Each line is a sentence of its own: the model starts from a state of zeros,
predicts the first word from <eos>, and predicts <eos> after the last. With
--carry_state=document it does so only where a blank line ends a document: the
other sentences are predicted from those before them. With --carry_state the
text is one stream, as in training: each word is predicted from all words before
it, and the first word is not predicted.
"""

from lm.base import imports

if __name__ == "__main__":
  imports.explain_missing()

import collections
import dataclasses
import functools
import itertools
import json
import math
import sys

from absl import flags

import language_model
from lm.base import command
from lm.base.files import open_text
from lm.text.word_ids import EOS, DataError, decode

LOG = {"e": 1.0, "2": math.log(2), "10": math.log(10)}  # In nats.


@dataclasses.dataclass
class Word:
  """A word of the text and its score."""

  word: str
  id: int | None  # The id that is scored; None if the word is left out.
  unknown: bool
  fate: str  # What an unknown word is read as, or "left out"; else "".
  log_prob: float | None = None  # None if it was not predicted.
  rank: int | None = None  # 1 for the likeliest word.


@dataclasses.dataclass
class Line:
  """A line of the text."""

  text: str  # What is to be scored.
  is_blank: bool
  has_end: bool  # Whether a newline ended it.
  name: str | None  # Its first field, with --ids.
  had_marks: bool  # Whether <s> or </s> stood around the text.
  words: list[Word] | tuple = ()


class CarryStateParser(flags.BooleanParser):
  """Also accepts "document"."""

  def parse(self, argument):
    try:
      return argument if argument == "document" else super().parse(argument)
    except ValueError:
      raise ValueError("value should be true, false or document") from None


def define_flags(define):
  """Defines the command line's flags."""
  language_model.define_flags(define)
  language_model.define_tokenize(define)
  boolean = define.boolean
  help_text = "A UTF-8 text, a sentence a line; - is standard input."
  define.string("file", "-", help_text)
  boolean("per_word", False, "Also print each word's log-probability and rank.")
  boolean("json", False, "Print JSON: an object for each line and the text.")
  boolean("ids", False, "The first field of a line is its name: not scored.")
  define.enum("log_base", "e", [*LOG], "The base of the logarithms.")
  help_text = (
    "Read the text as one stream, as in training; =document: as documents with "
    "blank lines between them."
  )
  parser, name = CarryStateParser(), "carry_state"
  flag = flags.Flag(parser, None, name, False, help_text, boolean=True)
  define.flag(flag)


@command.entry_point("score.py", define_flags)
def main(args):
  """Scores as the flags say; returns the exit status."""
  name = "Standard input" if args.file == "-" else args.file
  documents = args.carry_state == "document"
  stream = functools.partial(score_as_stream, documents=documents)
  score = stream if args.carry_state else score_each_line
  show = show_json if args.json else show_text
  total, number, marked = collections.Counter(), 0, 0
  try:
    file = open_text(args.file)
  except OSError as e:
    where = f"--file={args.file}"
    raise DataError(f"{where} cannot be read: {e.strerror}.") from None
  with file:
    models = language_model.find(
      args.run, args.checkpoint, args.data_path, args.hparams
    )
    with language_model.LanguageModel(models, args.tokenize) as model:
      blocks = blocks_of(file, name)
      blocks = ([line_of(model, x, args.ids) for x in b] for b in blocks)
      for number, line in enumerate(score(model, blocks), 1):
        convert(line.words, args.log_base)
        sums = sums_of(line.words)
        total.update(sums)  # It adds.
        marked += line.had_marks
        where = {"line": number, **({"id": line.name} if args.ids else {})}
        words = line.words if args.per_word else None
        show(score_of(where, sums, args.log_base), words, args.log_base)
  if marked:
    command.tell(
      f"<s> and </s> were taken off {command.counted(marked, 'line')}: {EOS} "
      "stands for both."
    )
  if total["num_left_out"]:
    left_out = command.counted(total["num_left_out"], "unknown word")
    command.tell(
      f"Left out: {left_out}, as the vocabulary has no {model.unknown}. This "
      "makes their lines seem likelier: do not rank lines by it."
    )
  if not total["num_words"]:
    raise DataError(f"{name} has nothing to score: no word was predicted.")
  where = {"lines": number}
  show(score_of(where, total, args.log_base), None, args.log_base)
  return 0


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


def line_of(model, text, has_name):
  """Returns the Line of a line of the file, not yet scored.

  <s> and </s> around it stay if they are words of the vocabulary, or if
  prepare_text.py made the training text: it keeps them, as words or as <unk>.
  """
  fields = text.split()
  is_blank, has_end = not fields, text.endswith("\n")
  name = fields.pop(0) if has_name and fields else None
  size = len(fields)
  if not model.is_prepared:
    if fields[:1] == ["<s>"] and not model.knows("<s>"):
      del fields[0]
    if fields[-1:] == ["</s>"] and not model.knows("</s>"):
      del fields[-1]
  text, had_marks = " ".join(fields), len(fields) < size
  return Line(text, is_blank, has_end, name, had_marks)


def score_each_line(model, blocks):
  """Scores each Line of some blocks as a sentence of its own.

  Yields:
    Each Line with its words, <eos> at their end.

  Raises:
    DataError: if the vocabulary has no <eos>.
  """
  eos = [id_of_eos(model)]
  for lines in blocks:
    for line in lines:
      line.words = words_of(model, line, True)
    kept = list(filter(None, (kept_of([line]) for line in lines)))
    scores = model.score_lines([eos + [w.id for w in words] for words in kept])
    for words, score in zip(kept, scores, strict=True):
      set_scores(words, *score)
    yield from lines


def score_as_stream(model, blocks, documents=False):
  """Scores a text as one stream; yields the same as `score_each_line`.

  With `documents`, a blank line ends a stream, and gets no words. Each stream
  then starts and ends as a line does in `score_each_line`.
  """
  # Without an <eos> before it, the first word is not predicted.
  start = [id_of_eos(model)] if documents else []
  last, states = start, None  # The last id read, and the states before it.
  for lines in blocks:
    groups = itertools.groupby(lines, lambda x: documents and x.is_blank)
    for is_end, group in groups:
      if is_end:
        last, states = start, None
        continue
      group = list(group)
      for line in group:
        line.words = words_of(model, line, documents or line.has_end)
      kept = kept_of(group)
      if kept:
        ids = last + [word.id for word in kept]
        *score, states = model.score_stream(ids, states)
        set_scores(kept if last else kept[1:], *score)
        last = ids[-1:]
    yield from lines


def id_of_eos(model):
  """Returns the id of <eos>; raises DataError if the vocabulary has none."""
  if not model.knows(EOS):
    raise DataError(
      f"The model knows no {EOS}, as its training text is one line: it cannot "
      "score lines as sentences. Give --carry_state."
    )
  return model.id_of(EOS)


def words_of(model, line, has_end):
  """Returns the words of a Line, not yet scored: a list of Word.

  <eos> ends it if it `has_end`. A model of a text that prepare_text.py made
  gets what that would make of the line: nothing of a blank line, and an end of
  each other one. A line with a name is a sentence even without words.
  """
  words, found = model.words_of(line.text), []
  if model.drops_blank_lines:
    has_end = bool(words) or line.name is not None
  for word in words + [EOS] * (has_end and model.knows(EOS)):
    is_known, id_ = model.knows(word), model.id_of(word)
    fate = "" if is_known else "left out" if id_ is None else model.unknown
    found.append(Word(word, id_, not is_known or word == model.unknown, fate))
  return found


def kept_of(lines):
  """Returns the words of some Lines that are not left out."""
  return [w for line in lines for w in line.words if w.id is not None]


def set_scores(words, log_probs, ranks):
  """Gives each Word its element of two arrays; log_probs are in nats."""
  for word, log_prob, rank in zip(words, log_probs, ranks, strict=True):
    word.log_prob, word.rank = float(log_prob), int(rank)


def convert(words, log_base):
  """Converts the log-probabilities of scored words from nats to a base."""
  for word in words:
    if word.log_prob is not None:
      word.log_prob /= LOG[log_base]


def sums_of(words):
  """Returns the sums of a list of Word."""
  scored = [word for word in words if word.log_prob is not None]
  known = [word.log_prob for word in scored if not word.unknown]
  return {
    "log_prob": math.fsum(word.log_prob for word in scored),
    "num_words": len(scored),
    "num_unknown": sum(word.unknown for word in words),
    "num_left_out": sum(word.id is None for word in words),
    "known_log_prob": math.fsum(known),
    "num_known": len(known),
  }


def score_of(where, sums, log_base):
  """Returns the score of a line or of the text, which `where` names."""
  score = {**where}
  for name, value in sums.items():
    score[name] = value
    if name.endswith("log_prob"):
      num_words = sums["num_words" if name == "log_prob" else "num_known"]
      try:
        perplexity = math.exp(-value * LOG[log_base] / num_words)
      except (ZeroDivisionError, OverflowError):
        perplexity = None
      score[name.replace("log_prob", "perplexity")] = perplexity
  return score


def show_text(score, words, log_base):
  """Prints a score, and a list of Word unless it is None, for people."""
  head = f"Line {score['line']}" if "line" in score else "Whole text"
  name = f", {score['id']}" if score.get("id") else ""
  counts = command.counted(score["num_words"], "word")
  counts += f", {score['num_unknown']:,} unknown"
  if score["num_left_out"]:
    counts += f", {score['num_left_out']:,} left out"
  if score["num_known"] < score["num_words"]:
    counts += f", without them {likelihood(score, 'known_', log_base)}"
  print(f"{head}{name}: {likelihood(score, '', log_base)}, {counts}")
  for word in words or ():
    log_prob = "-" if word.log_prob is None else f"{word.log_prob:.4f}"
    rank = "-" if word.rank is None else word.rank
    mark = f" ({word.fate})" if word.fate else ""
    print(f"{log_prob:>12} {rank:>8}  {word.word}{mark}")
  sys.stdout.flush()


def likelihood(score, which, log_base):
  """Returns how likely all words are, or with "known_" the known ones."""
  perplexity = score[f"{which}perplexity"]
  shown = "-" if perplexity is None else f"{perplexity:.3f}"
  base, log_prob = log_base.strip("e"), score[f"{which}log_prob"]
  return f"log{base}-probability {log_prob:.4f}, perplexity {shown}"


def show_json(score, words, log_base):
  """Prints the same as a JSON object."""
  if words is not None:
    names = ("word", "log_prob", "rank", "unknown")
    score["words"] = [{n: getattr(word, n) for n in names} for word in words]
  print(json.dumps(score, ensure_ascii=False), flush=True)


if __name__ == "__main__":
  sys.exit(main())
