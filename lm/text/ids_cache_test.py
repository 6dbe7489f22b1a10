"""Tests of ids_cache.py: entries are intact, whatever happens."""

import concurrent.futures
import hashlib
import os
import random
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
  check(ids_cache.open_cache("", "data").get("key", write))


def test_an_entry_is_computed_once(tmp_path):
  cache = ids_cache.open_cache(str(tmp_path / "new" / "cache"), "data")
  check(cache.get("key", write))
  found = cache.get("key", refuse)
  check(found)
  assert isinstance(found[0], np.memmap)
  with pytest.raises(AssertionError, match="once more"):
    cache.get("other", refuse)
  assert os.listdir(tmp_path / "new" / "cache") == ["key-2"]


@pytest.mark.parametrize("name", ["ids", "about.json"])
def test_an_incomplete_entry_is_refused(tmp_path, name):
  """As after a copy of the folder that was interrupted."""
  cache = ids_cache.open_cache(str(tmp_path), "data")
  cache.get("key", write)
  path = tmp_path / "key-2" / name
  path.write_bytes(path.read_bytes()[:-4])
  with pytest.raises(files.DamagedFileError, match="Remove that folder: it is"):
    cache.get("key", write)


def test_it_lies_beside_the_texts(tmp_path):
  check(ids_cache.open_cache(None, str(tmp_path)).get("a", write))
  assert (tmp_path / ".ids_cache" / "a-2").is_dir()


def test_what_cannot_be_written_is_kept_in_memory(
  tmp_path, monkeypatch, caplog
):
  (tmp_path / "file").write_text("no folder")
  check(ids_cache.open_cache(str(tmp_path / "file"), "data").get("d", write))
  assert f"The cache {tmp_path}/file is not used: File exists." in caplog.text

  def full(path, content):
    raise OSError(28, "No space left on device", path)

  monkeypatch.setattr(files, "write_file", full)
  check(ids_cache.open_cache(str(tmp_path / "new"), "data").get("key", write))
  assert "No space left on device. --cache_dir names another." in caplog.text
  assert os.listdir(tmp_path / "new") == []


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


def test_two_first_readings_at_once_agree(data):
  path, expected = data
  with start_reading(path) as first, start_reading(path) as second:
    outs = [process.communicate() for process in (first, second)]
  for out, _ in outs:
    assert out == f"ready\n{expected}"
  # Two: the text's ids, and those with fewer words. All texts are alike.
  assert len([*path.glob(".ids_cache/*")]) == 2


def test_many_at_once_agree(tmp_path):
  def get(number):
    return ids_cache.open_cache(str(tmp_path), "data").get("key", write)

  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    for found in pool.map(get, range(40)):
      check(found)


def test_a_text_that_changes_is_another(tmp_path, monkeypatch):
  monkeypatch.setattr(word_ids, "_SMALL", 0)
  path, cache = tmp_path / "text", ids_cache.open_cache(str(tmp_path / "c"), "")
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
