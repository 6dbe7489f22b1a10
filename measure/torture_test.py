"""Tests of torture.py, and of resuming a killed training."""

import random
import tempfile

import processes
import torture

from conftest import call_main

HPARAMS = "hidden_size=20,num_layers=1,keep_prob=0.8,init_scale=0.3"


def test_a_killed_run_ends_like_an_untouched_one(tmp_path, monkeypatch):
  def run(script, *args):  # Faster than a process.
    assert not call_main("ptb_word_lm", *args)

  monkeypatch.setattr(processes, "run", run)
  monkeypatch.setattr(torture, "HPARAMS", HPARAMS)
  untouched = torture.Run(tmp_path / "untouched", 1)
  tortured = torture.Run(tmp_path / "tortured", 1, random.Random(16))
  assert tortured.disturb(is_disk_full=False).startswith("killed ")
  expected, results = untouched.finish(), tortured.finish()
  assert results == expected and len(results) > 5


def test_damage_leaves_the_checkpoint_before_intact(tmp_path):
  ends = ("index", "data-00000-of-00001")
  names = [f"model.ckpt-{n}.{end}" for n in (1, 2) for end in ends]
  for name in ("vocabulary.txt", "epochs.jsonl", *names):
    (tmp_path / name).write_text("content")
  run = torture.Run(tmp_path, 1, random.Random(1))
  done = {run.damage().split()[0] for _ in range(20)}
  assert done == {"cut", "flipped", "removed", "dated"}
  damaged = [n for n in names if (tmp_path / n).read_text() != "content"]
  assert len(damaged) == 1 and "-2." in damaged[0]


def test_a_difference_is_found(monkeypatch, call_command, tmp_path):
  lines = {"line 1": 5.0, "w": b"12"}
  outcomes = [lines, {**lines, "w": b"13", "v": b""}]
  monkeypatch.setattr(torture.Run, "disturb", lambda *_: "killed")
  monkeypatch.setattr(torture.Run, "finish", lambda _: outcomes.pop(0))
  monkeypatch.setattr(tempfile, "mkdtemp", lambda: str(tmp_path))
  status, out, err = call_command("torture", "--kills=1", "--epochs=1")
  assert status == 1 and "Run 1 differs in v, w, after 1 kills" in out
  assert str(tmp_path) in err and tmp_path.exists()
