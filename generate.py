"""Writes text with a trained model, or prints which words can come next.

  python generate.py --run=runs/small --prefix="the company" --temperature=0.8
  python generate.py --run=runs/small --prefix="the company" --next_word
  python generate.py --run=runs/small --prefix_file=prefixes.txt --sentences

The text continues the prefix, which is taken as the start of a sentence. Each
word is drawn from the model's distribution, given all words before it. First
--no_unknown and --temperature change that distribution, then --top_k and
--top_p cut it off.

Dimensions in the comments: B = texts drawn side by side, V = vocab_size.
"""

from lm.base import imports

if __name__ == "__main__":
  imports.explain_missing()

import math
import sys

import numpy as np

import language_model
from lm.base import command
from lm.base.command import InputError, refuse, tell
from lm.base.files import open_text
from lm.text.word_ids import EOS, decode

_AT_ONCE = 100  # Prefixes that are read, and texts drawn, side by side.


def define_flags(define):
  """Defines the command line's flags."""
  language_model.define_flags(define)
  language_model.define_tokenize(define)
  integer, number = define.integer, define.float
  string, boolean = define.string, define.boolean
  string("prefix", "", "The words to start with.")
  string("prefix_file", None, "A file with a prefix a line; - is stdin.")
  integer("num_words", 100, "Words to draw, each <eos> included.", 1, 10**6)
  boolean("sentences", False, "End each text at the end of its sentence.")
  help_text = "The divisor of the log-probabilities: below 1, likely words "
  help_text += "become likelier; 0 always takes the likeliest."
  number("temperature", 1.0, help_text)
  integer("top_k", None, "Draw from the k likeliest words.", 1)
  number("top_p", None, "Draw from the fewest words of this probability.")
  boolean("no_unknown", False, "Never draw the word for unknown words.")
  integer("num_samples", 1, "Texts to draw for each prefix.", 1, 10**6)
  integer("seed", 1, "Seed of the random numbers.", 0, 2**32 - 1)
  boolean("next_word", False, "Print the probability of each next word.")
  define.validator(  # It also refuses infinity and NaN.
    "temperature", lambda t: 0 <= t < math.inf, "must be 0 or more."
  )
  define.validator(
    "top_p", lambda p: p is None or 0 < p <= 1, "must be above 0, at most 1."
  )


@command.entry_point("generate.py", define_flags)
def main(args):
  """Generates as the flags say; returns the exit status."""
  if args.next_word:
    without_effect = ["num_words", "sentences", "num_samples", "seed"]
    refuse(args, without_effect, "--next_word")
  lines = [args.prefix]
  if args.prefix_file is not None:
    refuse(args, ["prefix"], "--prefix_file")
    lines = read_lines(args.prefix_file)
  models = language_model.find(
    args.run, args.checkpoint, args.data_path, args.hparams
  )
  with language_model.LanguageModel(models, args.tokenize) as model:
    if args.sentences and not model.knows(EOS):
      raise InputError(f"The model knows no {EOS}: leave out --sentences.")
    if args.no_unknown and model.vocabulary == [model.unknown]:
      raise InputError("The model knows no other word: leave out --no_unknown.")
    prefixes = read_prefixes(model, lines, args.prefix_file is not None)
    for first in range(0, len(prefixes), _AT_ONCE):
      generate(model, prefixes[first : first + _AT_ONCE], first, args)
  return 0


def read_lines(path):
  """Returns the lines of a UTF-8 file; "-" is standard input."""
  name = "Standard input" if path == "-" else f"--prefix_file={path}"
  try:
    with open_text(path) as file:
      text = decode(file.read(), name)
  except OSError as e:
    raise InputError(f"{name} cannot be read: {e.strerror}.") from None
  if not text:
    raise InputError(f"{name} is empty: it must have a prefix on each line.")
  return text.removesuffix("\n").split("\n")


def read_prefixes(model, texts, are_lines):
  """Returns the ids of each prefix, and reports the unknown words.

  Each newline ends a sentence. Raises InputError if no word of a prefix is left
  to start from. If they are lines of a file, a blank line is an empty prefix.
  """
  has_eos = model.knows(EOS)
  prefixes = [model.words_of(text.replace("\n", f" {EOS} ")) for text in texts]
  if not has_eos:
    prefixes = [[word for word in words if word != EOS] for words in prefixes]
  for word in dict.fromkeys(w for words in prefixes for w in words):
    if not model.knows(word):
      left_out = model.id_of(word) is None
      fate = "is left out" if left_out else f"reads as {model.unknown}"
      tell(f"'{word}' is not in the vocabulary: it {fate}.")
  found = [[i for i in map(model.id_of, p) if i is not None] for p in prefixes]
  for number, ids in enumerate(found, 1):
    if are_lines and not ids and (prefixes[number - 1] or not has_eos):
      raise InputError(f"Line {number} of --prefix_file has no known word.")
  if not any(found) and not has_eos:
    raise InputError(
      f"The model knows no {EOS} to start a sentence from: give a --prefix "
      "with a word that it knows."
    )
  return found


def read(model, prefixes):
  """Reads prefixes side by side, after <eos> if the model knows it.

  Returns (log_probs, states) of the next words, as `LanguageModel.next_words`.
  """
  eos = [model.id_of(EOS)] if model.knows(EOS) else []
  starts = [eos + ids for ids in prefixes]
  log_probs, states = model.next_words([ids[0] for ids in starts])
  for i in range(1, max(map(len, starts))):
    rows = [row for row, ids in enumerate(starts) if i < len(ids)]
    ids = [starts[row][i] for row in rows]
    log_probs[rows], found = model.next_words(ids, [s[rows] for s in states])
    for state, new in zip(states, found, strict=True):
      state[rows] = new
  return log_probs, states


def generate(model, prefixes, first, args):
  """Prints what the flags ask for; `first` prefixes came before these."""
  log_probs, states = read(model, prefixes)
  change = {n: args[n].value for n in ("temperature", "top_k", "top_p")}
  change["without"] = model.id_of(model.unknown) if args.no_unknown else None
  if args.next_word:
    for number, row in enumerate(log_probs, first):
      print_heading(args, number, 0)
      show_next_word(model.vocabulary, distribution(row, **change))
    return
  last = model.id_of(EOS) if args.sentences else None
  size = len(prefixes) * args.num_samples
  for begin in range(0, size, _AT_ONCE):
    texts = np.arange(begin, min(begin + _AT_ONCE, size))
    rows, numbers = np.divmod(texts, args.num_samples)
    start = log_probs[rows], [state[rows] for state in states]
    drawn = draw_texts(
      model, start, args.num_words, args.seed, numbers, change, last
    )
    for row, number, ids in zip(rows, numbers, drawn, strict=True):
      print_heading(args, first + row, number)
      words = [model.vocabulary[i] for i in (*prefixes[row], *ids)]
      print(as_lines(words), flush=True)


def print_heading(args, prefix, number):
  """Prints which prefix and which sample follows, unless there is only one."""
  parts = [f"prefix {prefix + 1}"] * (args.prefix_file is not None)
  parts += [f"sample {number + 1}"] * (args.num_samples > 1)
  if parts:
    print(", ".join(parts).capitalize() + ":")


def draw_texts(model, start, num_words, seed, numbers, change, last=None):
  """Draws B texts, each with its own sequence of random numbers.

  Args:
    model: a LanguageModel.
    start: (log_probs, states) of the first words, from `read`.
    num_words: the length of each text.
    seed: an integer. With the start and the text's number it decides the text.
    numbers: the numbers of the texts, B integers.
    change: the keyword arguments of `distribution`.
    last: the id that ends a text before it has num_words; None for no id.

  Returns:
    B lists of ids.
  """
  # numpy promises that these bits never change; a Generator's numbers may.
  bits = [np.random.PCG64([seed, number]) for number in numbers]
  log_probs, states = start
  texts = [[] for _ in numbers]
  unended = texts  # Those that the rows of log_probs and states are of.
  for i in range(num_words):
    if i:
      rows = [row for row, text in enumerate(unended) if text[-1] != last]
      if not rows:
        break
      unended, bits = [unended[r] for r in rows], [bits[r] for r in rows]
      states = [state[rows] for state in states]
      log_probs, states = model.next_words([t[-1] for t in unended], states)
    # Row by row: [V] fits into the processor's cache, [B, V] would not.
    for text, b, row in zip(unended, bits, log_probs, strict=True):
      uniform = (b.random_raw() >> 11) / 2**53  # In [0, 1).
      text.append(draw_word(distribution(row, **change), uniform))
  return texts


def distribution(
  log_probs, *, temperature=1.0, top_k=None, top_p=None, without=None
):
  """Returns the probabilities to draw from, float64 [V].

  Args:
    log_probs: [V], in nats.
    temperature: the divisor of log_probs; 0 keeps only the likeliest word.
    top_k: how many of the likeliest words to keep; None for all.
    top_p: the probability that the words to keep must have together: of those
      kept by top_k the fewest, likeliest first; None for all.
    without: the id of a word that gets no probability; None for no word.
  """
  log_probs = np.array(log_probs, float)
  if without is not None:
    log_probs[without] = -math.inf
  if temperature == 0:
    probs = np.zeros_like(log_probs)
    probs[log_probs.argmax()] = 1
    return probs
  log_probs -= log_probs.max()
  with np.errstate(over="ignore"):  # -inf is right: the probability is 0.
    probs = _normalized(np.exp(log_probs / temperature))
  if top_k is None and top_p is None:
    return probs
  return _cut(probs, top_k, top_p)


def _normalized(probs):
  """Divides probabilities by their sum."""
  return probs / probs.sum()


def _cut(probs, top_k, top_p):
  """Keeps only the likeliest words; of equally likely ones the first."""
  # Sorting all of them takes long. For top_p, 1,000 are often enough.
  ordered = _largest(probs, top_k or 1000)
  count = len(ordered)  # How many to keep.
  if top_p is not None:
    # The zeros make the rounding independent of how many were sorted.
    zeros = (0, len(probs) - count)
    total = 1 if top_k is None else np.pad(ordered, zeros).sum()
    count = _number_reaching(top_p, ordered / total)
  if top_k is None and count == len(ordered):
    ordered = _largest(probs, len(probs))
    count = _number_reaching(top_p, ordered)
  kept = probs >= ordered[count - 1]
  if surplus := np.count_nonzero(kept) - count:
    kept[np.flatnonzero(probs == ordered[count - 1])[-surplus:]] = False
  probs[~kept] = 0
  return _normalized(probs)


def _largest(probs, count):
  """Returns the `count` largest probabilities, the largest first."""
  if count < len(probs):
    probs = np.partition(probs, -count)[-count:]
  return np.sort(probs)[::-1]


def _number_reaching(top_p, ordered):
  """Returns how many probabilities, the largest first, reach top_p."""
  before = np.cumsum(ordered) - ordered
  return np.count_nonzero(before < top_p)


def draw_word(probs, uniform):
  """Draws a word from probs [V] with a number in [0, 1); returns its id."""
  sums = np.cumsum(probs)  # [V]; the last is 1, but for rounding.
  return int(np.searchsorted(sums, uniform * sums[-1], side="right"))


def show_next_word(vocabulary, probs):
  """Prints the possible words with their probabilities, likeliest first."""
  for i in np.argsort(-probs, kind="stable"):
    if probs[i] > 0:
      print(f"{probs[i]:.6g} {vocabulary[i]}")


def as_lines(words):
  """Returns a text with one line per sentence."""
  text = " ".join("\n" if word == EOS else word for word in words)
  return text.replace(" \n", "\n").replace("\n ", "\n").removesuffix("\n")


if __name__ == "__main__":
  sys.exit(main())
