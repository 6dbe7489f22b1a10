"""Tests of exercises.py; docs/tutorial_test.py checks the exercises."""

import pathlib
import subprocess

import exercises
import pytest

from lm.base import command


def test_a_change_needs_one_place():
  exercise = exercises.Exercise("1", "", " a\n-b\n+c\n", "")
  assert exercise.apply("a\nb\nb\n") == "a\nc\nb\n"
  for text in ("b\na\n", "a\nb\na\nb\n"):
    with pytest.raises(ValueError, match="exercise 1: not one place has\na\nb"):
      exercise.apply(text)


def test_all_are_done_in_copies(call_command, monkeypatch):
  started = []

  def run(args, cwd, **_):
    started.append(
      (args[1:], (pathlib.Path(cwd) / exercises.CHANGED).read_text())
    )
    out = "Epoch: 1 Valid Perplexity: 3.5\nEpoch: 2 Valid Perplexity: 2.5\n"
    return subprocess.CompletedProcess(
      args, 0, f"{out}Test Perplexity: 4.5\n", ""
    )

  monkeypatch.setattr(subprocess, "run", run)
  status, out, err = call_command("exercises", "--data_path=/texts")
  found = exercises.read(exercises.PAGE.read_text())
  assert (status, err) == (0, "") and len(started) > len(found) > 5
  for (args, source), line in zip(
    started, "".join(e.command for e in found).splitlines(), strict=True
  ):
    expected = line.replace("=sample-corpus", "=/texts")
    assert expected == " ".join([".venv/bin/python", *args])
    assert f"{expected.partition(' ')[2]}".split()[0] == exercises.CHANGED
    assert f"{line.partition(' ')[2]}\n  valid 2.5, test 4.5; 0 s\n" in out
    compile(source, exercises.CHANGED, "exec")
  original = (exercises.ROOT / exercises.CHANGED).read_text()
  changed = sum(source != original for _, source in started)
  assert changed >= sum(bool(e.change) for e in found) > 2


def test_some_are_chosen():
  assert [e.number for e in exercises.choose(["7", "2"])] == ["7", "2"]
  with pytest.raises(command.InputError, match="has no exercise 99, but 0, 1,"):
    exercises.choose(["2", "99"])


def test_a_failure_is_reported(call_command, tmp_path):
  status, _, err = call_command("exercises", f"--data_path={tmp_path}")
  assert status == 1 and err.count("\n") == 1
  assert "ptb.train.txt" in err
