"""Tests of torture.py, and with it of what it tortures."""

import torture


def test_a_killed_run_ends_like_an_untouched_one(capsys):
  status = torture.main(["--kills=3", "--epochs=1", "--seed=2"])
  *_, equal, last = capsys.readouterr().out.splitlines()
  assert status == 0
  assert equal == "Run 1 is equal, after 3 kills in all."
  assert last == "3 kills, 1 runs, of which 0 differ."


def test_a_difference_is_found(monkeypatch, capsys):
  outcomes = [
    {"line 1": 5.0, "w": b"12"},
    {"line 1": 5.0, "w": b"13", "v": b""},
  ]
  monkeypatch.setattr(torture, "outcome", lambda folder: outcomes.pop(0))
  monkeypatch.setattr(torture, "kill_once", lambda *args: "killed")
  monkeypatch.setattr(torture.subprocess, "run", lambda *args, **kwargs: None)
  assert torture.main(["--kills=1", "--epochs=1"]) == 1
  assert "Run 1 differs in w, v, after 1 kills" in capsys.readouterr().out
