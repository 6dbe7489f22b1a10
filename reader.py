"""Turns PTB text into word ids, and word ids into batches.

A data set is one sequence of ids. The reader cuts it into batch_size streams of
equal length and reads them side by side, num_steps words at a time. So each row
of a batch continues the same row of the previous batch. The targets are the
words that follow the inputs. With 17 words, batch_size = 2 and num_steps = 3:

  ids:       0  1  2  3  4  5  6  7  8  9 10 11 12 13 14 15 16

  stream 0:  0  1  2 | 3  4  5 | 6  7        (16 is left over: the two streams
  stream 1:  8  9 10 |11 12 13 |14 15         must have the same length)

  batch 0:   x = [[0, 1,  2],     y = [[1,  2,  3],
                  [8, 9, 10]]          [9, 10, 11]]
  batch 1:   x = [[ 3,  4,  5],   y = [[ 4,  5,  6],
                  [11, 12, 13]]        [12, 13, 14]]

The tail of each stream (7 and 15) is too short for a third batch.
In the comments, B is batch_size and T is num_steps.
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
  limit_vocabulary,
  read_ids,
  read_word_list,
  vocabulary_of,
)

_LOGGER = logging.getLogger(__name__)
_BLOCK = 1 << 22  # Words that are renumbered at a time.
_SAMPLE = 1 << 20  # Words in which to look for what a text should not have.
# Words that other tools put at the ends of lines, and for unknown words.
_MARKS = ("<s>", "</s>")
_UNKNOWN_WORDS = (
  *("<UNK>", "UNK", "_UNK", "[UNK]", "unk", "<unknown>", "<RNN_UNK>"),
  *("<oov>", "<OOV>", "OOV", "<oos>", "<SPOKEN_NOISE>"),
)
_MOST_IN_GRAPH = 1 << 26  # Bytes of ids that a graph can have as a constant.


@dataclasses.dataclass(frozen=True)
class Corpus:
  """The three data sets as ids, and the words that the ids stand for."""

  # int32 [number of words], in memory or, for a large text, mapped from a file.
  train: np.ndarray | None  # None if it was not read.
  valid: np.ndarray
  test: np.ndarray
  vocabulary: list[str]  # vocabulary[i] is the word with id i.
  sha256: dict[str, str]  # The checksum of each file by its name.
  unknown: str = UNKNOWN  # The word that stands for unknown words.
  preparation: Preparation | None = None  # How the texts were prepared.
  best_perplexity: float | None = None  # Of a perfect model on the test text.

  @property
  def eos(self):
    """The id of <eos>; None if the vocabulary has none."""
    return self.vocabulary.index(EOS) if EOS in self.vocabulary else None


def read_corpus(
  data_path,
  unknown=None,
  vocabulary=None,
  *,
  vocab_size=None,
  word_list=None,
  parts=("train", "valid", "test"),
  cache_dir=None,
):
  """Reads the three texts in a folder.

  They are UTF-8, with one sentence per line and spaces between the words. Words
  that the vocabulary lacks are read as `unknown`. If it also lacks `unknown`,
  they are left out. A warning gives their number.

  Args:
    data_path: the folder with ptb.train.txt, ptb.valid.txt and ptb.test.txt.
    unknown: the word that stands for unknown words; None for <unk>.
    vocabulary: the words in the order of their ids; None for the words of the
      training text.
    vocab_size: the largest number of words in the vocabulary. The reader keeps
      the most frequent words, and reads the others as `unknown`. None for no
      limit.
    word_list: a file with the words of the vocabulary, one on each line. Their
      ids are in the order of frequency in the training text.
    parts: the texts to read. Without "train", give the vocabulary.
    cache_dir: the folder that stores the ids of large texts; None for
      .ids_cache in data_path, "" for no folder.

  Returns:
    A Corpus.

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
  if word_list is not None:
    counts = texts["train"].counts
    words = read_word_list(word_list)
    _report_missing(word_list, words, counts)
    vocabulary = vocabulary_of({word: counts.get(word, 0) for word in words})
  elif vocabulary is None:
    counts = texts["train"].counts
    vocabulary = limit_vocabulary(counts, vocab_size, unknown)
  _check_unknown(unknown, vocabulary)
  ids = {
    part: _to_ids(name, texts[part], vocabulary, unknown, cache)
    for part, name in names.items()
  }
  if "train" in texts:
    _report_marks(texts["train"].ids, texts["train"].counts)
  for part, name in names.items():
    _report_share(name, ids[part], vocabulary, unknown)
  return Corpus(
    **{"train": None, **ids},
    vocabulary=vocabulary,
    sha256={name: texts[part].sha256 for part, name in names.items()},
    unknown=unknown,
    preparation=read_preparation(data_path),
    best_perplexity=_best_perplexity(data_path, texts["test"], vocabulary),
  )


def _best_perplexity(data_path, text, vocabulary):
  """Returns Corpus.best_perplexity; None if the vocabulary lacks some words.

  `text` is the TextIds of the test text.
  """
  best = sample_corpus.best_perplexity(data_path, text.sha256)
  if best is not None and not set(text.counts).issubset(vocabulary):
    return None
  return best


def ptb_raw_data(data_path=None):
  """Reads the three texts as the TF1 tutorial's function of this name did.

  Returns:
    (train, valid, test, vocabulary): the ids of each text, int32 [number of
    words], and the number of words in the vocabulary.

  Raises:
    InputError: see read_corpus.
  """
  corpus = read_corpus(data_path)
  return corpus.train, corpus.valid, corpus.test, len(corpus.vocabulary)


def _read_words(filename):
  """Returns a text's words, <eos> for each newline, as in the TF1 tutorial.

  Raises DataError if it cannot be read, or has no words.
  """
  text = read_ids(filename, ids_cache.IdsCache(None))
  vocabulary = text.vocabulary  # The property makes a list each time.
  return [vocabulary[i] for i in text.ids]


def _build_vocab(filename):
  """Returns {word: id} of a text, the most frequent word first.

  Raises DataError if it cannot be read, or has no words.
  """
  text = read_ids(filename, ids_cache.IdsCache(None))
  return {word: i for i, word in enumerate(text.vocabulary)}


def _file_to_word_ids(filename, word_to_id):
  """Returns the ids of a text's words, leaving out those without an id.

  Raises DataError if the text cannot be read, or has no words.
  """
  words = _read_words(filename)
  return [word_to_id[word] for word in words if word in word_to_id]


def _check_unknown(unknown, vocabulary):
  """Raises DataError, or warns, if `unknown` is probably not the right word."""
  if unknown in ("", EOS):
    raise DataError(
      f"--unknown_word={unknown} cannot stand for unknown words: use a word "
      "of the training text, or leave the flag out."
    )
  if unknown in vocabulary:
    return
  if unknown != UNKNOWN:
    raise DataError(
      f"--unknown_word={unknown} is not in the vocabulary: use the word that "
      "stands for unknown words in the training text, or leave the flag out."
    )
  for word in _UNKNOWN_WORDS:
    if word in vocabulary:
      _LOGGER.warning(
        "The vocabulary has no %s, but it has %s. If %s stands for unknown "
        "words, add --unknown_word=%s.",
        *(unknown, word, word, word),
      )


def _report_marks(ids, counts):
  """Warns if the lines of the training text have marks at their ends.

  They cost the model nothing, so the perplexity would be far too low.

  Args:
    ids: the ids of the text.
    counts: {word: number of occurrences} in the order of the ids.
  """
  lines = counts.get(EOS, 0)
  marks = [m for m in _MARKS if counts.get(m, 0) > 0.9 * lines]
  # A word <eos> before a newline, which is read as <eos> as well.
  eos = list(counts).index(EOS) if lines else -1
  first = np.asarray(ids[:_SAMPLE]) == eos
  if np.count_nonzero(first[1:] & first[:-1]) > 0.45 * first.sum() > 0:
    marks.append(f"{EOS} or a blank line")
  if marks:
    _LOGGER.warning(
      "Nearly every line of ptb.train.txt has %s at its start or end. These "
      "are easy to predict, so the perplexity is too low. Remove them from all "
      "three texts: "
      r"sed -E -i '/^\s*$/d; s#^\s*<s>|(</s>|<eos>)\s*$##g' ptb.*.txt",
      " and ".join(marks),
    )


def _report_missing(word_list, words, counts):
  """Warns if a list has words that the training text lacks.

  Args:
    word_list: the path of the list.
    words: its words.
    counts: {word: number of occurrences} of the training text.
  """
  missing = [word for word in words if word not in counts]
  if missing:
    _LOGGER.warning(
      "ptb.train.txt lacks %s of the %s words in %s, such as %s. The "
      "vocabulary keeps such words, but the model learns only that they are "
      "rare.",
      *(f"{len(missing):,}", f"{len(words):,}", word_list, missing[0]),
    )


def _report_share(name, ids, vocabulary, unknown):
  """Warns if more than a third of a text's words are the unknown word."""
  if unknown not in vocabulary:
    return
  share = np.mean(np.asarray(ids[:_SAMPLE]) == vocabulary.index(unknown))
  if share > 1 / 3:
    _LOGGER.warning(
      "%s: %.0f%% of the words are %s, so the perplexity tells little about "
      "the text. The vocabulary lacks most of its words, or the text has no "
      "spaces between words, as in Chinese: see docs/own_text.md.",
      *(name, 100 * share, unknown),
    )


def _to_ids(name, text, vocabulary, unknown, cache):
  """Returns a text's ids in a vocabulary.

  Args:
    name: the text's name for messages.
    text: a TextIds, whose ids belong to the text's own vocabulary.
    vocabulary: the words in the order of the new ids.
    unknown: the word to read in place of words that the vocabulary lacks.
    cache: an ids_cache.IdsCache, for the ids of a large text.

  Returns:
    int32 [number of words]. Without `unknown` in the vocabulary, the ids of
    words that it lacks are left out.

  Raises:
    DataError: if no word of the text is in the vocabulary, or if <eos> is not.
  """
  if text.vocabulary == vocabulary:
    return text.ids
  word_to_id = {word: i for i, word in enumerate(vocabulary)}
  if EOS in text.counts and EOS not in word_to_id:
    raise DataError(
      f"The vocabulary has no {EOS}, which stands for the end of each line, so "
      f"the line ends of {name} would be unknown words. Add {EOS} to it."
    )
  if not text.counts.keys() & word_to_id.keys() - {EOS}:
    raise DataError(
      f"{name} has no word in common with the model's vocabulary."
    )
  unknown_id = word_to_id.get(unknown, -1)  # -1: leave these words out.
  _report_unknown(name, text, word_to_id, unknown)
  old_to_new = np.array(
    [word_to_id.get(word, unknown_id) for word in text.counts], np.int32
  )

  def write(file):
    for begin in range(0, len(text.ids), _BLOCK):
      ids = old_to_new[text.ids[begin : begin + _BLOCK]]
      file.write(ids[ids >= 0])

  if not isinstance(text.ids, np.memmap):
    cache = ids_cache.IdsCache(None)
  content = "\n".join([text.sha256, unknown, *vocabulary])
  key = hashlib.sha256(content.encode()).hexdigest()
  return cache.get(f"ids-{key}", write)[0]


def _report_unknown(name, text, word_to_id, unknown):
  """Warns of a text's words that are not in the vocabulary, if there are any.

  For the arguments, see _to_ids. `word_to_id` has the words of the vocabulary.
  """
  missing = sum(n for word, n in text.counts.items() if word not in word_to_id)
  if not missing:
    return
  treatment = f"Such words are read as {unknown}"
  if unknown not in word_to_id:
    treatment = (
      f"Such words are left out, because it has no {unknown}. The perplexity "
      "covers only the other words: do not compare it with one of all words"
    )
  number = f"{missing:,} of {len(text.ids):,} words"
  _LOGGER.warning("%s: the vocabulary lacks %s. %s.", name, number, treatment)


def epoch_size(num_words, batch_size, num_steps):
  """Returns the number of [B, T] batches in an epoch.

  Raises:
    DataError: if there are too few words for one batch.
  """
  # The - 1: a stream's last word is only a target, as no word follows it.
  size = (num_words // batch_size - 1) // num_steps
  if size < 1:
    advice = "Make batch_size or num_steps smaller."
    if batch_size == num_steps == 1:
      advice = "Choose a longer text."
    raise DataError(
      f"too few words for a batch: {num_words:,}, but batch_size x "
      f"(num_steps + 1) = {batch_size} x {num_steps + 1} are needed. {advice}"
    )
  return size


def check_ids(data, vocab_size):
  """Raises DataError unless all ids are from 0 to vocab_size - 1.

  A GPU would read words of other ids as vectors of zeros, without an error.
  """
  if vocab_size is None or not len(data):
    return
  least, largest = np.min(data), np.max(data)
  if least < 0 or largest >= vocab_size:
    raise DataError(
      f"the data has ids from {least} to {largest}, but the config's "
      f"vocab_size={vocab_size} allows 0 to {vocab_size - 1}. Set vocab_size "
      "to the number of words in the vocabulary."
    )


def check_sizes(corpus, batch_size, num_steps):
  """Raises DataError if a text of a Corpus is too short for one batch."""
  sizes = {"train": (batch_size, num_steps), "valid": (batch_size, num_steps)}
  sizes["test"] = (1, 1)  # The test text is read as one stream, word by word.
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
  After the last batch of the epoch, the first one follows again. You need not
  initialize anything or start queue runners.

  Args:
    raw_data: the ids of a data set, whole numbers in one dimension.
    batch_size: B, the rows of a batch.
    num_steps: T, the columns of a batch.
    name: the name of the scope of the operations.
    rows: a slice of the B rows to read, if several workers share each batch.

  Returns:
    (x, y): int32 tensors [B, T], or fewer rows. y is x, one word later.

  Raises:
    DataError: if there are too few words for one batch.
    RuntimeError: in eager mode.
  """
  with tf1.name_scope(name, "PTBProducer"):
    size = epoch_size(len(raw_data), batch_size, num_steps)
    return batch_at(next_index(size), raw_data, batch_size, num_steps, rows)


def next_index(size):
  """Makes a tensor that counts its fetches: 0 to size - 1, then from 0 again.

  Raises RuntimeError in eager mode.
  """
  tf1.require_graph("ptb_producer")
  indices = tf1.data.Dataset.range(size, output_type=tf1.int32).repeat()
  # The thread that tunes pipelines once kept a finished run from ending.
  options = tf1.data.Options()
  options.autotune.enabled = False
  indices = indices.with_options(options)
  # TF_DETERMINISTIC_OPS wants a seed, although nothing is drawn.
  graph = tf1.get_default_graph()
  seed, graph.seed = graph.seed, 0
  try:
    return tf1.data.make_one_shot_iterator(indices).get_next()
  finally:
    graph.seed = seed


def batch_at(index, raw_data, batch_size, num_steps, rows=slice(None)):
  """Returns one batch (x, y), two tensors as in ptb_producer.

  `index` is the number of the batch, from 0, an int32 scalar tensor. For the
  other arguments, see ptb_producer. The ids become a constant of the graph. If
  they have more than 64 MiB, each batch is read from raw_data, which may be a
  file, instead.
  """
  begin = index * num_steps
  streams = _streams(raw_data, batch_size)[rows]
  shape = [len(streams), num_steps]
  if streams.nbytes <= _MOST_IN_GRAPH:
    streams = tf1.constant(streams)
    # The tutorial's operation, so that tensors have the names it gave them.
    end = begin + num_steps
    x = tf1.strided_slice(streams, [0, begin], [shape[0], end])
    y = tf1.strided_slice(streams, [0, begin + 1], [shape[0], end + 1])
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

  They are pairs (x, y) of int32 arrays [B, T]. For the arguments and errors,
  see ptb_producer.
  """
  size = epoch_size(len(raw_data), batch_size, num_steps)
  streams = _streams(raw_data, batch_size)
  begins = range(0, size * num_steps, num_steps)
  # With `yield`, errors would come only when the first batch is read.
  # Copies, so that a program that writes into a batch leaves the corpus alone.
  return (
    (
      streams[:, i : i + num_steps].copy(),
      streams[:, i + 1 : i + num_steps + 1].copy(),
    )
    for i in begins
  )


def _streams(raw_data, batch_size):
  """Cuts ids into streams: an int32 array [B, words of a stream]."""
  length = len(raw_data) // batch_size
  ids = np.asanyarray(raw_data)[: batch_size * length]
  # "same_kind" refuses fractions rather than rounding them.
  ids = ids.astype(np.int32, casting="same_kind", copy=False)
  return ids.reshape(batch_size, length)
