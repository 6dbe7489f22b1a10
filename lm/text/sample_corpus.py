"""A random text whose best reachable perplexity is known.

Words are random syllables. A sentence is a random walk through the grammar. Its
first word sets the topic, which decides which nouns, verbs and adjectives are
frequent until the sentence ends, about 22 words later. A good model remembers
more than the previous word, which reveals neither the topic nor the position.
"""

import contextlib
import hashlib
import json
import math
import os
import pathlib

import numpy as np

from lm.base import files
from lm.text.word_ids import EOS, DataError

_GRAMMAR = {  # Position: {class of the word: (probability, next position)}
  "start": {"opener": (1.0, "subj")},
  "subj": {"adj": (0.3, "subj"), "noun": (0.7, "pred")},
  "pred": {"prep": (0.3, "subj"), "verb": (0.7, "obj")},
  "obj": {"adj": (0.3, "obj"), "noun": (0.7, "end")},
  "end": {"prep": (0.48, "obj"), "conj": (0.32, "subj"), EOS: (0.2, "start")},
}
_SIZES = dict(opener=32, noun=120, verb=60, adj=40, prep=10, conj=4)
_ENDINGS = dict(opener="r", noun="n", verb="s", adj="l", prep="", conj="t")
_SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
_TOPICS = 8


class Source:
  """A random source of words, whose state follows from its words.

  In state s (of S), it emits word w (of V) with probability emission[s, w] and
  moves to next_state[s, w]. A text begins in state 0. So a reader of the text
  knows the state, and no model predicts better than the rows of `emission`.
  """

  def __init__(self, rng):
    """Draws the words and their frequencies with a numpy RandomState."""
    words, spans, shares = {}, {EOS: -1}, {EOS: [1.0] * _TOPICS}
    for name, size in _SIZES.items():
      spans[name] = slice(len(words), len(words) + size)
      while len(words) < spans[name].stop:
        syllables = rng.choice(_SYLLABLES, size=rng.randint(2, 4))
        words["".join(syllables) + _ENDINGS[name]] = None
    self.words = [*words, EOS]
    for name, size in _SIZES.items():
      ranks = np.ones(size) if name == "opener" else np.arange(1, size + 1)
      share = 1 / ranks / (1 / ranks).sum()  # Zipf's law.
      order = rng.permutation if name in ("noun", "verb", "adj") else np.copy
      shares[name] = [order(share) for _ in range(_TOPICS)]
    shape = 1 + 4 * _TOPICS, len(self.words)  # [S, V]: a start, four a topic.
    self.emission, self.next_state = np.zeros(shape), np.zeros(shape, int)
    for topic in range(_TOPICS):
      states = {name: i and 4 * topic + i for i, name in enumerate(_GRAMMAR)}
      for position, choices in _GRAMMAR.items():
        for name, (probability, after) in choices.items():
          cells = states[position], spans[name]
          self.emission[cells] = probability * shares[name][topic]
          self.next_state[cells] = states[after]
    self.next_state[0, spans["opener"]] = np.tile(4 * np.arange(_TOPICS) + 1, 4)

  def sample(self, num_words, rng):
    """Draws a text of at least num_words that ends in state 0.

    Returns the words, and the perplexity of a perfect model, which reads the
    first word but does not predict it, as in training.
    """
    total = np.cumsum(self.emission, axis=1)  # [S, V]
    thresholds = total / total[:, -1:]  # [S, V]
    text, probabilities, state = [], [], 0
    while state or len(text) < num_words:
      word = thresholds[state].searchsorted(rng.random(), "right")
      text.append(self.words[word])
      probabilities.append(self.emission[state, word])
      state = self.next_state[state, word]
    return text, math.exp(-np.log(probabilities)[1:].mean())

  def perplexities(self):
    """Returns the best (bigram, unigram) perplexities on an endless text."""
    moves = np.eye(len(self.emission))[self.next_state]  # [S, V, S]
    transition = np.einsum("sv,svt->st", self.emission, moves)  # [S, S]
    share = np.linalg.matrix_power(transition, 1000)[0]  # [S], in the long run.
    emitted = share[:, np.newaxis] * self.emission  # [S, V]
    pairs = np.einsum("sv,svw->vw", emitted, self.emission[self.next_state])
    unigram, pair = (
      math.exp(-(p[p > 0] * np.log(p[p > 0])).sum())  # exp of the entropy.
      for p in (emitted.sum(axis=0), pairs)
    )
    return pair / unigram, unigram


def write_corpus(folder, seed=1, train_words=100_000):
  """Writes three texts in PTB's format, and source.json; returns the latter.

  ptb.train.txt has at least train_words, ten times as many as the others.
  A folder that exists gets what is missing. Raises DataError if one of the
  files has other contents.
  """
  rng = np.random.RandomState(seed)  # Draws the same with every numpy.
  source = Source(rng)
  contents, words = {}, {}
  for part in ("train", "valid", "test"):
    size = train_words if part == "train" else max(train_words // 10, 1)
    text, best = source.sample(size, rng)
    lines = " " + " ".join(text).replace(EOS, "\n")
    contents[f"ptb.{part}.txt"] = lines.encode()
    words[part] = len(text)
  bigram, unigram = source.perplexities()
  about = {
    "best_perplexity": best,  # On the test text.
    "bigram_perplexity": bigram,
    "unigram_perplexity": unigram,
    "seed": seed,
    "vocabulary": len(source.words),
    "words": words,
    "sha256": {n: hashlib.sha256(c).hexdigest() for n, c in contents.items()},
  }
  source_json = f"{json.dumps(about, indent=2)}\n".encode()
  # A folder is complete when ptb.test.txt, the last file, is there.
  contents = {"source.json": source_json, **contents}
  for name, content in contents.items():
    path = os.path.join(folder, name)
    if os.path.lexists(path) and pathlib.Path(path).read_bytes() not in (
      b"",
      content,
    ):
      raise DataError(f"{path} has other contents. Move it elsewhere.")
  target = contextlib.nullcontext(folder)
  if not os.path.lexists(folder):
    target = files.new_folder(str(folder), "DIR")
  with target as made:
    for name, content in contents.items():
      files.write_file(os.path.join(made, name), content)
  return about


def best_perplexity(data_path, test_sha256):
  """Returns a perfect model's perplexity on ptb.test.txt; None if unknown.

  `test_sha256` is that text's checksum. Raises InputError if source.json is
  damaged or describes another test text.
  """
  path = os.path.join(data_path, "source.json")
  if not os.path.lexists(path):
    return None
  advice = "Remove it: it only says which perplexity is the best."

  def best_of(about):
    return about["sha256"]["ptb.test.txt"], float(about["best_perplexity"])

  sha256, best = files.read_json(path, best_of, advice)
  if sha256 != test_sha256:
    raise DataError(f"{path} does not describe ptb.test.txt. {advice}")
  return best
