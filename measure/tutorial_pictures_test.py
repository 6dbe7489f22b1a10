"""Tests of tutorial_pictures.py, on a tiny model."""

import re

import pytest
import tutorial_pictures as pictures

from conftest import OLD_RUN, TINY


@pytest.fixture
def folder(tmp_path, monkeypatch):
  monkeypatch.setattr(pictures, "FOLDER", tmp_path)
  return tmp_path


def draw(call_command):
  args = f"--run={OLD_RUN}", f"--data_path={TINY}"
  return call_command("tutorial_pictures", *args)


def test_all_pictures(call_command, folder, monkeypatch):
  words = (OLD_RUN / "vocabulary.txt").read_text().split()[2:5]
  monkeypatch.setattr(pictures, "PREFIXES", (words[0], " ".join(words)))
  monkeypatch.setattr(pictures, "NEIGHBOURS_OF", words[:2])
  monkeypatch.setattr(pictures, "NUM_TARGETS", 20)
  sentences = f"<eos> {' '.join(words)} <eos> {words[0]} <eos>"
  monkeypatch.setattr(pictures, "SENTENCES", sentences)
  status, out, err = draw(call_command)
  assert status == 0, err
  drawn = {path.stem: path.read_text() for path in folder.iterdir()}
  assert sorted(drawn) == ["forgetting", "gate", "neighbours", "next_words"]
  assert all(svg.endswith("</svg>\n") for svg in drawn.values())
  result = dict(re.findall(r"(\w+) words: perplexity ([\d.]+)", out))
  assert [*result] == [*map(str, pictures.CONTEXTS), "all"]
  assert f"all words before: {float(result['all']):.1f}" in drawn["forgetting"]
  for word in words:
    assert word in drawn["next_words"] + drawn["neighbours"]


def test_a_run_on_another_text(call_command, folder):
  status, _, err = draw(call_command)
  assert (status, err.count("\n")) == (1, 1) and " lacks " in err
  assert not [*folder.iterdir()]
