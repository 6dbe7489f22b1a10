"""A folder that stores the ids of large texts for the next start.

Each entry is a folder named by a key. The key depends on all that the ids were
computed from, so a text that has changed gets a new entry. An entry has

  ids         the int32 ids of all words, as numpy writes them
  entry.json  their size and checksum, and a value that belongs to them

An entry gets its name when it is complete and on the disk. Each start compares
the ids with their checksum, and makes a damaged entry again. You can delete an
entry at any time.
"""

import io
import json
import logging
import os
import shutil
import tempfile
import zlib

import numpy as np

from lm.base import files

_LOGGER = logging.getLogger(__name__)
_FORMAT = "3"  # Changes when the same key gets other contents.
_BLOCK = 1 << 24  # Bytes of ids that are read at a time.


class IdsCache:
  """The cache in a folder; with None, ids stay in memory instead."""

  def __init__(self, folder):
    self._folder = folder

  def get(self, key, write):
    """Returns the entry of a key; makes it if it is missing or damaged.

    Args:
      key: the entry's name, of letters and digits.
      write: a function that writes the ids to a binary file, open for reading
        and writing, and returns the value, which JSON can represent.

    Returns:
      (ids, value): int32 [number of words], in memory or mapped from the disk,
      read-only; and the value.
    """
    if self._folder is not None:
      path = os.path.join(self._folder, f"{key}-{_FORMAT}")
      try:
        if os.path.isdir(path):
          try:
            return _read_entry(path)
          except files.DamagedFileError as error:
            _LOGGER.warning("%s", error)
            shutil.rmtree(path)
        _make_entry(path, write)
        return _read_entry(path)
      except OSError as error:
        _LOGGER.warning(
          "The cache %s cannot be used: %s. Choose another with --cache_dir.",
          *(self._folder, error.strerror),
        )
    file = io.BytesIO()
    value = write(file)
    return np.frombuffer(file.getbuffer(), np.int32), value


def open_cache(folder, data_path):
  """Returns the IdsCache that --cache_dir names.

  By default (None), its folder is beside the texts. "" is no folder.
  """
  if folder is None:
    folder = os.path.join(data_path, ".ids_cache")
  return IdsCache(folder or None)


def _read_entry(path):
  """Returns the ids and the value of an entry.

  Raises DamagedFileError if a file is missing or not as it was written.
  """
  outcome = "The text is read again."
  expected, value = files.read_json(
    os.path.join(path, "entry.json"),
    lambda entry: (entry["ids"], entry["value"]),
    outcome,
  )
  ids_path = os.path.join(path, "ids")
  try:
    with open(ids_path, "rb") as file:
      is_intact = _describe(file) == expected
  except FileNotFoundError:
    is_intact = False
  if not is_intact:
    raise files.DamagedFileError(f"{ids_path} is damaged. {outcome}")
  return np.memmap(ids_path, np.int32, "r"), value


def _describe(file):
  """Returns the number of bytes in a binary file, and their checksum."""
  checksum = 0
  file.seek(0)
  while block := file.read(_BLOCK):
    checksum = zlib.crc32(block, checksum)
  return {"bytes": file.tell(), "crc32": checksum}


def _make_entry(path, write):
  """Writes an entry under a temporary name, and then renames it."""
  parent = os.path.dirname(path)
  os.makedirs(parent, exist_ok=True)
  temporary = tempfile.mkdtemp(prefix=".making-", dir=parent)
  try:
    with open(os.path.join(temporary, "ids"), "w+b") as file:
      value = write(file)
      entry = {"ids": _describe(file), "value": value}
      file.flush()
      os.fsync(file.fileno())
    text = json.dumps(entry)
    files.write_file(os.path.join(temporary, "entry.json"), text)
    files.flush_to_disk(temporary)
    os.rename(temporary, path)
    files.flush_to_disk(parent)
  except OSError:
    if not os.path.isdir(path):  # Else another process was first.
      raise
  finally:
    shutil.rmtree(temporary, ignore_errors=True)
