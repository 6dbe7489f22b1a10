"""Tests of ids_cache.py: an entry is complete or does not exist."""

import os

import numpy as np
import pytest

from lm.base import files
from lm.text.ids_cache import IdsCache, open_cache

IDS = np.arange(10, dtype=np.int32)


def write(file):
  file.write(IDS)
  return {"a": 1}


def check(entry):
  ids, value = entry
  np.testing.assert_array_equal(ids, IDS)
  assert ids.dtype == np.int32 and value == {"a": 1}


def test_without_a_folder_ids_are_in_memory():
  check(open_cache("", "data").get("key", write))


def test_an_entry_is_made_once(tmp_path):
  def refuse(file):
    raise AssertionError("It is made once more.")

  folder = tmp_path / "new" / "cache"
  cache = open_cache(str(folder), "data")
  check(cache.get("key", write))
  entry = cache.get("key", refuse)
  check(entry)
  assert isinstance(entry[0], np.memmap)
  with pytest.raises(AssertionError, match="once more"):
    cache.get("other", refuse)
  assert os.listdir(folder) == ["key-2"]


def test_another_process_may_be_first(tmp_path, caplog):
  cache = IdsCache(str(tmp_path))

  def write_late(file):
    check(cache.get("key", write))
    return write(file)

  check(cache.get("key", write_late))
  assert os.listdir(tmp_path) == ["key-2"] and not caplog.text


@pytest.mark.parametrize("name", ["ids", "about.json"])
def test_an_incomplete_entry_is_refused(tmp_path, name):
  """As after a copy of the folder that was interrupted."""
  cache = IdsCache(str(tmp_path))
  cache.get("key", write)
  path = tmp_path / "key-2" / name
  path.write_bytes(path.read_bytes()[:-4])
  with pytest.raises(files.DamagedFileError, match="Delete that folder: the n"):
    cache.get("key", write)


def test_the_default_folder_is_beside_the_texts(tmp_path):
  check(open_cache(None, str(tmp_path)).get("a", write))
  assert (tmp_path / ".ids_cache" / "a-2").is_dir()


def test_without_a_place_on_the_disk_ids_are_in_memory(
  tmp_path, monkeypatch, caplog
):
  (tmp_path / "file").write_text("no folder")
  check(IdsCache(str(tmp_path / "file")).get("d", write))
  assert f"The cache {tmp_path}/file is not used: " in caplog.text

  def full(path, content):
    raise OSError(28, "No space left on device", path)

  monkeypatch.setattr(files, "write_file", full)
  check(IdsCache(str(tmp_path / "new")).get("key", write))
  assert "No space left on device. --cache_dir names another." in caplog.text
  assert os.listdir(tmp_path / "new") == []
