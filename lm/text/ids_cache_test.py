"""Tests of ids_cache.py: entries are intact, whatever happens."""

import concurrent.futures
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import reader
from lm.base import files
from lm.text import ids_cache, word_ids

IDS = np.arange(10, dtype=np.int32)


def write(file):
  file.write(IDS)
  return {"a": 1}


def refuse(file):
  raise AssertionError("It is computed once more.")


def check(found):
  ids, value = found
  np.testing.assert_array_equal(ids, IDS)
  assert ids.dtype == np.int32 and value == {"a": 1}


def test_without_a_cache_ids_are_in_memory():
  check(ids_cache.InMemory().get("key", write))
  assert isinstance(ids_cache.find("", "data"), ids_cache.InMemory)


def test_an_entry_is_computed_once(tmp_path):
  cache = ids_cache.find(str(tmp_path / "new" / "cache"), "data")
  check(cache.get("key", write))
  found = cache.get("key", refuse)
  check(found)
  assert isinstance(found[0], np.memmap)
  with pytest.raises(AssertionError, match="once more"):
    cache.get("other", refuse)
  names = sorted(os.listdir(tmp_path / "new" / "cache"))
  assert names == [".lock", "key-1"]


@pytest.mark.parametrize("name", ["ids", "about.json"])
@pytest.mark.parametrize(
  "damage",
  [
    lambda content: b"",
    lambda content: content[:-1],
    lambda content: content[:9] + b"\xff" + content[10:],
    lambda content: None,
    lambda content: b"{}",
    lambda content: content.replace(b'"a": 1', b'"a": 2') + b" ",
  ],
)
def test_a_damaged_entry_is_rebuilt(tmp_path, name, damage, caplog):
  cache = ids_cache.find(str(tmp_path), "data")
  cache.get("key", write)
  path = tmp_path / "key-1" / name
  content = damage(path.read_bytes())
  path.unlink()
  if content is not None:
    path.write_bytes(content)
  check(cache.get("key", write))
  assert f"The cache {tmp_path}/key-1 is damaged: it is rebuilt." in caplog.text
  check(cache.get("key", refuse))


def test_a_file_in_place_of_an_entry_is_replaced(tmp_path, caplog):
  (tmp_path / "key-1").write_text("a file")
  cache = ids_cache.find(str(tmp_path), "data")
  check(cache.get("key", write))
  check(cache.get("key", refuse))
  assert "is damaged: it is rebuilt" in caplog.text


def test_what_a_killed_process_left_is_removed(tmp_path):
  (tmp_path / ".making-0123").mkdir()
  (tmp_path / ".making-0123" / "ids").write_bytes(b"half")
  ids_cache.find(str(tmp_path), "data").get("key", write)
  assert sorted(os.listdir(tmp_path)) == [".lock", "key-1"]


def test_where_it_lies(tmp_path, monkeypatch, caplog):
  """Beside the texts, else in the user's folder, else nowhere."""
  data, own = tmp_path / "data", tmp_path / "own"
  data.mkdir()
  monkeypatch.setenv("XDG_CACHE_HOME", str(own))
  check(ids_cache.find(None, str(data)).get("a", write))
  assert (data / ".ids_cache" / "a-1").is_dir() and not own.exists()
  monkeypatch.setattr(os, "access", lambda path, mode: False)
  check(ids_cache.find(None, str(data)).get("a", refuse))
  check(ids_cache.find(None, str(data)).get("b", write))
  assert (own / "ptb_word_lm" / "b-1").is_dir() and not caplog.text
  shutil.rmtree(own)
  own.write_text("no folder")
  check(ids_cache.find(None, str(data)).get("c", write))
  assert (data / ".ids_cache" / "c-1").is_dir()
  check(ids_cache.find(f"{own}/x", str(data)).get("d", write))
  assert f"The cache {own}/x is not used: " in caplog.text


def test_a_full_disk_means_memory(tmp_path, monkeypatch, caplog):
  def full(path, content):
    raise OSError(28, "No space left on device", path)

  monkeypatch.setattr(files, "write_file", full)
  check(ids_cache.find(str(tmp_path), "data").get("key", write))
  assert "No space left on device" in caplog.text
  assert os.listdir(tmp_path) == [".lock"]


READ = """
import sys, time
from lm.text import word_ids
word_ids._SMALL = 0
import reader
print("ready", flush=True)
corpus = reader.read_corpus(sys.argv[1], vocab_size=20)
print(corpus.train.sum(), len(corpus.train), flush=True)
"""


@pytest.fixture
def data(tmp_path):
  """A folder with texts, and the sum and number of the training's ids."""
  draw = random.Random(1)
  words = [f"w{draw.randrange(draw.randrange(1, 60))}" for _ in range(200_000)]
  for part in ("train", "valid", "test"):
    (tmp_path / f"ptb.{part}.txt").write_text(" ".join(words) + "\n")
  ids = reader.read_corpus(str(tmp_path), vocab_size=20).train
  return tmp_path, f"{ids.sum()} {len(ids)}\n"


def start_reading(path):
  return subprocess.Popen(
    [sys.executable, "-c", READ, path],
    cwd=os.path.dirname(reader.__file__),
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def test_the_first_reading_is_killed_again_and_again(data):
  path, expected = data
  draw = random.Random(2)
  for _ in range(6):
    with start_reading(path) as process:
      process.stdout.readline()
      time.sleep(draw.uniform(0, 0.3))
      process.send_signal(draw.choice([signal.SIGKILL, signal.SIGTERM]))
  with start_reading(path) as process:
    assert process.stdout.readlines() == ["ready\n", expected]
  assert not [*path.glob(".ids_cache/.making*")]


def test_two_first_readings_at_once_agree(data):
  path, expected = data
  with start_reading(path) as first, start_reading(path) as second:
    outs = [process.communicate() for process in (first, second)]
  for out, _ in outs:
    assert out == f"ready\n{expected}"
  entries = sorted(p.name for p in path.glob(".ids_cache/*"))
  assert len(entries) == 3 and entries[0] == ".lock"  # All texts are alike.


def test_many_at_once_agree(tmp_path):
  def get(number):
    return ids_cache.find(str(tmp_path), "data").get("key", write)

  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    for found in pool.map(get, range(40)):
      check(found)


def test_a_text_that_changes_is_another(tmp_path, monkeypatch):
  monkeypatch.setattr(word_ids, "_SMALL", 0)
  path, cache = tmp_path / "text", ids_cache.find(str(tmp_path / "c"), "")
  path.write_text("a b a\n")
  os.utime(path, (1e9, 1e9))
  assert word_ids.read_ids(str(path), cache).counts == {
    "a": 2,
    "<eos>": 1,
    "b": 1,
  }
  path.write_text("a b b\n")  # Of the same size and age.
  os.utime(path, (1e9, 1e9))
  found = word_ids.read_ids(str(path), cache)
  assert found.counts == {"b": 2, "<eos>": 1, "a": 1}
  assert found.sha256 == hashlib.sha256(b"a b b\n").hexdigest()
  monkeypatch.setattr(ids_cache, "sha256_of", lambda path: "0")
  with pytest.raises(word_ids.DataError, match="changed while it was read"):
    word_ids.read_ids(str(path), cache)
