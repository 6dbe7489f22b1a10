"""A folder that stores the ids of large texts for the next start.

Each entry is a folder named by a key. The key depends on all that the ids were
computed from, so a text that has changed gets a new entry. An entry has

  ids         the int32 ids of all words, as numpy writes them
  about.json  the number of ids, and a value that belongs to them

It gets its name when it is complete. You can delete it at any time.
"""

import io
import json
import logging
import os
import shutil
import tempfile

import numpy as np

from lm.base import files

_LOGGER = logging.getLogger(__name__)
_FORMAT = "2"  # Changes when the same key gets other contents.


class IdsCache:
  """The cache in a folder; with None, ids stay in memory instead."""

  def __init__(self, folder):
    self._folder = folder

  def get(self, key, write):
    """Returns the entry of a key, and makes it if it does not exist.

    Args:
      key: the entry's name, of letters and digits.
      write: a function that writes the ids to a binary file, open for reading
        and writing, and returns the value, which JSON can represent.

    Returns:
      (ids, value): int32 [number of words], in memory or mapped from the disk,
      read-only; and the value.

    Raises:
      DamagedFileError: if the entry is not complete.
    """
    if self._folder is not None:
      path = os.path.join(self._folder, f"{key}-{_FORMAT}")
      try:
        if not os.path.isdir(path):
          _make_entry(path, write)
        return _read_entry(path)
      except OSError as error:
        _LOGGER.warning(
          "The cache %s is not used: %s. --cache_dir names another.",
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
  """Returns the ids and the value of an entry."""
  advice = "Delete that folder: the next start makes it again."
  number, value = files.read_json(
    os.path.join(path, "about.json"),
    lambda about: (about["number"], about["value"]),
    advice,
  )
  ids = np.memmap(os.path.join(path, "ids"), np.int32, "r")
  if len(ids) != number:
    raise files.DamagedFileError(f"{path}/ids is not complete. {advice}")
  return ids, value


def _make_entry(path, write):
  """Writes an entry under a temporary name, and then renames it."""
  parent = os.path.dirname(path)
  os.makedirs(parent, exist_ok=True)
  temporary = tempfile.mkdtemp(prefix=".making-", dir=parent)
  try:
    with open(os.path.join(temporary, "ids"), "w+b") as file:
      value = write(file)
      number = file.seek(0, os.SEEK_END) // 4
    about = json.dumps({"number": number, "value": value})
    files.write_file(os.path.join(temporary, "about.json"), about)
    os.rename(temporary, path)
  except OSError:
    if not os.path.isdir(path):  # Else another process was first.
      raise
  finally:
    shutil.rmtree(temporary, ignore_errors=True)
