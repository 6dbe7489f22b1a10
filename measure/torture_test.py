"""Tests of torture.py, and with it of what it tortures."""

import pytest
import torture


def test_a_killed_run_ends_like_an_untouched_one(capsys):
  status = torture.main(["--kills=2", "--epochs=1", "--seed=2"])
  *_, equal, last = capsys.readouterr().out.splitlines()
  assert status == 0
  assert equal == "Run 1 is equal, after 2 kills in all."
  assert last == "2 kills, 1 runs, of which 0 differ."


def test_a_difference_is_found(monkeypatch, tmp_path, capsys):
  outcomes = [
    {"line 1": 5.0, "w": b"12"},
    {"line 1": 5.0, "w": b"13", "v": b""},
  ]
  monkeypatch.setattr(torture, "outcome", lambda folder: outcomes.pop(0))
  monkeypatch.setattr(torture, "kill_once", lambda *args: "killed")
  monkeypatch.setattr(torture, "finish", lambda *args: None)
  monkeypatch.setattr(torture.tempfile, "mkdtemp", lambda: str(tmp_path))
  assert torture.main(["--kills=1", "--epochs=1"]) == 1
  out = capsys.readouterr().out
  assert "Run 1 differs in w, v, after 1 kills" in out
  assert f"What there is to see is left in {tmp_path}." in out


def test_an_error_of_the_run_is_shown(monkeypatch, tmp_path, capsys):
  monkeypatch.setattr(torture, "HPARAMS", "max_max_epoch={},nonsense=1")
  monkeypatch.setattr(torture.tempfile, "mkdtemp", lambda: str(tmp_path))
  assert torture.main(["--kills=1", "--epochs=1"]) == 1
  assert "It failed: " in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["--kills=0", "--epochs=0"])
def test_nothing_is_no_proof(flag):
  with pytest.raises(SystemExit):
    torture.main([flag])
