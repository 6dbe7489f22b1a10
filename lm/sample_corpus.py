"""Makes up a text to train on, for which the best perplexity is known.

  python sample_corpus.py sample-corpus

writes ptb.train.txt, ptb.valid.txt and ptb.test.txt in the format of the Penn
Treebank's, and source.json with the numbers to compare a model to. Nothing is
taken from any text: the words are made of random syllables, and a sentence is a
random walk through the grammar below, in which "end" goes back to "subject" or
"object", or ends the sentence.

  start -> subject -> predicate -> object -> end -> <eos>

The first word of a sentence sets its topic, and the topic says which nouns,
verbs and adjectives are frequent until the sentence ends, about 22 words later.
So a model has to remember more than the previous word, which tells neither the
topic nor whether a noun was the subject or the object.

Dimensions in the comments: S = states of the source, V = its words, N = words
of a text.
"""

import bisect
import dataclasses
import hashlib
import json
import math
import os
import sys
import tempfile

import numpy as np
from absl import app, flags

from lm.command import InputError
from lm.text import EOS

_PARTS = ("train", "valid", "test")
_ABOUT = "source.json"

_NUM_TOPICS = 8

# What can come at each position of a sentence: the class of the word, its
# probability, and the position after it.
_GRAMMAR = {
  "start": {"opener": (1.0, "subject")},
  "subject": {"adjective": (0.3, "subject"), "noun": (0.7, "predicate")},
  "predicate": {"preposition": (0.3, "subject"), "verb": (0.7, "object")},
  "object": {"adjective": (0.3, "object"), "noun": (0.7, "end")},
  "end": {
    "preposition": (0.48, "object"),
    "conjunction": (0.32, "subject"),
    EOS: (0.2, "start"),
  },
}
_INSIDE = ("subject", "predicate", "object", "end")


class CorpusError(InputError, ValueError):
  """A sample corpus that cannot be made, or one that is damaged."""


@dataclasses.dataclass(frozen=True)
class _WordClass:
  """The words that can stand in the same places."""

  size: int  # Different words.
  ending: str  # Of each word; no two classes share it.
  by_topic: bool = False  # Each topic ranks the words in an order of its own.
  zipf: float = 1.0  # A word of rank r is as frequent as 1 / r**zipf.


_WORD_CLASSES = {
  "opener": _WordClass(4 * _NUM_TOPICS, "r", zipf=0.0),
  "noun": _WordClass(120, "n", by_topic=True),
  "verb": _WordClass(60, "s", by_topic=True),
  "adjective": _WordClass(40, "l", by_topic=True),
  "preposition": _WordClass(10, ""),
  "conjunction": _WordClass(4, "t"),
  EOS: _WordClass(1, ""),
}

_SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
  """A random source of words, whose state can be told from its words.

  In state s it emits word w with probability emission[s, w], and then is in
  state next_state[s, w]. A text begins in state 0. So whoever has read the text
  so far knows the state, no model predicts better than the row of `emission`
  does, and all figures below are exact: the entropy is that of Shannon 1948, "A
  Mathematical Theory of Communication", section 7.

  Attributes:
    words: the V words.
    emission: float64 [S, V], each row sums to one.
    next_state: int [S, V], any state where the emission is zero. Each state
      must be reachable from each other one.
  """

  words: tuple[str, ...]
  emission: np.ndarray
  next_state: np.ndarray

  def stationary(self):
    """Returns the share of the words that each state emits, float64 [S]."""
    num_states = len(self.emission)
    transition = np.zeros((num_states, num_states))  # [S, S], from and to.
    rows = np.arange(num_states)[:, np.newaxis]
    np.add.at(transition, (rows, self.next_state), self.emission)
    # share x transition = share, and the sum of the shares is one. The first
    # equation follows from the others, and gives its place to the sum.
    equations = transition.T - np.eye(num_states)
    equations[0] = 1
    return np.linalg.solve(equations, np.eye(num_states)[0])

  def entropy_rate(self):
    """Returns the entropy of the next word given all before it, in nats."""
    return float(self.stationary() @ [_entropy(row) for row in self.emission])

  def best_perplexity(self):
    """Returns the perplexity of a perfect model on an endless text."""
    return math.exp(self.entropy_rate())

  def unigram_perplexity(self):
    """Returns the best perplexity of a model that looks at no other word."""
    return math.exp(_entropy(self.stationary() @ self.emission))

  def bigram_perplexity(self):
    """Returns the best perplexity with a look at the previous word only."""
    emitted = self.stationary()[:, np.newaxis] * self.emission  # [S, V]
    pairs = np.zeros((len(self.words), len(self.words)))  # [V, V]
    for share, after in zip(emitted, self.next_state, strict=True):
      pairs += share[:, np.newaxis] * self.emission[after]
    return math.exp(_entropy(pairs) - _entropy(pairs.sum(axis=1)))

  def sample(self, num_words, rng):
    """Returns a random text.

    Args:
      num_words: the text ends where the source is back in state 0, after this
        many words or more.
      rng: a numpy.random.RandomState.

    Returns:
      A list of words.
    """
    total = np.cumsum(self.emission, axis=1)  # [S, V]
    thresholds = (total / total[:, -1:]).tolist()
    next_state = self.next_state.tolist()
    text, state = [], 0
    while state or len(text) < num_words:
      word = bisect.bisect(thresholds[state], rng.random())
      text.append(self.words[word])
      state = next_state[state][word]
    return text

  def log_probabilities(self, text):
    """Returns what a perfect model gives the words of a text.

    Args:
      text: a list of N words, from a beginning in state 0.

    Returns:
      float64 [N], in nats: the logarithm of each word's probability given all
      words before it, minus infinity for a word that cannot come there.

    Raises:
      CorpusError: for a word that the source does not have.
    """
    word_to_id = {word: i for i, word in enumerate(self.words)}
    probabilities, state = [], 0
    for word in text:
      if word not in word_to_id:
        raise CorpusError(f"The source does not have the word '{word}'.")
      probabilities.append(self.emission[state, word_to_id[word]])
      state = self.next_state[state, word_to_id[word]]
    with np.errstate(divide="ignore"):  # The logarithm of 0.
      return np.log(probabilities)

  def perplexity(self, text):
    """Returns the perplexity of a perfect model on a text.

    As in training, the first word is read but not predicted.

    Raises:
      CorpusError: for fewer than two words, or one the source does not have.
    """
    if len(text) < 2:
      raise CorpusError("A text needs two words or more to have a perplexity.")
    return math.exp(-self.log_probabilities(text)[1:].mean())


def _entropy(probabilities):
  """Returns the entropy of an array of probabilities, in nats."""
  positive = probabilities[probabilities > 0]
  return float(-(positive * np.log(positive)).sum())


def make_source(rng):
  """Makes a source with the grammar above and words of its own.

  Args:
    rng: a numpy.random.RandomState. The same seed makes the same source.

  Returns:
    A Source of 267 words and 33 states: the start of a sentence, and the four
    positions inside of one for each of eight topics.
  """
  words, spans = [], {}
  for name, word_class in _WORD_CLASSES.items():
    spans[name] = slice(len(words), len(words) + word_class.size)
    words += [EOS] if name == EOS else _make_words(rng, word_class)
  shares = {name: _make_shares(rng, c) for name, c in _WORD_CLASSES.items()}
  num_states = 1 + _NUM_TOPICS * len(_INSIDE)
  emission = np.zeros((num_states, len(words)))  # [S, V]
  next_state = np.zeros((num_states, len(words)), int)  # [S, V]
  for topic in range(_NUM_TOPICS):
    for position, choices in _GRAMMAR.items():
      state = _state_id(position, topic)
      for name, (probability, after) in choices.items():
        emission[state, spans[name]] = probability * shares[name][topic]
        next_state[state, spans[name]] = _state_id(after, topic)
  openers = np.arange(_WORD_CLASSES["opener"].size)
  next_state[0, spans["opener"]] = _state_id("subject", openers % _NUM_TOPICS)
  return Source(tuple(words), emission, next_state)


def _state_id(position, topic):
  """Returns the state of a position, or the states if topic is an array."""
  if position == "start":
    return 0
  return 1 + topic * len(_INSIDE) + _INSIDE.index(position)


def _make_words(rng, word_class):
  """Returns a list of words of two or three syllables, all different."""
  words = {}  # The keys are the words: a set that keeps their order.
  while len(words) < word_class.size:
    syllables = rng.choice(_SYLLABLES, size=rng.randint(2, 4))
    words["".join(syllables) + word_class.ending] = None
  return list(words)


def _make_shares(rng, word_class):
  """Returns the frequency of each word in each topic, [topics, words]."""
  share = 1 / np.arange(1, word_class.size + 1) ** word_class.zipf
  share /= share.sum()
  if not word_class.by_topic:
    return np.tile(share, (_NUM_TOPICS, 1))
  return np.stack([rng.permutation(share) for _ in range(_NUM_TOPICS)])


def write_corpus(folder, seed=1, train_words=100_000):
  """Makes a corpus: three ptb.*.txt files and source.json.

  Args:
    folder: made if it does not exist. A sample corpus in it is replaced.
    seed: the same one makes the same files.
    train_words: of ptb.train.txt, at least: it ends with the sentence. The
      other two have a tenth of that. Below some 10,000 words the training text
      may lack words that the other two have.

  Returns:
    A dict, what source.json has. Its perplexities:
      best_perplexity: a perfect model's on ptb.test.txt, all of it but the
        first word. This is the one to compare a test perplexity to: the luck
        of the draw, some 1% for 15,000 words, is the same in both.
      best_valid_perplexity: the same on ptb.valid.txt.
      expected_perplexity: a perfect model's on an endless text.
      bigram_perplexity: the best one on an endless text for a model that sees
        the previous word only.
      unigram_perplexity: the same for a model that sees no other word.

  Raises:
    CorpusError: for a number out of range, a folder that cannot be written, or
      a file that is in the way and not of a sample corpus.
  """
  _check_range("seed", seed, 0, 2**32 - 1)
  _check_range("train_words", train_words, 1, 10**8)
  if os.path.exists(folder) and not os.path.isdir(folder):
    raise CorpusError(f"'{folder}' is a file. Name a folder for the corpus.")
  try:
    os.makedirs(folder, exist_ok=True)
    _check_replaceable(folder)
    about, files = _make_files(seed, train_words)
    _write_files(folder, files)
  except OSError as error:
    raise CorpusError(
      f"The folder '{folder}' cannot be written: {error.strerror}."
    ) from None
  return about


def best_perplexity(data_path):
  """Returns a perfect model's perplexity on the test text of a folder.

  Args:
    data_path: the folder with the ptb.*.txt files.

  Returns:
    The `best_perplexity` of `write_corpus`, or None for a text that is not of
    a sample corpus, as there is no source.json.

  Raises:
    CorpusError: for a damaged source.json, one of another test text, or a
      test text that cannot be read.
  """
  about = _read_about(data_path)
  if about is None:
    return None
  name = _file_name("test")
  if _sha256_of_file(os.path.join(data_path, name)) != about["sha256"][name]:
    raise CorpusError(
      f"{os.path.join(data_path, _ABOUT)} describes another {name} than the "
      "one beside it. Remove it, or make the sample corpus anew."
    )
  return about["best_perplexity"]


def _make_files(seed, train_words):
  """Returns what source.json has, and the content of each file by its name."""
  # Not numpy's newer generators: only RandomState is promised to draw the same
  # numbers in each version to come.
  rng = np.random.RandomState(seed)
  source = make_source(rng)
  few = max(train_words // 10, 1)
  sizes = {"train": train_words, "valid": few, "test": few}
  texts = {part: source.sample(size, rng) for part, size in sizes.items()}
  files = {_file_name(part): _to_bytes(text) for part, text in texts.items()}
  about = {
    "best_perplexity": source.perplexity(texts["test"]),
    "best_valid_perplexity": source.perplexity(texts["valid"]),
    "expected_perplexity": source.best_perplexity(),
    "bigram_perplexity": source.bigram_perplexity(),
    "unigram_perplexity": source.unigram_perplexity(),
    "seed": seed,
    "vocabulary": len(source.words),
    "words": {part: len(text) for part, text in texts.items()},
    "sha256": {name: _sha256(content) for name, content in files.items()},
  }
  content = (json.dumps(about, indent=2) + "\n").encode()
  return about, {_ABOUT: content, **files}


def _check_range(name, value, least, most):
  """Raises CorpusError unless the value is a whole number in that range."""
  if not isinstance(value, int) or not least <= value <= most:
    raise CorpusError(
      f"{name} must be a whole number from {least:,} to {most:,}; it is "
      f"{value!r}."
    )


def _file_name(part):
  return f"ptb.{part}.txt"


def _to_bytes(text):
  """Returns the words as PTB has them, a sentence a line and spaces around."""
  return (" " + " ".join(text)).replace(EOS, "\n").encode()


def _sha256(content):
  return hashlib.sha256(content).hexdigest()


def _sha256_of_file(path):
  """Returns the checksum of a file, None if there is no such file.

  Raises:
    CorpusError: for a file that cannot be read.
  """
  try:
    with open(path, "rb") as f:
      return _sha256(f.read())
  except FileNotFoundError:
    return None
  except OSError as error:
    raise CorpusError(f"{path} cannot be read: {error.strerror}.") from None


def _check_replaceable(folder):
  """Raises CorpusError if a file in the way is not of a sample corpus."""
  about = _read_about(folder) or {"sha256": {}}
  for name in map(_file_name, _PARTS):
    path = os.path.join(folder, name)
    if _sha256_of_file(path) not in (None, about["sha256"].get(name)):
      raise CorpusError(
        f"{path} is not of a sample corpus. Name another folder, or move that "
        "file away."
      )


def _read_about(folder):
  """Returns the dict of a folder's source.json, None if there is no file.

  Raises:
    CorpusError: for a file that write_corpus did not write.
  """
  path = os.path.join(folder, _ABOUT)
  try:
    with open(path, encoding="utf-8") as f:
      about = json.load(f)
    whole = 1 <= about["best_perplexity"] < math.inf and all(
      isinstance(about["sha256"][_file_name(part)], str) for part in _PARTS
    )
  except FileNotFoundError:
    return None
  except (OSError, ValueError, KeyError, TypeError):
    whole = False
  if not whole:
    raise CorpusError(
      f"{path} is damaged or unreadable. Remove it, or name another folder."
    )
  return about


def _write_files(folder, files):
  """Writes the files to a temporary folder, then moves them into place.

  The last of them is removed first and comes last. So it is missing after an
  interrupted call, and as source.json comes first, with the checksums of the
  others, another call sees that it may replace what is there.
  """
  with tempfile.TemporaryDirectory(dir=folder, prefix=".making-") as new:
    for name, content in files.items():
      with open(os.path.join(new, name), "wb") as f:
        f.write(content)
    for name in reversed(files):
      if name != _ABOUT and os.path.exists(os.path.join(folder, name)):
        os.remove(os.path.join(folder, name))
    for name in files:
      os.replace(os.path.join(new, name), os.path.join(folder, name))


def define_flags():
  """Defines the command line's flags."""
  flags.DEFINE_integer("seed", 1, "The same one makes the same corpus.")
  flags.DEFINE_integer(
    "train_words",
    100_000,
    "Words of the training text; the other two have a tenth of that each.",
  )


def main(argv):
  """Makes the corpus that the command line asks for."""
  if len(argv) != 2 or not argv[1]:
    sys.exit("Name one folder for the corpus: python sample_corpus.py DIR")
  args = flags.FLAGS
  try:
    about = write_corpus(argv[1], args.seed, args.train_words)
  except CorpusError as error:
    sys.exit(str(error))
  words = about["words"]
  print(
    f"{argv[1]}: {words['train']:,} words to train on, {words['valid']:,} to "
    f"validate and {words['test']:,} to test, in a language of "
    f"{about['vocabulary']}.\n"
    f"Best reachable test perplexity: {about['best_perplexity']:.3f} (knowing "
    f"only the previous word: {about['bigram_perplexity']:.1f}, no word: "
    f"{about['unigram_perplexity']:.1f})"
  )


if __name__ == "__main__":
  define_flags()
  app.run(main)
