"""Turns PTB text into word ids, and word ids into batches.

A data set is one stream of ids. It is cut into batch_size streams of equal
length that are read side by side, num_steps words at a time, so that each row
of a batch goes on where the same row of the batch before it ended. The targets
are the words that follow. With 17 words, batch_size = 2 and num_steps = 3:

  ids:       0  1  2  3  4  5  6  7  8  9 10 11 12 13 14 15 16

  stream 0:  0  1  2 | 3  4  5 | 6  7        (16 is left over: it would make
  stream 1:  8  9 10 |11 12 13 |14 15         the streams unequal)

  batch 0:   x = [[0, 1,  2],     y = [[1,  2,  3],
                  [8, 9, 10]]          [9, 10, 11]]
  batch 1:   x = [[ 3,  4,  5],   y = [[ 4,  5,  6],
                  [11, 12, 13]]        [12, 13, 14]]

The tail of each stream (7 and 15) is too short for a third batch.
Dimensions in the comments: B = batch_size, T = num_steps.
"""

import collections
import dataclasses
import hashlib
import math
import os

import numpy as np
from absl import logging

from lm import tf1
from lm.text import EOS, DataError, decode


@dataclasses.dataclass(frozen=True)
class Corpus:
  """The three data sets as ids, and the words that the ids stand for.

  The ids are int32 arrays of one dimension. `vocabulary[i]` is the word with
  id i. `sha256` has the checksum of each file by its name.
  """

  train: np.ndarray
  valid: np.ndarray
  test: np.ndarray
  vocabulary: list[str]
  sha256: dict[str, str]


def read_corpus(data_path):
  """Reads ptb.train.txt, ptb.valid.txt and ptb.test.txt.

  Words of the other two texts that the vocabulary lacks are dropped, and their
  number is logged.

  Args:
    data_path: the folder with the three files, UTF-8, each line a sentence.

  Returns:
    A Corpus.

  Raises:
    DataError: for a file that is missing, unreadable, not UTF-8, without a
      word, or without a word that the training text has.
  """
  _check_folder(data_path)
  sha256, words = {}, {}
  for part in ("train", "valid", "test"):
    name = f"ptb.{part}.txt"
    words[part], sha256[name] = _read_words(os.path.join(data_path, name))
  vocabulary = vocabulary_of(words["train"])
  word_to_id = {word: i for i, word in enumerate(vocabulary)}
  ids = {
    part: _to_ids(f"ptb.{part}.txt", words[part], word_to_id) for part in words
  }
  return Corpus(**ids, vocabulary=vocabulary, sha256=sha256)


def read_vocabulary(data_path):
  """Returns the words in the order of their ids, from ptb.train.txt alone.

  Raises:
    DataError: as `read_corpus` does.
  """
  _check_folder(data_path)
  words, _ = _read_words(os.path.join(data_path, "ptb.train.txt"))
  return vocabulary_of(words)


def vocabulary_of(words):
  """Returns the different words of a training text, each at its id's place.

  The most frequent word is the first; words equally frequent are in
  alphabetical order.
  """
  counts = collections.Counter(words)
  return sorted(counts, key=lambda word: (-counts[word], word))


def _check_folder(data_path):
  """Raises DataError if there is no such folder."""
  if not data_path or not os.path.isdir(data_path):
    raise DataError(
      f"There is no folder '{data_path or ''}'. Name the one with the "
      "ptb.*.txt files (scripts/download_ptb.sh makes simple-examples/data)."
    )


def ptb_raw_data(data_path=None):
  """Reads the three texts: `read_corpus` in the tutorial's form.

  Returns:
    (train_data, valid_data, test_data, vocabulary): three int32 arrays of one
    dimension, and the number of different words.

  Raises:
    DataError: as `read_corpus` does.
  """
  corpus = read_corpus(data_path)
  return corpus.train, corpus.valid, corpus.test, len(corpus.vocabulary)


def _read_words(path):
  """Returns the words of a file, "<eos>" for each newline, and its SHA-256."""
  if os.path.exists(path) and not os.path.isfile(path):
    raise DataError(f"{path} cannot be read: it is not a regular file.")
  try:
    with open(path, "rb") as f:
      content = f.read()
  except FileNotFoundError:
    raise DataError(
      f"{path} is missing. scripts/download_ptb.sh fetches all three ptb.*.txt."
    ) from None
  except OSError as error:
    raise DataError(f"{path} cannot be read: {error.strerror}.") from None
  words = decode(content, path).replace("\n", f" {EOS} ").split()
  if not set(words) - {EOS}:
    raise DataError(f"{path} is empty: it must have at least one word.")
  return words, hashlib.sha256(content).hexdigest()


def _to_ids(name, words, word_to_id):
  """Returns the ids of the words that have one, an int32 array."""
  if not set(words) & word_to_id.keys() - {EOS}:
    raise DataError(f"{name} has no word in common with ptb.train.txt.")
  ids = np.array(
    [word_to_id[word] for word in words if word in word_to_id], np.int32
  )
  if len(ids) < len(words):
    logging.warning(
      "%s: dropped %s of %s words, which ptb.train.txt lacks.",
      name,
      f"{len(words) - len(ids):,}",
      f"{len(words):,}",
    )
  return ids


def epoch_size(num_words, batch_size, num_steps):
  """Returns how many batches of [batch_size, num_steps] an epoch has.

  Raises:
    DataError: if there are too few words for one batch.
  """
  # The - 1: the last word of a stream has no next word in the stream, so it is
  # a target only, and a stream of n words has n - 1 inputs.
  size = (num_words // batch_size - 1) // num_steps
  if size < 1:
    advice = "Make batch_size or num_steps smaller."
    if batch_size == num_steps == 1:
      advice = "Take a longer text."
    raise DataError(
      f"too few words for a batch: {num_words:,}, where batch_size x "
      f"(num_steps + 1) = {batch_size} x {num_steps + 1} are needed. {advice}"
    )
  return size


def ptb_producer(raw_data, batch_size, num_steps, name=None):
  """Makes tensors that are the next batch each time they are fetched.

  Both must be fetched in the same `session.run` to belong together. After the
  epoch's last batch comes its first again. Nothing needs to be initialized,
  and no queue runner started.

  Args:
    raw_data: the ids of a data set, of one dimension.
    batch_size: B, the rows of a batch.
    num_steps: T, the columns of a batch.
    name: of the scope of the operations.

  Returns:
    (x, y): int32 tensors [B, T], y the words that follow those of x.

  Raises:
    DataError: if there are too few words for one batch.
  """
  with tf1.name_scope(name, "PTBProducer"):
    size = epoch_size(len(raw_data), batch_size, num_steps)
    indices = tf1.data.Dataset.range(size, output_type=tf1.int32).repeat()
    # Nothing here is to be tuned, and once the thread that would do it kept a
    # finished run from ending.
    options = tf1.data.Options()
    options.autotune.enabled = False
    indices = indices.with_options(options)
    begin = tf1.data.make_one_shot_iterator(indices).get_next() * num_steps
    streams = tf1.constant(_streams(raw_data, batch_size))
    x = streams[:, begin : begin + num_steps]
    y = streams[:, begin + 1 : begin + num_steps + 1]
    x.set_shape([batch_size, num_steps])
    y.set_shape([batch_size, num_steps])
    return x, y


def ptb_iterator(raw_data, batch_size, num_steps):
  """Yields the batches of one epoch, for code that feeds them itself.

  Args:
    raw_data: the ids of a data set, of one dimension.
    batch_size: B, the rows of a batch.
    num_steps: T, the columns of a batch.

  Yields:
    (x, y): int32 arrays [B, T], y the words that follow those of x.

  Raises:
    DataError: if there are too few words for one batch.
  """
  streams = _streams(raw_data, batch_size)
  for i in range(epoch_size(len(raw_data), batch_size, num_steps)):
    begin, end = i * num_steps, (i + 1) * num_steps
    yield streams[:, begin:end], streams[:, begin + 1 : end + 1]


def side_by_side(raw_data, batch_size, num_steps):
  """Cuts one stream into pieces that are read side by side, without a rest.

  Args:
    raw_data: the ids of a text, of one dimension, at least two.
    batch_size: B, the pieces.
    num_steps: T, the words of a step.

  Returns:
    (x, y, is_real), each [steps, B, T]: the ids int32, those that follow, and
    whether y is a word of the text. Zeros fill up the last piece, or more.
  """
  steps = math.ceil((len(raw_data) - 1) / (batch_size * num_steps))
  shape = [batch_size, steps, num_steps]
  stream = np.zeros(batch_size * steps * num_steps + 1, np.int32)
  stream[: len(raw_data)] = raw_data
  is_real = np.arange(1, len(stream)) < len(raw_data)
  return tuple(
    words.reshape(shape).transpose(1, 0, 2)
    for words in (stream[:-1], stream[1:], is_real)
  )


def _streams(raw_data, batch_size):
  """Returns the ids as an int32 array [batch_size, words of a stream]."""
  length = len(raw_data) // batch_size
  ids = np.asarray(raw_data, np.int32)[: batch_size * length]
  return ids.reshape(batch_size, length)
