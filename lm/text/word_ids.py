"""Reads texts as words, and numbers the words of a vocabulary."""

import codecs
import dataclasses
import glob
import hashlib
import itertools
import os

import numpy as np
import tqdm

from lm.base.command import InputError, tell
from lm.text import ids_cache

EOS = "<eos>"  # The word that stands for the end of a line.
UNKNOWN = "<unk>"  # The word that stands for words outside the vocabulary.
_SMALL = 20_000_000  # A text of fewer bytes is read in less than two seconds.
_BLOCK = 1 << 24  # Bytes of ids that are renumbered at a time.
_LONGEST = 50_000_000  # Bytes of a word; a file of another kind may have none.


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

  The other arguments are those of reader.read_corpus.

  Raises:
    DataError: if the folder or the text is missing or cannot be used.
  """
  check_folder(data_path)
  path = os.path.join(data_path, "ptb.train.txt")
  counts = read_ids(path, ids_cache.open_cache(cache_dir, data_path)).counts
  return limited(counts, vocab_size, unknown)


def vocabulary_of(counts):
  """Returns the words of a training text, {word: count}, in their ids' order.

  The most frequent word comes first. Words that are equally frequent are in
  alphabetical order.
  """
  return sorted(counts, key=lambda word: (-counts[word], word))


def limited(counts, vocab_size, unknown=UNKNOWN):
  """Returns the vocabulary if all but the most frequent words are `unknown`.

  It has at most vocab_size words, with `unknown` and <eos> among them: what the
  text would have if prepare_text.py had replaced the others. None is no limit.
  `counts` are those of the text, {word: count}.
  """
  if vocab_size is None:
    return vocabulary_of(counts)
  always = {word: counts.get(word, 0) for word in (EOS, unknown)}
  others = {word: n for word, n in counts.items() if word not in always}
  frequent = vocabulary_of(others)[: vocab_size - 2]
  kept = {word: counts[word] for word in frequent} | always
  kept[unknown] += sum(others.values()) - sum(counts[w] for w in frequent)
  return vocabulary_of({word: n for word, n in kept.items() if n})


def check_folder(data_path):
  """Raises DataError if the folder does not exist."""
  what = "the folder with the ptb.*.txt files (scripts/download_ptb.sh makes "
  what += "simple-examples/data)"
  if not data_path:
    raise DataError(f"--data_path is missing: {what}.")
  if not os.path.isdir(data_path):
    raise DataError(f"There is no folder '{data_path}'. Name {what}.")


def read_ids(path, cache):
  """Reads a UTF-8 text as ids, with "<eos>" in place of each newline.

  A large text is read in blocks, and its ids are kept in the cache.

  Args:
    path: the text's path.
    cache: an ids_cache.IdsCache.

  Returns:
    A TextIds.

  Raises:
    DataError: if the file is missing, unreadable, not UTF-8, or has no word.
  """
  try:
    size = os.path.getsize(path)
    next(_texts_in(path), None)  # What is no text at all is noticed at once.
    sha256 = ids_cache.sha256_of(path)
    if size < _SMALL:
      cache = ids_cache.IdsCache(None)

    def write(file):
      if size >= _SMALL:
        tell(f"Reading {path}, {size / 1e6:,.0f} MB, for the first time.")
      try:
        return _write_ids(file, path, size, sha256)
      except FileNotFoundError:
        raise DataError(f"{path} was removed while it was read.") from None

    ids, counts = cache.get(f"text-{sha256}", write)
  except FileNotFoundError:
    raise DataError(f"{path} is missing. {_advice_for(path)}") from None
  except OSError as error:
    raise DataError(f"{path} cannot be read: {error.strerror}.") from None
  return TextIds(ids, counts, sha256)


def _write_ids(file, path, size, sha256):
  """Writes the ids of a text; returns {word: count}, in the order of the ids.

  `file` is open for reading and writing; the text has the size and checksum.
  """
  numbers = _Numbers()  # In the order in which the words first occur.
  counts = np.zeros(0, np.int64)
  hashed = hashlib.sha256()
  title = os.path.basename(path)
  options = {"leave": False, "unit": "B", "unit_scale": True}
  options["disable"] = None if size >= _SMALL else True  # None: no terminal.
  with tqdm.tqdm(total=size, desc=title, **options) as bar:
    for content, text in _texts_in(path):
      hashed.update(content)
      words = text.replace("\n", f" {EOS} ").split()
      ids = np.fromiter(map(numbers.__getitem__, words), np.int32, len(words))
      file.write(ids)
      found = np.bincount(ids, minlength=len(numbers))
      found[: len(counts)] += counts
      counts = found
      bar.update(len(content))
  if hashed.hexdigest() != sha256:
    raise DataError(f"{path} changed while it was read. Start again.")
  if not numbers.keys() - {EOS}:
    raise DataError(f"{path} is empty: it must have at least one word.")
  counts = dict(zip(numbers, counts.tolist(), strict=True))
  vocabulary = vocabulary_of(counts)
  final = np.empty(len(vocabulary), np.int32)  # The id of each number.
  final[[numbers[word] for word in vocabulary]] = np.arange(len(vocabulary))
  file.seek(0)
  while block := file.read(_BLOCK):
    file.seek(-len(block), os.SEEK_CUR)
    file.write(final[np.frombuffer(block, np.int32)])
  return {word: counts[word] for word in vocabulary}


class _Numbers(dict):
  """Numbers the words that are looked up, in the order of the first time."""

  def __missing__(self, word):
    number = self[word] = len(self)
    return number


def _texts_in(path):
  """Yields pairs of a file's bytes and their text, cut between two words."""
  begin, rest = 0, b""
  for block in itertools.chain(ids_cache.blocks_of(path), [None]):
    content = rest + (block or b"")
    end = 1 + max(content.rfind(space) for space in (b"\n", b" ", b"\t"))
    if block is None:
      end = len(content)
    elif not end and len(content) > _LONGEST:
      raise DataError(
        f"{path} has no space or newline in {_LONGEST:,} bytes: it is no text."
      )
    content, rest = content[:end], content[end:]
    if content:
      yield content, decode(content, path, begin)
    begin += end


def _advice_for(path):
  """Says what to do about a missing ptb.*.txt."""
  folder, name = os.path.split(path)
  part = name.removeprefix("ptb.").removesuffix(".txt")
  names = sorted(os.listdir(folder))
  ends = f"{part}.txt", f"{part}.tokens"
  if found := [name_ for name_ in names if name_.endswith(ends)]:
    return (
      f"Rename {found[0]} to {name}, if it has a sentence a line and words "
      "between spaces; else prepare it by scripts/prepare_text.py."
    )
  inner = glob.glob(os.path.join(glob.escape(folder), "*", name))
  if inner:
    return f"There is one in --data_path={os.path.dirname(min(inner))}."
  return "scripts/download_ptb.sh fetches all three ptb.*.txt."


def decode(content, name, begin=0):
  """Decodes UTF-8. Line endings become newlines, byte-order marks go.

  Raises:
    DataError: if the bytes are not UTF-8. It calls the text by its `name`, in
      which they have the offset `begin`.
  """
  if begin == 0 and content.startswith(
    (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
  ):
    raise DataError(
      f"{name} is UTF-16 text. Convert it by `iconv -f UTF-16 -t UTF-8 OLD > "
      "NEW`, or choose another."
    )
  try:
    text = content.decode("utf-8")
  except UnicodeDecodeError as error:
    raise DataError(
      f"{name} is not UTF-8 text: byte {content[error.start]:#04x} at offset "
      f"{begin + error.start}. Convert it, or choose another text."
    ) from None
  if "\0" in text:  # UTF-16 text, read as UTF-8, has one for each letter.
    raise DataError(
      f"{name} is not UTF-8 but, by its NUL characters, UTF-16: convert it."
    )
  # Files that were joined can have byte-order marks in the middle.
  return text.replace("\r\n", "\n").replace("\r", "\n").replace("\ufeff", "")
