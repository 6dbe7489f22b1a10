"""Tests of word_ids.py: blocks, and texts that change."""

import hashlib
import os

import pytest

from lm.text import word_ids
from lm.text.ids_cache import IdsCache

# Texts whose words lie across the blocks in every way.
TEXTS = [
  "a bb ccc\ndddd\n\n  e\r\nf\rg é\u00a0ü \ufeffh\n" * 7,
  "abc" * 40,
  "x\n",
  "\n \n a\u2028b\x85c \U0001f600" * 5,
]
IN_MEMORY = IdsCache(None)


@pytest.mark.parametrize("block", [1, 3, 8, 1000])
def test_blocks_give_the_same_ids(tmp_path, monkeypatch, block):
  monkeypatch.setattr(word_ids, "_TEXT_BLOCK", block)
  monkeypatch.setattr(word_ids, "_IDS_BLOCK", 4 * block)
  path = tmp_path / "text"
  for content in TEXTS:
    path.write_bytes(content.encode())
    words = word_ids.decode(content.encode(), "").replace("\n", " <eos> ")
    words = words.split()
    text = word_ids.read_ids(str(path), IN_MEMORY)
    assert [text.vocabulary[i] for i in text.ids] == words
    counts = sorted(text.counts.items(), key=lambda item: (-item[1], item[0]))
    assert counts == list(text.counts.items())
    assert all(words.count(word) == n for word, n in counts)


def test_an_error_in_a_late_block_names_its_place(tmp_path, monkeypatch):
  monkeypatch.setattr(word_ids, "_TEXT_BLOCK", 8)
  path = tmp_path / "text"
  path.write_bytes(b"a b c d\n" * 10 + b"e \xff f\n")
  with pytest.raises(word_ids.DataError, match="byte 0xff at offset 82"):
    word_ids.read_ids(str(path), IN_MEMORY)
  path.write_bytes(b"a b c d\n" * 10 + "é".encode("utf-16"))
  with pytest.raises(word_ids.DataError, match="not UTF-8"):
    word_ids.read_ids(str(path), IN_MEMORY)


def test_a_changed_text_gets_a_new_entry(tmp_path, monkeypatch):
  monkeypatch.setattr(word_ids, "_LARGE", 0)
  path, cache = tmp_path / "text", IdsCache(str(tmp_path / "cache"))
  path.write_text("a b a\n")
  os.utime(path, (1e9, 1e9))
  text = word_ids.read_ids(str(path), cache)
  assert text.counts == {"a": 2, "<eos>": 1, "b": 1}
  path.write_text("a b b\n")  # Of the same size and age.
  os.utime(path, (1e9, 1e9))
  text = word_ids.read_ids(str(path), cache)
  assert text.counts == {"b": 2, "<eos>": 1, "a": 1}
  assert text.sha256 == hashlib.sha256(b"a b b\n").hexdigest()


def test_a_text_that_is_still_being_copied_is_refused(tmp_path, monkeypatch):
  path = tmp_path / "text"
  path.write_text("a b\n")

  def copy_more(path):
    with open(path, "a") as file:
      file.write("c d\n")
    return "a checksum"

  monkeypatch.setattr(word_ids, "_sha256_of", copy_more)
  with pytest.raises(word_ids.DataError, match="changed while it was read"):
    word_ids.read_ids(str(path), IN_MEMORY)
