"""Writes text with a trained model, or prints which words can come next.

  python generate.py --run=runs/small --prefix="the company" --temperature=0.8
  python generate.py --run=runs/small --prefix="the company" --next_word

The text continues the prefix, which is taken as the start of a sentence. Each
word is drawn from the model's distribution, given all words before it. First
--temperature changes that distribution, then --top_k and --top_p cut it off.
"""

import math

import numpy as np
from absl import app, flags

import language_model
from lm import command
from lm.command import InputError, refuse, tell
from lm.text import EOS, UNKNOWN

_AT_ONCE = 100  # Samples that are drawn side by side.


def define_flags():
  """Defines the command line's flags."""
  language_model.define_flags()
  integer = flags.DEFINE_integer
  flags.DEFINE_string("prefix", "", "The words to start with.")
  integer("num_words", 100, "Words to draw, each <eos> included.", 1, 10**6)
  flags.DEFINE_float(
    "temperature",
    1.0,
    "The divisor of the log-probabilities: below 1, likely words become "
    "likelier; 0 always takes the likeliest.",
  )
  integer("top_k", None, "Draw from the k likeliest words.", 1)
  help_text = "Draw from the fewest words that have this probability."
  flags.DEFINE_float("top_p", None, help_text)
  integer("num_samples", 1, "Texts to draw.", 1, 10**6)
  integer("seed", 1, "Seed of the random numbers.", 0, 2**32 - 1)
  help_text = "Print the probability of each word that can come next."
  flags.DEFINE_boolean("next_word", False, help_text)
  flags.register_validator(  # It refuses infinity and NaN, too.
    "temperature", lambda t: 0 <= t < math.inf, "must be 0 or more."
  )
  flags.register_validator(
    "top_p", lambda p: p is None or 0 < p <= 1, "must be above 0, at most 1."
  )


@command.main("generate.py")
def main(args):
  """Generates as the flags say; returns the exit status."""
  if args.next_word:
    refuse(args, ["num_words", "num_samples", "seed"], "--next_word")
  change = {n: args[n].value for n in ("temperature", "top_k", "top_p")}
  models = language_model.find(args.run, args.checkpoint, args.data_path)
  with language_model.LanguageModel(models) as model:
    prefix = read_prefix(model, args.prefix)
    start = read(model, prefix)
    if args.next_word:
      show_next_word(model.vocabulary, distribution(start[0], **change)[0])
      return 0
    for first in range(0, args.num_samples, _AT_ONCE):
      numbers = range(first, min(first + _AT_ONCE, args.num_samples))
      ids = draw_texts(model, start, args.num_words, args.seed, numbers, change)
      for number, text in zip(numbers, ids, strict=True):
        if args.num_samples > 1:
          print(f"Sample {number + 1}:")
        words = [model.vocabulary[i] for i in (*prefix, *text)]
        print(as_lines(words), flush=True)
  return 0


def read_prefix(model, text):
  """Returns the ids of a prefix, and reports its unknown words.

  Each newline ends a sentence. Raises InputError if no word is left.
  """
  words = model.words_of(text.replace("\n", f" {EOS} "))
  if not model.knows(EOS):
    words = [word for word in words if word != EOS]
  for word in dict.fromkeys(w for w in words if not model.knows(w)):
    fate = "is left out" if model.id_of(word) is None else f"reads as {UNKNOWN}"
    tell(f"'{word}' is not in the vocabulary: it {fate}.")
  ids = [i for i in map(model.id_of, words) if i is not None]
  if not ids and not model.knows(EOS):
    raise InputError(
      f"The model knows no {EOS} to start a sentence from: give a --prefix "
      "with a word that it knows."
    )
  return ids


def read(model, ids):
  """Reads the start of a text, after <eos> if the model knows it.

  Returns (log_probs, states) of the next word, as `LanguageModel.next_words`.
  """
  if model.knows(EOS):
    ids = [model.id_of(EOS), *ids]
  _, _, states = model.score_stream(ids)
  return model.next_words(ids[-1:], states)


def draw_texts(model, start, num_words, seed, numbers, change):
  """Draws texts, each with its own sequence of random numbers.

  Args:
    model: a LanguageModel.
    start: (log_probs, states) of the first word, from `read`.
    num_words: the length of each text.
    seed: an integer. It and the number of a text alone decide the text.
    numbers: the numbers of the texts to draw.
    change: the keyword arguments of `distribution`.

  Returns:
    int [len(numbers), num_words], the ids.
  """
  # numpy promises that these bits stay the same in later versions, but not the
  # numbers of a Generator.
  bits = [np.random.PCG64([seed, number]) for number in numbers]
  log_probs, states = start
  log_probs = np.repeat(log_probs, len(numbers), axis=0)  # [B, V]
  states = [np.repeat(state, len(numbers), axis=0) for state in states]
  texts = np.zeros([len(numbers), num_words], int)
  for i in range(num_words):
    if i:
      log_probs, states = model.next_words(texts[:, i - 1], states)
    uniform = np.array([b.random_raw() >> 11 for b in bits]) / 2**53  # [0, 1).
    texts[:, i] = draw_words(distribution(log_probs, **change), uniform)
  return texts


def distribution(log_probs, *, temperature=1.0, top_k=None, top_p=None):
  """Returns the probabilities to draw from, float64 [B, V].

  Args:
    log_probs: [B, V], in nats.
    temperature: the divisor of log_probs; 0 keeps only the likeliest word.
    top_k: how many of the likeliest words to keep; None for all.
    top_p: the probability that the words to keep must have together: of those
      kept by top_k the fewest, likeliest first; None for all.
  """
  if temperature == 0:
    temperature, top_k = 1.0, 1
  log_probs = np.asarray(log_probs, float)
  log_probs = log_probs - log_probs.max(axis=1, keepdims=True)
  with np.errstate(over="ignore"):  # -inf is right: the probability is 0.
    probs = _normalized(np.exp(log_probs / temperature))
  if top_k is None and top_p is None:
    return probs
  order = np.argsort(-probs, axis=1, kind="stable")  # Likeliest first.
  ordered = np.take_along_axis(probs, order, axis=1)
  if top_k is not None:
    ordered[:, top_k:] = 0
    ordered = _normalized(ordered)
  if top_p is not None:
    before = np.cumsum(ordered, axis=1) - ordered
    ordered = _normalized(np.where(before < top_p, ordered, 0))
  np.put_along_axis(probs, order, ordered, axis=1)
  return probs


def _normalized(probs):
  """Divides each row by its sum."""
  return probs / probs.sum(axis=1, keepdims=True)


def draw_words(probs, uniform):
  """Draws a word, int [B], from each row of probs, float64 [B, V].

  It is the first at which the sum of the row exceeds the row's random number,
  uniform [B], in [0, 1).
  """
  sums = np.cumsum(probs, axis=1)  # The last is 1, but for rounding.
  return (sums > (uniform * sums[:, -1])[:, np.newaxis]).argmax(axis=1)


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
  define_flags()
  app.run(main)
