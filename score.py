"""Prints how likely a text is for a trained model, line by line.

  python score.py --run=runs/small --file=text.txt
  echo "the company said" | python score.py --run=runs/small --per_word
  python score.py --run=runs/small --file=n_best.txt --ids --log_base=10 --json

Each line is a sentence of its own: the model starts from a state of zeros,
predicts the first word from <eos>, and predicts <eos> after the last word. With
--carry_state=document, the state returns to zeros only where a blank line ends
a document: the model predicts a sentence from the sentences before it. With
--carry_state, the text is one stream, as in training: the model predicts each
word from all words before it, but not the first word. With --adapt, the model
keeps learning while it reads (dynamic evaluation, arXiv:1709.07432).
"""

from lm.base import imports

if __name__ == "__main__":
  imports.report_failures()

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
from lm.text import tokenize_ptb
from lm.text.word_ids import EOS, DataError, decode

# The natural logarithm of each base of logarithms.
LOG = {"e": 1.0, "2": math.log(2), "10": math.log(10)}


@dataclasses.dataclass
class Word:
  """A word of the text and its score."""

  word: str
  place: int | None  # Of its field in the line, from 1; None for <eos>.
  id: int | None  # The id that is scored; None if the word is left out.
  unknown: bool
  fate: str  # What an unknown word is read as, or "left out"; else "".
  log_prob: float | None = None  # None if the word is not predicted.
  rank: int | None = None  # 1 for the likeliest word.


@dataclasses.dataclass
class Line:
  """A line of the text."""

  name: str | None  # Its first field, with --ids.
  is_blank: bool
  had_marks: bool  # Whether <s> or </s> was removed.
  words: list[Word]  # With <eos>, if that ends the line.

  def kept_words(self):
    """Returns the words that are not left out."""
    return [word for word in self.words if word.id is not None]


class CarryStateParser(flags.BooleanParser):
  """Parses a boolean or "document"."""

  def parse(self, argument):
    try:
      return argument if argument == "document" else super().parse(argument)
    except ValueError:
      raise ValueError("value should be true, false or document") from None


def define_flags(define):
  """Defines the command line's flags."""
  language_model.define_flags(define)
  tokenize_ptb.define_flag(define)
  language_model.define_adapt(define)
  boolean = define.boolean
  help_text = "A UTF-8 text with one sentence per line; - is standard input."
  define.path("file", "-", help_text)
  boolean("per_word", False, "Also print each word's log-probability and rank.")
  help_text = "Print a JSON object for each line and one for the whole text."
  boolean("json", False, help_text)
  help_text = "Read the first field of a line as its name, and do not score it."
  boolean("ids", False, help_text)
  define.enum("log_base", "e", [*LOG], "The base of the logarithms.")
  help_text = (
    "Read the text as one stream, as in training. With --carry_state=document, "
    "blank lines separate documents, and each document is a stream."
  )
  parser, name = CarryStateParser(), "carry_state"
  flag = flags.Flag(parser, None, name, False, help_text, boolean=True)
  define.flag(flag)


@command.entry_point("score.py", define_flags)
def main(args):
  """Scores as the flags say; returns the exit status."""
  show = show_json
  if not args.json:
    show = functools.partial(show_text, log_base=args.log_base)
  if args.adapt is None:
    command.refuse(args, ["adapt_steps"], "without --adapt")
  elif not args.carry_state:
    raise command.FlagError(
      "--adapt needs --carry_state or --carry_state=document."
    )
  total, num_lines, num_marked = collections.Counter(), 0, 0
  with open_text(args.file) as file:
    models = language_model.find(
      args.run, args.checkpoint, args.data_path, args.hparams, args.weights
    )
    options = args.tokenize, args.adapt, args.adapt_steps
    with language_model.LanguageModel(models, *options) as model:
      blocks = (
        [read_line(model, text, args.carry_state, args.ids) for text in block]
        for block in read_blocks(file, name_of(args.file))
      )
      if args.adapt:
        blocks = documents(blocks, args.carry_state)
      for line in score(model, blocks, args.carry_state):
        convert_logs(line.words, args.log_base)
        sums = add_up(line.words)
        for name, value in sums.items():
          total[name] += value
        num_lines += 1
        num_marked += line.had_marks
        place = {"line": num_lines}
        if args.ids:
          place["id"] = line.name
        words = line.words if args.per_word else None
        show(place | with_perplexities(sums, args.log_base), words)
  if num_marked:
    command.tell(
      f"<s> and </s> were removed from {command.counted(num_marked, 'line')}: "
      f"{EOS} stands for both."
    )
  if total["num_left_out"]:
    left_out = command.counted(total["num_left_out"], "unknown word")
    command.tell(
      f"Left out {left_out}, because the vocabulary has no {model.unknown}. "
      "Their lines seem likelier than they are: do not rank lines by scores."
    )
  if not total["num_words"]:
    raise DataError(
      f"{name_of(args.file)} has nothing to score: no word was predicted."
    )
  scores = with_perplexities(total, args.log_base)
  if args.adapt and scores["perplexity"] is None:
    raise command.InputError(
      "The perplexity is too large for a floating-point number. Choose a "
      "smaller --adapt."
    )
  show({"lines": num_lines} | scores)
  return 0


def name_of(path):
  """Returns what messages call a file."""
  return "Standard input" if path == "-" else path


def read_blocks(file, name):
  """Yields the lines of a binary file as they arrive, for use in a pipe.

  Yields:
    A list of the lines that have arrived, after waiting for the end of the last
    one. Each ends with a newline; only the last line of the text may have none.

  Raises:
    DataError: if a line is not UTF-8. The message calls the file by its name.
  """
  numbers = itertools.count(1)
  while content := file.read1():
    if not content.endswith(b"\n"):
      content += file.readline()
    yield [
      decode(line, f"{name}, line {next(numbers)},")
      for line in content.splitlines(keepends=True)
    ]


def documents(blocks, carry_state):
  """Yields the lines of the whole text, or of each document, as a list.

  `blocks` are lists of Line. A model that adapts needs this: its steps must not
  depend on which lines have arrived together.
  """
  lines = []
  for line in itertools.chain.from_iterable(blocks):
    lines.append(line)
    if carry_state == "document" and line.is_blank:
      yield lines
      lines = []
  yield lines


def read_line(model, text, carry_state=False, has_name=False):
  """Returns the Line of a line of the file, not yet scored.

  <s> and </s> around the line stay if they are words of the vocabulary, or if
  prepare_text.py made the training text: it keeps them, as words or as <unk>.

  Args:
    model: a LanguageModel.
    text: the line with its newline, which the last line may lack.
    carry_state: the value of --carry_state, which decides whether <eos> ends
      the line.
    has_name: whether the first field is the line's name.
  """
  fields = text.split()
  is_blank = not fields
  name = fields.pop(0) if has_name and fields else None
  had_marks = False
  if not model.is_prepared:
    if fields[:1] == ["<s>"] and not model.knows("<s>"):
      del fields[0]
      had_marks = True
    if fields[-1:] == ["</s>"] and not model.knows("</s>"):
      del fields[-1]
      had_marks = True
  words = model.words_and_places(" ".join(fields))
  if model.drops_blank_lines:
    # A line with a word is a sentence, and so is a line with a name alone.
    has_end = bool(words) or name is not None
  elif carry_state == "document":
    has_end = not is_blank
  else:
    has_end = text.endswith("\n") or not carry_state
  if has_end and model.eos is not None:
    words = [*words, (EOS, None)]
  words = [look_up(model, word, place) for word, place in words]
  return Line(name, is_blank, had_marks, words)


def look_up(model, word, place):
  """Returns the Word for a word of a line, not yet scored."""
  id_ = model.id_of(word)
  if model.knows(word):
    return Word(word, place, id_, unknown=word == model.unknown, fate="")
  fate = "left out" if id_ is None else model.unknown
  return Word(word, place, id_, unknown=True, fate=fate)


def score(model, blocks, carry_state=False):
  """Scores the words of some lines, as --carry_state says.

  Args:
    model: a LanguageModel.
    blocks: an iterable of lists of Line; a list is scored at a time.
    carry_state: the value of the flag.

  Yields:
    Each Line.

  Raises:
    DataError: if sentences are to be scored and the vocabulary has no <eos>.
  """
  if carry_state is not True and model.eos is None:
    raise DataError(
      f"The vocabulary has no {EOS}, because the training text is one line, so "
      "the model cannot score lines as sentences. Use --carry_state."
    )
  # Without an <eos> before it, the first word of a stream is not predicted.
  start = [] if carry_state is True else [model.eos]
  stream = Stream(model, start)
  for lines in blocks:
    if carry_state:
      groups = itertools.groupby(
        lines, lambda line: carry_state == "document" and line.is_blank
      )
      for ends_document, group in groups:
        if ends_document:
          stream = Stream(model, start)
        else:
          stream.score([w for line in group for w in line.kept_words()])
    else:
      score_sentences(model, [line.kept_words() for line in lines])
    yield from lines


def score_sentences(model, sentences):
  """Scores lists of Word, each as a sentence that follows an <eos>."""
  sentences = [words for words in sentences if words]
  scores = model.score_lines(
    [[model.eos, *(word.id for word in words)] for words in sentences]
  )
  for words, (log_probs, ranks) in zip(sentences, scores, strict=True):
    set_scores(words, log_probs, ranks)


class Stream:
  """A text in which the model predicts each word from all words before it."""

  def __init__(self, model, start):
    """`start` is a list with the id before the first word, or empty."""
    self._model, self._last = model, start
    self._states = None  # The states before the last id.

  def score(self, words):
    """Scores the next words of the text, a list of Word."""
    ids = self._last + [word.id for word in words]
    if not ids:
      return
    log_probs, ranks, self._states = self._model.score_stream(ids, self._states)
    set_scores(words[len(words) - len(ranks) :], log_probs, ranks)
    self._last = ids[-1:]


def set_scores(words, log_probs, ranks):
  """Gives each Word its element of two arrays; log_probs are in nats."""
  for word, log_prob, rank in zip(words, log_probs, ranks, strict=True):
    word.log_prob, word.rank = float(log_prob), int(rank)


def convert_logs(words, log_base):
  """Converts the log-probabilities of scored words from nats to a base."""
  for word in words:
    if word.log_prob is not None:
      word.log_prob /= LOG[log_base]


def add_up(words):
  """Returns the sums of the scores of a list of Word, by their JSON names."""
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


def with_perplexities(sums, log_base):
  """Returns the sums of `add_up`, with perplexities, in the order of JSON."""

  def perplexity(log_prob, num_words):
    try:
      return math.exp(-log_prob * LOG[log_base] / num_words)
    except (ZeroDivisionError, OverflowError):
      return None

  return {
    "log_prob": sums["log_prob"],
    "perplexity": perplexity(sums["log_prob"], sums["num_words"]),
    "num_words": sums["num_words"],
    "num_unknown": sums["num_unknown"],
    "num_left_out": sums["num_left_out"],
    "known_log_prob": sums["known_log_prob"],
    "known_perplexity": perplexity(sums["known_log_prob"], sums["num_known"]),
    "num_known": sums["num_known"],
  }


def show_text(scores, words=None, *, log_base):
  """Prints the scores of a line or of the text, for people.

  Args:
    scores: the dictionary that --json prints: "line" and perhaps "id", or
      "lines"; and what `with_perplexities` returns.
    words: the line's words, a list of Word, to print; None for no words.
    log_base: the base of the logarithms.
  """
  base = "" if log_base == "e" else log_base

  def likelihood(prefix):
    log_prob = scores[f"{prefix}log_prob"]
    perplexity = scores[f"{prefix}perplexity"]
    shown = "-" if perplexity is None else f"{perplexity:.3f}"
    return f"log{base}-probability {log_prob:.4f}, perplexity {shown}"

  heading = f"Line {scores['line']}" if "line" in scores else "Whole text"
  if scores.get("id"):
    heading += f", {scores['id']}"
  counts = command.counted(scores["num_words"], "word")
  counts += f", {scores['num_unknown']:,} unknown"
  if scores["num_left_out"]:
    counts += f", {scores['num_left_out']:,} left out"
  if scores["num_known"] < scores["num_words"]:
    counts += f", without them {likelihood('known_')}"
  print(f"{heading}: {likelihood('')}, {counts}")
  for word in words or ():
    log_prob = "-" if word.log_prob is None else f"{word.log_prob:.4f}"
    rank = "-" if word.rank is None else word.rank
    mark = f" ({word.fate})" if word.fate else ""
    print(f"{log_prob:>12} {rank:>8}  {word.word}{mark}")
  sys.stdout.flush()


def show_json(scores, words=None):
  """Prints the same as a JSON object; the arguments are those of show_text."""
  if words is not None:
    names = ("word", "place", "log_prob", "rank", "unknown")
    scores["words"] = [{n: getattr(word, n) for n in names} for word in words]
  print(json.dumps(scores, ensure_ascii=False), flush=True)


if __name__ == "__main__":
  sys.exit(main())
