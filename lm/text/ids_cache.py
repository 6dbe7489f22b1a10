"""A folder in which the ids of large texts are kept for the next start.

An entry is a folder of its own, named by a key that says what it was computed
from: so a text that has changed is never taken for the old one. It has

  ids         int32s, one for each word, as numpy writes them
  about.json  a value that belongs to them, and how many they are

It gets its name when it is complete, and can be removed at any time.
"""

import contextlib
import hashlib
import io
import json
import logging
import os
import shutil
import tempfile

import numpy as np

from lm.base import files

_LOGGER = logging.getLogger(__name__)
_FORMAT = "2"  # Another one if the same key gets other contents.
_BLOCK = 1 << 22  # Bytes that are read at a time.


class IdsCache:
  """The cache in a folder; None keeps everything in memory instead."""

  def __init__(self, folder):
    self._folder = folder

  def get(self, key, write):
    """Returns (ids, value) for a key; computes them unless they are kept.

    Args:
      key: a text for all that they depend on, of letters and digits.
      write: a function that writes the ids to a binary file, open for reading
        and writing, and returns the value, which JSON can hold.

    Returns:
      int32 [number of words], in memory or mapped from the disk, read-only;
      and the value.
    """
    if self._folder is not None:
      path = os.path.join(self._folder, f"{key}-{_FORMAT}")
      try:
        return _read(path) or _make(path, write)
      except OSError as error:
        _LOGGER.warning(
          "The cache %s is not used: %s. --cache_dir names another.",
          *(self._folder, error.strerror),
        )
    file = io.BytesIO()
    value = write(file)
    return np.frombuffer(file.getbuffer(), np.int32), value


def open_cache(folder, data_path):
  """Returns the cache that --cache_dir names; by default, beside the texts."""
  if folder is None:
    folder = os.path.join(data_path, ".ids_cache")
  return IdsCache(folder or None)


def _read(path):
  """Returns the ids and the value of an entry; None if there is none."""
  if not os.path.isdir(path):
    return None
  advice = "Remove that folder: it is made again."
  number, value = files.read_json(
    os.path.join(path, "about.json"),
    lambda about: (about["number"], about["value"]),
    advice,
  )
  ids = np.memmap(os.path.join(path, "ids"), np.int32, "r")
  if len(ids) != number:
    raise files.DamagedFileError(f"{path}/ids is not complete. {advice}")
  return ids, value


def _make(path, write):
  """Writes an entry; returns its ids and its value."""
  folder = os.path.dirname(path)
  os.makedirs(folder, exist_ok=True)
  made = tempfile.mkdtemp(prefix=".making-", dir=folder)
  try:
    with open(os.path.join(made, "ids"), "w+b") as file:
      value = write(file)
      number = file.seek(0, os.SEEK_END) // 4
    about = json.dumps({"number": number, "value": value})
    files.write_file(os.path.join(made, "about.json"), about)
    with contextlib.suppress(FileExistsError):  # Another process was first.
      os.rename(made, path)
  finally:
    shutil.rmtree(made, ignore_errors=True)
  return _read(path)


def sha256_of(path):
  """Returns the checksum of a file; raises OSError if it cannot be read."""
  hashed = hashlib.sha256()
  for block in blocks_of(path):
    hashed.update(block)
  return hashed.hexdigest()


def blocks_of(path):
  """Yields the bytes of a file, a few million at a time."""
  with open(path, "rb", 0) as file:
    while block := file.read(_BLOCK):
      yield block
