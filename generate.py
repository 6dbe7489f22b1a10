"""Writes text with a trained model, or prints which words can come next.

  python generate.py --run=runs/small --prefix="the company" --temperature=0.8
  python generate.py --run=runs/small --prefix="the company" --next_word
  python generate.py --run=runs/small --prefix_file=prefixes.txt --sentences

The text continues the prefix, which is the start of a sentence. Each word is
drawn from the model's distribution, given all words before it. --no_unknown and
--temperature change that distribution before --top_k and --top_p cut it off.
With --next_word, only --temperature changes the probabilities; the other flags
shorten the list.

Dimensions in the comments: B = texts drawn side by side, V = vocab_size.
"""

from lm.base import imports

if __name__ == "__main__":
  imports.report_failures()

import math
import sys

import numpy as np

import language_model
from lm.base import command
from lm.base.command import InputError, refuse, tell
from lm.base.files import open_text
from lm.text import tokenize_ptb
from lm.text.word_ids import EOS, decode

_BATCH = 100  # Prefixes that are read, or texts that are drawn, side by side.


def define_flags(define):
  """Defines the command line's flags."""
  language_model.define_flags(define)
  tokenize_ptb.define_flag(define)
  integer, number = define.integer, define.float
  string, boolean = define.string, define.boolean
  string("prefix", "", "The first words of the text; they begin a sentence.")
  help_text = "A file with one prefix per line; - is standard input."
  define.path("prefix_file", None, help_text)
  help_text = "The number of words to draw, including each <eos>."
  integer("num_words", 100, help_text, 1, 10**6)
  help_text = "End each text at the next <eos>, or after --num_words words."
  boolean("sentences", False, help_text)
  help_text = "The number that divides the log-probabilities. Below 1, likely "
  help_text += "words become likelier; 0 always chooses the likeliest word."
  number("temperature", 1.0, help_text)
  integer("top_k", None, "Draw from the k likeliest words.", 1)
  help_text = "Draw from the fewest likeliest words that together have at "
  help_text += "least this probability."
  number("top_p", None, help_text)
  boolean("no_unknown", False, "Never draw the word for unknown words.")
  help_text = "The number of texts to draw for each prefix."
  integer("num_samples", 1, help_text, 1, 10**6)
  integer("seed", 1, "The seed of the random numbers.", 0, 2**32 - 1)
  help_text = "Join PTB's words into English, such as do n't into don't. "
  help_text += "Capitals and punctuation marks are not restored."
  boolean("detokenize", False, help_text)
  help_text = "Print the probability of each word that can come next."
  boolean("next_word", False, help_text)
  define.validator(  # It also refuses infinity and NaN.
    "temperature",
    lambda t: 0 <= t < math.inf,
    "must be a finite number, at least 0.",
  )
  define.validator(
    "top_p", lambda p: p is None or 0 < p <= 1, "must be above 0 and at most 1."
  )


@command.entry_point("generate.py", define_flags)
def main(args):
  """Generates as the flags say; returns the exit status."""
  if args.next_word:
    without_effect = ["num_words", "sentences", "num_samples", "seed"]
    without_effect += ["detokenize"]
    refuse(args, without_effect, "with --next_word")
  lines = [args.prefix]
  if args.prefix_file is not None:
    refuse(args, ["prefix"], "with --prefix_file")
    lines = read_lines(args.prefix_file)
  models = language_model.find(
    args.run, args.checkpoint, args.data_path, args.hparams, args.weights
  )
  with language_model.LanguageModel(models, args.tokenize) as model:
    if args.sentences and model.eos is None:
      raise InputError(f"The vocabulary has no {EOS}: leave out --sentences.")
    prefixes = read_prefixes(model, lines, args.prefix_file is not None)
    for first in range(0, len(prefixes), _BATCH):
      generate(model, prefixes[first : first + _BATCH], first, args)
  return 0


def read_lines(path):
  """Returns the lines of a UTF-8 file; "-" is standard input."""
  name = "Standard input" if path == "-" else f"--prefix_file={path}"
  with open_text(path) as file:
    text = decode(file.read(), name)
  if not text:
    raise InputError(f"{name} is empty: it must have a prefix on each line.")
  return text.removesuffix("\n").split("\n")


def read_prefixes(model, texts, are_lines):
  """Returns the ids of each prefix, and reports the unknown words.

  Args:
    model: a LanguageModel.
    texts: the prefixes. A newline ends a sentence.
    are_lines: whether the texts are the lines of a file. Then an empty prefix
      must be a blank line: a line of unknown words is refused.

  Raises:
    InputError: if a prefix has no word to start from.
  """
  prefixes, unknown = [], {}
  for number, text in enumerate(texts, 1):
    words = model.words_of(text.replace("\n", f" {EOS} "))
    if model.eos is None:
      words = [word for word in words if word != EOS]
    unknown.update((word, None) for word in words if not model.knows(word))
    ids = [i for i in map(model.id_of, words) if i is not None]
    if not ids and are_lines and (words or model.eos is None):
      raise InputError(f"Line {number} of --prefix_file has no known word.")
    if not ids and model.eos is None:
      raise InputError(
        f"The vocabulary has no {EOS} to start a sentence from: use a --prefix "
        "with a word of the vocabulary."
      )
    prefixes.append(ids)
  for word in unknown:
    left_out = model.id_of(word) is None
    fate = "left out" if left_out else f"read as {model.unknown}"
    tell(f"'{word}' is not in the vocabulary: it is {fate}.")
  return prefixes


def read(model, prefixes):
  """Reads B prefixes side by side, after <eos> if the model knows it.

  Returns (log_probs, states), as `LanguageModel.next_words` does.
  """
  eos = [] if model.eos is None else [model.eos]
  texts = [eos + ids for ids in prefixes]
  log_probs, states = model.next_words([ids[0] for ids in texts])
  for i in range(1, max(map(len, texts))):
    rows = [row for row, ids in enumerate(texts) if i < len(ids)]
    ids = [texts[row][i] for row in rows]
    log_probs[rows], changed = model.next_words(ids, [s[rows] for s in states])
    for state, new_rows in zip(states, changed, strict=True):
      state[rows] = new_rows
  return log_probs, states


def generate(model, prefixes, first, args):
  """Prints the texts, or the next words, of some prefixes.

  Args:
    model: a LanguageModel.
    prefixes: lists of ids.
    first: how many prefixes came before these.
    args: the flags.
  """
  log_probs, states = read(model, prefixes)
  change = {n: args[n].value for n in ("temperature", "top_k", "top_p")}
  change["without"] = model.id_of(model.unknown) if args.no_unknown else None
  if args.next_word:
    for number, row in enumerate(log_probs, first):
      print_heading(args, number, 0)
      probs = distribution(row, temperature=args.temperature)
      is_possible = distribution(row, **change) > 0
      show_next_word(model.vocabulary, probs, is_possible)
    return
  join = tokenize_ptb.detokenizer() if args.detokenize else None
  last = model.eos if args.sentences else None
  size = len(prefixes) * args.num_samples
  for begin in range(0, size, _BATCH):
    texts = np.arange(begin, min(begin + _BATCH, size))
    rows, numbers = np.divmod(texts, args.num_samples)
    start = log_probs[rows], [state[rows] for state in states]
    drawn = draw_texts(
      model, start, args.num_words, args.seed, numbers, change, last
    )
    for row, number, ids in zip(rows, numbers, drawn, strict=True):
      print_heading(args, first + row, number)
      words = [model.vocabulary[i] for i in (*prefixes[row], *ids)]
      text = as_lines(words)
      if join:
        text = "\n".join(join(line.split()) for line in text.split("\n"))
      print(text, flush=True)


def print_heading(args, prefix, number):
  """Prints the numbers of the prefix and of the sample that follow, if any."""
  parts = [f"prefix {prefix + 1}"] * (args.prefix_file is not None)
  parts += [f"sample {number + 1}"] * (args.num_samples > 1)
  if parts:
    print(", ".join(parts).capitalize() + ":")


def draw_texts(model, start, num_words, seed, numbers, change, last=None):
  """Draws B texts, each with its own sequence of random numbers.

  Args:
    model: a LanguageModel.
    start: (log_probs, states) of the first words, from `read`.
    num_words: the largest length of a text.
    seed: an integer. Seed, start and number determine a text.
    numbers: the numbers of the texts, B integers.
    change: the keyword arguments of `distribution`.
    last: the id that ends a text early; None for no id.

  Returns:
    B lists of ids.
  """
  # numpy promises that these bits never change; a Generator's numbers may.
  bits = [np.random.PCG64([seed, number]) for number in numbers]
  log_probs, states = start
  texts = [[] for _ in numbers]
  unended = texts  # The texts of the rows of log_probs and states.
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
    top_p: keep the fewest words, likeliest first, that together have at least
      this share of the probability that top_k keeps; None for all.
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


def _cut(probs, top_k, top_p):
  """Keeps only the likeliest words; among equally likely words, the first."""
  count = len(probs) if top_k is None else min(top_k, len(probs))
  ordered = np.zeros_like(probs)  # The probabilities to keep, largest first.
  ordered[:count] = np.sort(np.partition(probs, -count)[-count:])[::-1]
  if top_p is not None:
    total = 1 if top_k is None else ordered.sum()
    shares = ordered[:count] / total
    before = np.cumsum(shares) - shares  # The sum of all likelier words.
    count = np.count_nonzero(before < top_p)
  least = ordered[count - 1]
  is_kept = probs > least
  ties = np.flatnonzero(probs == least)
  is_kept[ties[: count - np.count_nonzero(is_kept)]] = True
  return _normalized(np.where(is_kept, probs, 0))


def _normalized(probs):
  """Divides probabilities by their sum."""
  return probs / probs.sum()


def draw_word(probs, uniform):
  """Draws a word from probs [V] with a number in [0, 1); returns its id."""
  sums = np.cumsum(probs)  # [V]; the last is 1, but for rounding.
  return int(np.searchsorted(sums, uniform * sums[-1], side="right"))


def show_next_word(vocabulary, probs, is_possible):
  """Prints the possible words with their probabilities, likeliest first."""
  for i in np.argsort(-probs, kind="stable"):
    if is_possible[i]:
      print(f"{probs[i]:.6g} {vocabulary[i]}")


def as_lines(words):
  """Returns a text with one line per sentence."""
  text = " ".join("\n" if word == EOS else word for word in words)
  return text.replace(" \n", "\n").replace("\n ", "\n").removesuffix("\n")


if __name__ == "__main__":
  sys.exit(main())
