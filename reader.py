"""Turns PTB text into word ids, and word ids into batches.

A data set is one sequence of ids. It is cut into batch_size streams of equal
length, which are read side by side, num_steps words at a time. So each row of a
batch continues the same row of the previous batch. The targets are the words
that follow the inputs. With 17 words, batch_size = 2 and num_steps = 3:

  ids:       0  1  2  3  4  5  6  7  8  9 10 11 12 13 14 15 16

  stream 0:  0  1  2 | 3  4  5 | 6  7        (16 is left over: with it, the
  stream 1:  8  9 10 |11 12 13 |14 15         streams would not be equal)

  batch 0:   x = [[0, 1,  2],     y = [[1,  2,  3],
                  [8, 9, 10]]          [9, 10, 11]]
  batch 1:   x = [[ 3,  4,  5],   y = [[ 4,  5,  6],
                  [11, 12, 13]]        [12, 13, 14]]

The tail of each stream (7 and 15) is too short for a third batch.
Dimensions in the comments: B = batch_size, T = num_steps.
"""

import dataclasses
import hashlib
import logging
import os

import numpy as np

from lm.base import tf1
from lm.text import ids_cache, sample_corpus
from lm.text.preparation import Preparation, read_preparation
from lm.text.word_ids import (
  EOS,
  UNKNOWN,
  DataError,
  check_folder,
  limited,
  read_ids,
)

_LOGGER = logging.getLogger(__name__)
_BLOCK = 1 << 22  # Words that are renumbered at a time.
_MOST_IN_GRAPH = 1 << 26  # Bytes of ids that a graph has as a constant.


@dataclasses.dataclass(frozen=True)
class Corpus:
  """The three data sets as ids, and the words that the ids stand for."""

  # int32 [number of words]; those of a large text are mapped from a file.
  train: np.ndarray | None  # None: it was not read.
  valid: np.ndarray
  test: np.ndarray
  vocabulary: list[str]  # vocabulary[i] is the word with id i.
  sha256: dict[str, str]  # The checksum of each file by its name.
  unknown: str = UNKNOWN  # The word that stands for unknown words.
  # How the texts were prepared, and the best perplexity on the test text.
  preparation: Preparation | None = None
  best_perplexity: float | None = None


def read_corpus(
  data_path,
  unknown=None,
  vocabulary=None,
  *,
  vocab_size=None,
  parts=("train", "valid", "test"),
  cache_dir=None,
):
  """Returns the Corpus of the three texts in the folder data_path.

  They are UTF-8, with a sentence a line and words between spaces. Words that
  the vocabulary lacks are read as `unknown` if the vocabulary has that word,
  else they are dropped. A warning reports how many.

  Args:
    data_path: the folder.
    unknown: the word that stands for unknown words; None for <unk>.
    vocabulary: the words in the order of their ids; None for those of the
      training text.
    vocab_size: how many of the training text's words to keep, the most
      frequent; all others are read as `unknown`. None keeps them all.
    parts: the texts to read. Without "train", the vocabulary must be given.
    cache_dir: the folder in which the ids of large texts are kept; None for
      the default, "" for none.

  Raises:
    InputError: if a file is missing, unreadable, damaged, or not UTF-8, or has
      no word in common with the vocabulary.
  """
  check_folder(data_path)
  unknown = UNKNOWN if unknown is None else unknown
  cache = ids_cache.open_cache(cache_dir, data_path)
  names = {part: f"ptb.{part}.txt" for part in parts}
  texts = {
    part: read_ids(os.path.join(data_path, name), cache)
    for part, name in names.items()
  }
  if vocabulary is None:
    vocabulary = limited(texts["train"].counts, vocab_size, unknown)
  _check_unknown(unknown, vocabulary)
  ids = {
    part: _to_ids(name, texts[part], vocabulary, unknown, cache)
    for part, name in names.items()
  }
  return Corpus(
    **{"train": None, **ids},
    vocabulary=vocabulary,
    sha256={name: texts[part].sha256 for part, name in names.items()},
    unknown=unknown,
    preparation=read_preparation(data_path),
    best_perplexity=sample_corpus.best_perplexity(
      data_path, texts["test"].sha256
    ),
  )


def ptb_raw_data(data_path=None):
  """Reads the three texts like `read_corpus`, in the tutorial's form.

  Returns:
    (train, valid, test, vocabulary): the ids of each text, and vocab_size.
  """
  corpus = read_corpus(data_path)
  return corpus.train, corpus.valid, corpus.test, len(corpus.vocabulary)


def _check_unknown(unknown, vocabulary):
  """Raises DataError, or warns, if `unknown` cannot be meant."""
  if unknown in ("", EOS):
    raise DataError(
      f"--unknown_word={unknown} cannot stand for unknown words: name a word "
      "of the training text, or leave it out."
    )
  if unknown in vocabulary:
    return
  if unknown != UNKNOWN:
    raise DataError(
      f"--unknown_word={unknown} is not in the vocabulary: leave it out, or "
      "name the word that stands for unknown words in the training text."
    )
  others = ("<UNK>", "UNK", "[UNK]", "<oov>", "<OOV>", "OOV", "unk")
  for other in (word for word in others if word in vocabulary):
    _LOGGER.warning(
      "The training text has no %s, but %s. If that stands for unknown words, "
      "add --unknown_word=%s.",
      *(unknown, other, other),
    )


def _to_ids(name, text, vocabulary, unknown, cache):
  """Returns the ids of a TextIds in a vocabulary, int32; see `read_corpus`."""
  own = text.vocabulary
  if own == vocabulary:
    return text.ids
  word_to_id = {word: i for i, word in enumerate(vocabulary)}
  if own == [EOS] or not set(own) & word_to_id.keys() - {EOS}:
    raise DataError(f"{name} has no word in common with the training text.")
  default = word_to_id.get(unknown, -1)
  fate = f"read them as {unknown}"
  if default < 0:
    fate = (
      f"dropped them, as it has no {unknown}. The perplexity is that of "
      "the other words: do not compare it with one of all words"
    )
  missing = sum(n for word, n in text.counts.items() if word not in word_to_id)
  if missing:
    number = f"{missing:,} of {len(text.ids):,} words"
    _LOGGER.warning("%s: the vocabulary lacks %s; %s.", name, number, fate)
  new_ids = np.array([word_to_id.get(word, default) for word in own], np.int32)

  def write(file):
    for begin in range(0, len(text.ids), _BLOCK):
      ids = new_ids[text.ids[begin : begin + _BLOCK]]
      file.write(ids[ids >= 0])

  if not isinstance(text.ids, np.memmap):
    cache = ids_cache.IdsCache(None)
  about = "\n".join([text.sha256, unknown, *vocabulary])
  key = hashlib.sha256(about.encode()).hexdigest()
  return cache.get(f"ids-{key}", write)[0]


def epoch_size(num_words, batch_size, num_steps):
  """Returns the number of [B, T] batches in an epoch; DataError if it is 0."""
  for name, value in (("batch_size", batch_size), ("num_steps", num_steps)):
    is_whole = isinstance(value, int | np.integer) and value is not True
    if not is_whole or value < 1:
      raise DataError(f"{name} must be a whole number above 0, not {value!r}.")
  # The - 1: a stream's last word is only a target, as no word follows it.
  size = (num_words // batch_size - 1) // num_steps
  if size < 1:
    advice = "Make batch_size or num_steps smaller."
    if batch_size == num_steps == 1:
      advice = "Choose a longer text."
    raise DataError(
      f"too few words for a batch: {num_words:,}, where batch_size x "
      f"(num_steps + 1) = {batch_size} x {num_steps + 1} are needed. {advice}"
    )
  return size


def check_sizes(corpus, batch_size, num_steps):
  """Raises DataError if a text of a Corpus is too short for one batch."""
  sizes = {"train": (batch_size, num_steps), "valid": (batch_size, num_steps)}
  sizes["test"] = (1, 1)  # It is read as one stream.
  for part, size in sizes.items():
    if getattr(corpus, part) is None:
      continue
    try:
      epoch_size(len(getattr(corpus, part)), *size)
    except DataError as error:
      raise DataError(f"ptb.{part}.txt: {error}") from None


def ptb_producer(
  raw_data, batch_size, num_steps, name=None, *, rows=slice(None)
):
  """Makes two tensors that hold the next batch each time they are fetched.

  Fetch both in the same `session.run`, so that they belong to the same batch.
  The first batch follows the last one of the epoch. Nothing needs to be
  initialized, and there are no queue runners to start.

  Args:
    raw_data: the ids of a data set, of one dimension.
    batch_size: B, the rows of a batch.
    num_steps: T, the columns of a batch.
    name: the name of the scope of the operations.
    rows: a slice of the B rows to read, if several workers share each batch.

  Returns:
    (x, y): int32 tensors [B, T], or fewer rows. y follows x by a word.

  Raises:
    DataError: if there are too few words for one batch, if they are not whole
      numbers, or if batch_size or num_steps is not above 0.
  """
  with tf1.name_scope(name, "PTBProducer"):
    size = epoch_size(len(raw_data), batch_size, num_steps)
    return batch_at(next_of(size), raw_data, batch_size, num_steps, rows)


def next_of(size):
  """Makes a tensor that counts its fetches: 0 to size - 1, and again from 0."""
  indices = tf1.data.Dataset.range(size, output_type=tf1.int32).repeat()
  # The thread that tunes pipelines once kept a finished run from ending.
  options = tf1.data.Options()
  options.autotune.enabled = False
  indices = indices.with_options(options)
  # With TF_DETERMINISTIC_OPS, TensorFlow asks for a seed, though it draws none.
  graph = tf1.get_default_graph()
  seed, graph.seed = graph.seed, 0
  try:
    return tf1.data.make_one_shot_iterator(indices).get_next()
  finally:
    graph.seed = seed


def batch_at(index, raw_data, batch_size, num_steps, rows=slice(None)):
  """Returns the batch of a number, an int32 tensor, as ptb_producer does.

  The ids become a constant of the graph, unless there are many: then each
  batch is read from where they are, such as a file.
  """
  begin = index * num_steps
  streams = _streams(raw_data, batch_size)[rows]
  shape = [len(streams), num_steps]
  if streams.nbytes <= _MOST_IN_GRAPH:
    streams = tf1.constant(streams)
    x = streams[:, begin : begin + num_steps]
    y = streams[:, begin + 1 : begin + num_steps + 1]
  else:
    both = tf1.numpy_function(
      lambda n: np.array(streams[:, n : n + num_steps + 1]), [begin], tf1.int32
    )
    x, y = both[:, :-1], both[:, 1:]
  x.set_shape(shape)
  y.set_shape(shape)
  return x, y


def ptb_iterator(raw_data, batch_size, num_steps):
  """Yields the batches of one epoch, for code that feeds them itself.

  They are pairs (x, y) of int32 arrays [B, T], as in `ptb_producer`, which
  raises the same errors.
  """
  size = epoch_size(len(raw_data), batch_size, num_steps)
  streams = _streams(raw_data, batch_size)
  begins = range(0, size * num_steps, num_steps)
  # Not by `yield`, so that an error comes at the call.
  return (
    (streams[:, i : i + num_steps], streams[:, i + 1 : i + num_steps + 1])
    for i in begins
  )


def _streams(raw_data, batch_size):
  """Returns the ids as an int32 array [B, words of a stream]."""
  ids = np.asanyarray(raw_data)
  if ids.ndim != 1 or ids.dtype.kind not in "iu":
    raise DataError(
      "The ids must be whole numbers in one dimension, not an array of "
      f"{ids.dtype} with the shape {ids.shape}."
    )
  is_checked = isinstance(ids, np.memmap) or not len(ids)  # Our file is right.
  if not is_checked and not 0 <= ids.min() <= ids.max() < 2**31:
    raise DataError("The ids must be from 0 to 2,147,483,647.")
  length = len(ids) // batch_size
  ids = ids[: batch_size * length].astype(np.int32, copy=False)
  return ids.reshape(batch_size, length)
