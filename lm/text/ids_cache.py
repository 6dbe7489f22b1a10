"""A folder in which the ids of large texts are kept for the next start.

An entry is a folder of its own, named by a key that says what it was computed
from: so a text that has changed is never taken for the old one. It has

  ids         int32s, one for each word, as numpy writes them
  about.json  a value that belongs to them, and the checksums of both

It is written completely or not at all, and can be removed at any time.
"""

import contextlib
import glob
import hashlib
import io
import json
import math
import os
import shutil

import filelock
import numpy as np
import platformdirs
from absl import logging

from lm.base import files

_FORMAT = "1"  # Another one if the same key gets other contents.
_BLOCK = 1 << 22  # Bytes that are read at a time.


class InMemory:
  """In place of a cache: computes ids anew, and keeps them in memory."""

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
    del key
    file = io.BytesIO()
    value = write(file)
    return np.frombuffer(file.getbuffer(), np.int32), value


class IdsCache(InMemory):
  """The cache in one of several folders: the first that can be written."""

  def __init__(self, folders):
    self._folders = folders

  def get(self, key, write):
    key = f"{key}-{_FORMAT}"
    for folder in self._folders:  # Most of the time it is there.
      if found := _read(os.path.join(folder, key)):
        return found
    for folder in self._folders:
      try:
        os.makedirs(folder, exist_ok=True)
        with _locked(folder) as is_locked:
          path = os.path.join(folder, key)
          return _read(path) or _make(path, write, is_locked)
      except OSError as error:
        reason = error.strerror or str(error).rpartition(": ")[2].rstrip(".")
        logging.warning("The cache %s is not used: %s.", folder, reason)
    return super().get(key, write)


def find(folder, data_path):
  """Returns the cache that --cache_dir names: None for the default, "": none.

  By default it lies beside the texts or, if that folder cannot be written, in
  the user's folder for caches.
  """
  if folder == "":
    return InMemory()
  if folder is not None:
    return IdsCache([folder])
  own = platformdirs.user_cache_dir("ptb_word_lm")
  beside = os.path.join(data_path, ".ids_cache")
  can_write = os.access(data_path, os.W_OK)
  return IdsCache([beside, own] if can_write else [own, beside])


@contextlib.contextmanager
def _locked(folder):
  """Waits until no other process writes to a cache; yields whether it is so."""
  lock = filelock.FileLock(os.path.join(folder, ".lock"))
  try:
    try:
      lock.acquire(timeout=1)
    except filelock.Timeout:
      logging.warning("Waiting for another process that writes to %s.", folder)
      lock.acquire()
  except NotImplementedError:  # As on some network file systems.
    yield False
    return
  try:
    yield True
  finally:
    lock.release()


def _read(path):
  """Returns the ids and the value of an entry; None if it is not intact."""
  if not os.path.lexists(path):
    return None
  try:
    text = files.read_file(f"{path}/about.json", math.inf)
    about = files.parse_json(text)
    if about == _about(path, about["value"]):
      return np.memmap(f"{path}/ids", np.int32, "r"), about["value"]
  except (OSError, ValueError, TypeError, KeyError):
    pass
  return None


def _about(path, value):
  """Returns what about.json has of an entry with this value."""
  hashed = hashlib.sha256(json.dumps(value).encode()).hexdigest()
  sha256 = {"ids": sha256_of(f"{path}/ids"), "value": hashed}
  return {"sha256": sha256, "value": value}


def _make(path, write, is_locked):
  """Writes an entry; returns its ids and its value."""
  if is_locked:  # Nobody else works here: these are of processes that died.
    for folder in glob.glob(f"{glob.escape(os.path.dirname(path))}/.making-*"):
      shutil.rmtree(folder, ignore_errors=True)
  if os.path.lexists(path):
    logging.warning("The cache %s is damaged: it is rebuilt.", path)
    is_folder = os.path.isdir(path) and not os.path.islink(path)
    (shutil.rmtree if is_folder else os.remove)(path)
  with files.new_folder(path, "the cache") as made:
    with open(f"{made}/ids", "w+b") as file:
      value = write(file)
    about = _about(made, value)
    files.write_file(f"{made}/about.json", json.dumps(about))
  return np.memmap(f"{path}/ids", np.int32, "r"), value


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
