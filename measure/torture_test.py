"""Tests of torture.py, and with it of what it tortures."""

import re
import tempfile

import pytest
import torture


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
  """The folder of the runs."""
  monkeypatch.setattr(tempfile, "mkdtemp", lambda: str(tmp_path / "runs"))
  return tmp_path / "runs"


def test_a_killed_run_ends_like_an_untouched_one(call_command, folder):
  status, out, _ = call_command("torture", "--kills=3", "--epochs=1")
  assert status == 0 and "then this script" in out
  assert re.search(r"\n3 kills, \d runs, of which 0 differ.\n$", out)
  assert not folder.exists()


def test_a_difference_is_found(monkeypatch, call_command, folder):
  lines = {"line 1": 5.0, "w": b"12"}
  outcomes = [lines, {**lines, "w": b"13", "v": b""}]
  monkeypatch.setattr(torture.Run, "disturb", lambda *_: "killed")
  monkeypatch.setattr(torture.Run, "finish", lambda _: outcomes.pop(0))
  status, out, err = call_command("torture", "--kills=1", "--epochs=1")
  assert status == 1 and "Run 1 differs in v, w, after 1 kills" in out
  assert str(folder) in err
