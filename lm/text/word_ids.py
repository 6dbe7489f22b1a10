"""Reads a text as words, and numbers the words of its vocabulary."""

import codecs
import collections
import dataclasses
import glob
import hashlib
import os

import numpy as np
import tqdm

from lm.base.command import InputError, tell
from lm.base.files import open_text
from lm.text import ids_cache

EOS = "<eos>"  # The word that stands for the end of a line.
UNKNOWN = "<unk>"  # The word that stands for words outside the vocabulary.
_LARGE = 20_000_000  # Bytes of a text that takes about two seconds to read.
_TEXT_BLOCK = 1 << 22  # Bytes of a text that are read at a time.
_IDS_BLOCK = 1 << 24  # Bytes of ids that are renumbered at a time.


@dataclasses.dataclass(frozen=True)
class TextIds:
  """A text as ids: the id of a word is its rank, from 0, by frequency."""

  ids: np.ndarray  # int32 [number of words], in memory or mapped from a file.
  counts: dict[str, int]  # How often each word occurs, in the order of ids.
  sha256: str  # The checksum of the file.

  @property
  def vocabulary(self):
    """The words in the order of their ids."""
    return list(self.counts)


class DataError(InputError, ValueError):
  """A text that is missing, unreadable, or too short for a batch."""


def read_vocabulary(
  data_path, vocab_size=None, unknown=UNKNOWN, cache_dir=None
):
  """Returns the vocabulary of the ptb.train.txt in a folder.

  For the arguments, see reader.read_corpus.

  Raises:
    DataError: if the folder or the text is missing or cannot be used.
  """
  check_folder(data_path)
  path = os.path.join(data_path, "ptb.train.txt")
  counts = read_ids(path, ids_cache.open_cache(cache_dir, data_path)).counts
  return limit_vocabulary(counts, vocab_size, unknown)


def read_word_list(path):
  """Returns the words of a list: the first field of each line.

  </s> is read as <eos>. <s> is left out, as <eos> stands for both.

  Raises:
    DataError: if the file is not UTF-8, lacks <eos>, or has a word twice.
    OSError: if it cannot be read.
  """
  with open_text(path) as file:
    lines = decode(file.read(), path).split("\n")
  words = [line.split()[0] for line in lines if line.strip()]
  words = [EOS if word == "</s>" else word for word in words if word != "<s>"]
  if EOS not in words:
    raise DataError(
      f"{path} lacks a line with {EOS} or </s>, the end of a line: add one."
    )
  counts = collections.Counter(words)
  word, count = counts.most_common(1)[0]
  if count > 1:
    raise DataError(
      f"{path} has the word '{word}' {count} times: list each word only once."
    )
  return words


def vocabulary_of(counts):
  """Returns the words of a training text in the order of their ids.

  The most frequent word comes first. Words that are equally frequent are in
  alphabetical order. `counts` is {word: number of occurrences}.
  """
  return sorted(counts, key=lambda word: (-counts[word], word))


def limit_vocabulary(counts, vocab_size, unknown=UNKNOWN):
  """Returns the vocabulary with all but the most frequent words as `unknown`.

  It is the vocabulary that the text would have if prepare_text.py had replaced
  the rare words.

  Args:
    counts: {word: number of occurrences} of the training text.
    vocab_size: the largest number of words, including `unknown` and <eos>;
      None for no limit.
    unknown: the word that stands for the rare words.
  """
  if vocab_size is None:
    return vocabulary_of(counts)
  special = {word: counts.get(word, 0) for word in (EOS, unknown)}
  others = {word: n for word, n in counts.items() if word not in special}
  frequent = vocabulary_of(others)[: vocab_size - 2]
  limited = {word: counts[word] for word in frequent} | special
  num_rare = sum(others.values()) - sum(others[word] for word in frequent)
  limited[unknown] += num_rare
  return vocabulary_of({word: n for word, n in limited.items() if n})


def check_folder(data_path):
  """Raises DataError if the folder does not exist."""
  meaning = (
    "the folder with the ptb.*.txt files (scripts/download_ptb.sh creates "
    "simple-examples/data)"
  )
  if not data_path:
    raise DataError(f"--data_path is missing: give {meaning}.")
  if not os.path.isdir(data_path):
    raise DataError(f"There is no folder '{data_path}'. Give {meaning}.")


def read_ids(path, cache):
  """Reads a UTF-8 text as ids, with "<eos>" in place of each newline.

  A large text is read in blocks, and its ids are stored in the cache.

  Args:
    path: the text's path.
    cache: an ids_cache.IdsCache.

  Returns:
    A TextIds.

  Raises:
    DataError: if the file is missing, unreadable, not UTF-8, or has no words.
  """
  try:
    size = os.path.getsize(path)
    sha256 = _sha256_of(path)
    if size < _LARGE:
      cache = ids_cache.IdsCache(None)
    ids, counts = cache.get(
      f"text-{sha256}", lambda file: _write_ids(file, path, size)
    )
  except FileNotFoundError:
    raise DataError(f"{path} is missing. {_advice_for(path)}") from None
  except OSError as error:
    raise DataError(f"{path} cannot be read: {error.strerror}.") from None
  return TextIds(ids, counts, sha256)


def _write_ids(file, path, size):
  """Writes the ids of a text to a file that is open for reading and writing.

  Args:
    file: the file.
    path: the text's path.
    size: the text's number of bytes before its checksum was computed.

  Returns:
    {word: number of occurrences}, in the order of the ids.
  """
  is_large = size >= _LARGE
  if is_large:
    tell(f"Reading {path}, {size / 1e6:,.0f} MB, for the first time.")
  numbers = _Numbers()
  counts = np.zeros(0, np.int64)  # [number of words so far], by number.
  with tqdm.tqdm(
    total=size,
    desc=os.path.basename(path),
    leave=False,
    unit="B",
    unit_scale=True,
    disable=None if is_large else True,  # None: on a terminal only.
  ) as bar:
    for num_bytes, text in _texts_in(path):
      words = text.replace("\n", f" {EOS} ").split()
      ids = np.fromiter(map(numbers.__getitem__, words), np.int32, len(words))
      file.write(ids)
      total = np.bincount(ids, minlength=len(numbers))
      total[: len(counts)] += counts
      counts = total
      bar.update(num_bytes)
  if os.path.getsize(path) != size:  # As while it is copied or downloaded.
    raise DataError(f"{path} changed while it was read. Start again.")
  if not numbers.keys() - {EOS}:
    raise DataError(f"{path} is empty: it must have at least one word.")
  counts = dict(zip(numbers, counts.tolist(), strict=True))
  vocabulary = vocabulary_of(counts)
  number_to_id = np.empty(len(vocabulary), np.int32)
  in_order = [numbers[word] for word in vocabulary]
  number_to_id[in_order] = np.arange(len(vocabulary))
  file.seek(0)
  while block := file.read(_IDS_BLOCK):
    file.seek(-len(block), os.SEEK_CUR)
    file.write(number_to_id[np.frombuffer(block, np.int32)])
  return {word: counts[word] for word in vocabulary}


class _Numbers(dict):
  """Numbers words in the order in which they are first looked up."""

  def __missing__(self, word):
    number = self[word] = len(self)
    return number


def _texts_in(path):
  """Yields a file in parts, cut between words: (number of bytes, text)."""
  begin, rest = 0, b""
  for block in _blocks_in(path):
    content = rest + block
    end = 1 + max(content.rfind(space) for space in (b"\n", b" ", b"\t"))
    if end:
      yield end, decode(content[:end], path, begin)
    begin += end
    rest = content[end:]
  if rest:
    yield len(rest), decode(rest, path, begin)


def _blocks_in(path):
  """Yields the bytes of a file, _TEXT_BLOCK at a time."""
  with open(path, "rb", 0) as file:
    while block := file.read(_TEXT_BLOCK):
      yield block


def _sha256_of(path):
  """Returns the checksum of a file; raises OSError if it cannot be read."""
  sha256 = hashlib.sha256()
  for block in _blocks_in(path):
    sha256.update(block)
  return sha256.hexdigest()


def _advice_for(path):
  """Returns a sentence about what to do if a ptb.*.txt is missing."""
  folder, name = os.path.split(path)
  part = name.removeprefix("ptb.").removesuffix(".txt")
  endings = f"{part}.txt", f"{part}.tokens"
  others = [n for n in sorted(os.listdir(folder)) if n.endswith(endings)]
  if others:
    return (
      f"Rename {others[0]} to {name} if it has one sentence per line and "
      "spaces between the words. If not, prepare it with "
      "scripts/prepare_text.py."
    )
  inner = glob.glob(os.path.join(glob.escape(folder), "*", name))
  if inner:
    return f"Use --data_path={os.path.dirname(min(inner))}, which has one."
  return (
    "scripts/download_ptb.sh downloads the three texts of the Penn Treebank. "
    "For texts of your own, see docs/own_text.md."
  )


def decode(content, name, begin=0):
  """Decodes UTF-8, turns line endings into newlines, drops byte-order marks.

  Args:
    content: the bytes, which may be a part of a text.
    name: the text's name for error messages.
    begin: the offset of the bytes in the text.

  Raises:
    DataError: if the bytes are not UTF-8.
  """
  if begin == 0 and content.startswith(
    (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
  ):
    raise DataError(
      f"{name} is UTF-16 text. Convert it with `iconv -f UTF-16 -t UTF-8 OLD > "
      "NEW`, or choose another text."
    )
  try:
    text = content.decode("utf-8")
  except UnicodeDecodeError as error:
    raise DataError(
      f"{name} is not UTF-8 text: byte {content[error.start]:#04x} at offset "
      f"{begin + error.start}. Convert it to UTF-8, or choose another text."
    ) from None
  if "\0" in text:  # UTF-16 text, read as UTF-8, has one for each letter.
    raise DataError(
      f"{name} has NUL characters, as UTF-16 text has. Convert it to UTF-8."
    )
  # Files that were joined can have byte-order marks in the middle.
  return text.replace("\r\n", "\n").replace("\r", "\n").replace("\ufeff", "")
