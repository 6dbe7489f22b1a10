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
  assert os.listdir(folder) == ["key-3"]


def test_another_process_may_be_first(tmp_path, caplog):
  cache = IdsCache(str(tmp_path))

  def write_late(file):
    check(cache.get("key", write))
    return write(file)

  check(cache.get("key", write_late))
  assert os.listdir(tmp_path) == ["key-3"] and not caplog.text


@pytest.mark.parametrize(
  ("name", "damage"),
  [
    ("ids", lambda content: content[:-4]),
    ("ids", lambda content: b""),
    ("ids", lambda content: bytes(len(content))),  # After a power cut.
    ("ids", None),
    ("entry.json", lambda content: content[:-4]),
    ("entry.json", None),
  ],
)
def test_a_damaged_entry_is_made_again(tmp_path, caplog, name, damage):
  cache = IdsCache(str(tmp_path))
  cache.get("key", write)
  path = tmp_path / "key-3" / name
  if damage:
    path.write_bytes(damage(path.read_bytes()))
  else:
    path.unlink()
  check(cache.get("key", write))
  assert str(path) in caplog.text and "text is read again." in caplog.text
  caplog.clear()
  check(cache.get("key", write))
  assert os.listdir(tmp_path) == ["key-3"] and not caplog.text


def test_an_entry_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
  calls = []
  fsync, rename = os.fsync, os.rename
  monkeypatch.setattr(
    os, "fsync", lambda fd: calls.append("fsync") or fsync(fd)
  )
  monkeypatch.setattr(
    os, "rename", lambda *names: calls.append("rename") or rename(*names)
  )
  check(IdsCache(str(tmp_path)).get("key", write))
  # Of ids, entry.json and their folder; then of the cache's folder.
  assert calls == ["fsync"] * 3 + ["rename", "fsync"]


def test_the_default_folder_is_beside_the_texts(tmp_path):
  check(open_cache(None, str(tmp_path)).get("a", write))
  assert (tmp_path / ".ids_cache" / "a-3").is_dir()


def test_without_a_place_on_the_disk_ids_are_in_memory(
  tmp_path, monkeypatch, caplog
):
  (tmp_path / "file").write_text("no folder")
  check(IdsCache(str(tmp_path / "file")).get("d", write))
  assert f"The cache {tmp_path}/file cannot be used: " in caplog.text

  def full(path, content):
    raise OSError(28, "No space left on device", path)

  monkeypatch.setattr(files, "write_file", full)
  check(IdsCache(str(tmp_path / "new")).get("key", write))
  told = "No space left on device. Choose another with --cache_dir."
  assert told in caplog.text
  assert os.listdir(tmp_path / "new") == []
