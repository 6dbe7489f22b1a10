"""A random text whose best reachable perplexity is known.

Words are random syllables. A sentence is a random walk through the grammar. Its
first word sets the topic, which decides which nouns, verbs and adjectives are
frequent until the sentence ends, after about 22 words. A good model remembers
more than the previous word, which reveals neither the topic nor the position.
"""

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
  """A random source of words whose state follows from the words before.

  In state s (of S), it emits word w (of V) with probability emission[s, w] and
  moves to next_state[s, w]. A text begins in state 0. So the text reveals the
  state, and no model can predict better than the rows of `emission`.
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
    # [S, V]: state 0 is the start of all topics; each topic has four more.
    shape = 1 + 4 * _TOPICS, len(self.words)
    self.emission, self.next_state = np.zeros(shape), np.zeros(shape, int)
    for topic in range(_TOPICS):
      states = {name: i and 4 * topic + i for i, name in enumerate(_GRAMMAR)}
      for position, choices in _GRAMMAR.items():
        for name, (probability, after) in choices.items():
          cells = states[position], spans[name]
          self.emission[cells] = probability * shares[name][topic]
          self.next_state[cells] = states[after]
    # The openers' topics are 0 to 7, four times over.
    self.next_state[0, spans["opener"]] = np.tile(4 * np.arange(_TOPICS) + 1, 4)

  def sample(self, num_words, rng):
    """Draws a text that ends in state 0.

    Args:
      num_words: the least number of words.
      rng: a numpy RandomState.

    Returns:
      (words, perplexity): a list, and the perplexity of a perfect model. As in
      training, the model does not predict the first word.
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
  """Makes a folder with three texts in PTB's format and source.json.

  If the folder already has this corpus, it stays as it is.

  Args:
    folder: the folder's path.
    seed: the seed of the random text.
    train_words: the least number of words in ptb.train.txt. The other two texts
      have a tenth as many.

  Returns:
    The content of source.json, a dictionary.

  Raises:
    NewFolderError: if the folder exists and has something else, or cannot be
      made.
  """
  rng = np.random.RandomState(seed)  # Draws the same with every numpy.
  source = Source(rng)
  texts, words = {}, {}
  for part in ("train", "valid", "test"):
    size = train_words if part == "train" else max(train_words // 10, 1)
    sample, perplexity = source.sample(size, rng)
    text = " " + " ".join(sample).replace(EOS, "\n")
    texts[f"ptb.{part}.txt"] = text.encode()
    words[part] = len(sample)
  bigram, unigram = source.perplexities()
  description = {
    "best_perplexity": perplexity,  # On the test text.
    "bigram_perplexity": bigram,
    "unigram_perplexity": unigram,
    "seed": seed,
    "vocabulary": len(source.words),
    "words": words,
    "sha256": {
      n: hashlib.sha256(text).hexdigest() for n, text in texts.items()
    },
  }
  content = f"{json.dumps(description, indent=2)}\n"
  path = pathlib.Path(folder) / "source.json"
  if path.is_file() and path.read_text("utf-8") == content:
    return description
  with files.new_folder(str(folder), "FOLDER") as temporary:
    for name, data in {"source.json": content, **texts}.items():
      files.write_file(os.path.join(temporary, name), data)
  return description


def best_perplexity(data_path, test_sha256):
  """Returns a perfect model's perplexity on ptb.test.txt; None if unknown.

  Args:
    data_path: the folder with the text and perhaps source.json.
    test_sha256: the text's checksum.

  Raises:
    InputError: if source.json is damaged or describes another test text.
  """
  path = os.path.join(data_path, "source.json")
  if not os.path.lexists(path):
    return None
  advice = "Delete it: only the best reachable perplexity is read from it."

  def read(source):
    return source["sha256"]["ptb.test.txt"], float(source["best_perplexity"])

  sha256, perplexity = files.read_json(path, read, advice)
  if sha256 != test_sha256:
    raise DataError(f"{path} does not describe ptb.test.txt. {advice}")
  return perplexity
