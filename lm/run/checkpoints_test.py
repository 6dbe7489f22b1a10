"""Tests of checkpoints.py: nothing damaged is taken for intact."""

import dataclasses
import os
import pathlib
import random
import shutil
from unittest import mock

import numpy as np
import pytest

import configs
from conftest import OLD_RUN, TINY
from lm.base import tf1
from lm.run import checkpoints
from lm.run.checkpoints import find_checkpoint
from lm.run.run import Run

WEIGHTS = np.arange(60, dtype=np.float32).reshape(3, 20)
RUN, OTHER_RUN = (
  Run(
    model="test",
    seed=seed,
    dtype="float32",
    config=configs.TestConfig(),
    data_sha256={},
  )
  for seed in (1, 2)
)


class Training:
  """A session with a weight and global_step, and its checkpoints."""

  def __init__(self, path, run=RUN):
    self.path = path
    self.graph = tf1.Graph()
    with self.graph.as_default():
      tf1.set_random_seed(1)
      self.step = tf1.train.get_or_create_global_step()
      self.weight = tf1.get_variable("Model/w", [3, 20])
      tf1.Variable(1.0, collections=["local_variables"], name="learning_rate")
      self.checkpoints = checkpoints.Checkpoints(str(path), [1, 2, 3, 4], run)
      self.session = tf1.Session()
      self.session.run(tf1.global_variables_initializer())

  def save(self, global_step, epochs=(), **fields):
    """Saves weights that depend on the step."""
    progress = checkpoints.Progress(epochs=list(epochs), **fields)
    with self.graph.as_default():
      self.step.load(global_step, self.session)
      self.weight.load(WEIGHTS + global_step, self.session)
      self.checkpoints.save(self.session, global_step, progress)

  def restore(self):
    """Returns (global step, Progress)."""
    with self.graph.as_default():
      progress, step = self.checkpoints.restore(self.session)
    np.testing.assert_array_equal(self.session.run(self.weight), WEIGHTS + step)
    return step, progress


def epoch(number, valid):
  return {"epoch": number, "valid_perplexity": valid, "global_step": number * 7}


@pytest.fixture
def run(tmp_path):
  return Training(tmp_path)


def files_of(path):
  return {p.name: p.read_bytes() for p in path.iterdir()}


def test_progress_comes_back_to_the_last_bit(run):
  state = np.random.RandomState(0).randn(1, 2, 3, 4).astype(np.float32)
  costs = sum(0.1 for _ in range(12345)) / 3
  epochs = [epoch(1, 1 / 3), epoch(2, 2e-300)]
  run.save(17, epochs, step=3, costs=costs, seconds=1.25, state=state)
  step, progress = Training(run.path).restore()
  assert (step, progress.step, progress.epoch) == (17, 3, 3)
  assert (progress.costs, progress.seconds) == (costs, 1.25)
  assert progress.epochs == epochs
  np.testing.assert_array_equal(progress.state, state)


def test_an_epoch_starts_from_zeros(run):
  assert run.checkpoints.restore(run.session) == (checkpoints.Progress(), None)
  progress = checkpoints.Progress(step=4, costs=2.0, seconds=3.0, state=[1])
  assert progress.epoch == 1
  progress.end_epoch(epoch(1, 5.0))
  assert progress == checkpoints.Progress(epochs=[epoch(1, 5.0)])
  run.save(7, [epoch(1, 5.0)])
  assert Training(run.path).restore() == (7, progress)


def test_each_epoch_can_be_kept(tmp_path):
  keeping = dataclasses.replace(RUN, keep_checkpoints=True)
  assert keeping.id == RUN.id
  run, epochs = Training(tmp_path, keeping), []
  for number in range(1, 6):
    run.save(number * 7 - 2, epochs, step=5)
    epochs.append(epoch(number, 10 - number))
    run.save(number * 7, epochs)
  assert checkpoints.steps_in(tmp_path) == [7, 14, 21, 28, 33, 35]
  Training(tmp_path).save(37, epochs, step=2)
  assert checkpoints.steps_in(tmp_path) == [35, 37]


def test_two_and_the_best_are_kept_and_named(run):
  for which in ("best", "last"):
    with pytest.raises(checkpoints.CheckpointError, match="has no checkpoint"):
      find_checkpoint(str(run.path), which)
  run.save(3, step=3)
  with pytest.raises(checkpoints.CheckpointError, match="no best checkpoint b"):
    find_checkpoint(str(run.path), "best")
  epochs = []
  for number, valid in enumerate([9.0, 5.0, 7.0, 5.0, 6.0], 1):
    run.save(number * 7 - 2, epochs, step=5)
    epochs.append(epoch(number, valid))
    run.save(number * 7, epochs)
  assert checkpoints.steps_in(str(run.path)) == [14, 33, 35]
  assert find_checkpoint(str(run.path), "best").endswith("/model.ckpt-14")
  assert find_checkpoint(str(run.path), "last").endswith("/model.ckpt-35")

  def named():
    return [
      tf1.train.latest_checkpoint(str(run.path), name)
      for name in ("best_checkpoint", "checkpoint")
    ]

  expected = [find_checkpoint(str(run.path), w) for w in ("best", "last")]
  assert named() == expected
  (run.path / "best_checkpoint").unlink()  # As by a kill before it was written.
  (run.path / "checkpoint").unlink()
  Training(run.path).restore()
  assert named() == expected


def test_the_folder_may_be_moved_and_named_relatively(run, monkeypatch):
  monkeypatch.chdir(run.path.parent)
  old = Training(pathlib.Path(run.path.name))
  old.save(7, [epoch(1, 5.0)])
  shutil.move(run.path, "moved")
  for which in ("best", "last"):
    assert find_checkpoint("moved", which) == "moved/model.ckpt-7"


def test_the_same_moment_is_not_written_twice(run):
  run.save(5, step=5)
  before = files_of(run.path)
  run.save(5, step=5, seconds=9.0)
  assert files_of(run.path) == before
  again = Training(run.path)
  again.restore()
  again.save(5, step=5, seconds=9.0)
  assert files_of(run.path) == before


INDEX, DATA = "model.ckpt-2.index", "model.ckpt-2.data-00000-of-00001"


@pytest.mark.parametrize("name", [INDEX, DATA])
@pytest.mark.parametrize("share", [0, 0.5, 0.999, None])
def test_a_truncated_checkpoint_is_passed_over(run, name, share, caplog):
  run.save(1, step=1)
  run.save(2, step=2)
  if share is None:
    (run.path / name).unlink()
  else:
    os.truncate(run.path / name, int(share * (run.path / name).stat().st_size))
  step, progress = Training(run.path).restore()
  assert (step, progress.step) == (1, 1)
  if (name, share) != (INDEX, None):  # Without an index there is none.
    assert (
      "/model.ckpt-2 is damaged or belongs to another model: " in caplog.text
    )
  assert caplog.text.count("\n") <= 1


@pytest.mark.parametrize("name", [INDEX, DATA])
def test_a_flipped_bit_is_never_taken_for_right(run, name):
  state = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
  run.save(1, step=1, state=state)
  run.save(2, step=2, costs=0.5, state=state)
  intact = (run.path / name).read_bytes()
  draw, reader = random.Random(1), Training(run.path)
  fell_back = 0
  for _ in range(100):
    damaged = bytearray(intact)
    damaged[draw.randrange(len(intact))] ^= 1 << draw.randrange(8)
    (run.path / name).write_bytes(damaged)
    step, progress = reader.restore()
    # Some bits of an index mean nothing.
    assert (step, progress.costs) in [(1, 0.0), (2, 0.5)]
    np.testing.assert_array_equal(progress.state, state)
    fell_back += step == 1
  assert fell_back > 70


def test_none_is_intact(run):
  run.save(1, step=1)
  run.save(2, step=2)
  for path in run.path.glob("*.index"):
    path.write_bytes(b"")
  before = files_of(run.path)
  with pytest.raises(checkpoints.CheckpointError, match="No checkpoint in "):
    Training(run.path).restore()
  assert files_of(run.path) == before


def test_what_was_damaged_goes_when_the_next_is_written(run):
  for step in (1, 2, 3):
    run.save(step, step=step)
  os.truncate(run.path / "model.ckpt-3.index", 9)
  again = Training(run.path)
  assert again.restore()[0] == 2
  assert checkpoints.steps_in(str(run.path)) == [2, 3]
  leftover = run.path / "model.ckpt-2.index.tempstate123"
  leftover.write_bytes(b"what a killed process left")
  notes = run.path / "model.ckpt-notes.txt"
  notes.write_bytes(b"somebody's")
  again.save(3, step=3)
  assert checkpoints.steps_in(str(run.path)) == [2, 3]
  assert Training(run.path).restore()[0] == 3
  assert notes.exists() and not leftover.exists()
  os.truncate(run.path / "model.ckpt-3.index", 9)
  again = Training(run.path)
  again.restore()
  again.save(4, step=4)
  assert checkpoints.steps_in(str(run.path)) == [2, 4]


def test_a_folder_that_cannot_be_written_keeps_what_it_has(run, monkeypatch):
  run.save(1, step=1)
  before = files_of(run.path)
  full = mock.Mock(side_effect=OSError(28, "No space left on device"))
  monkeypatch.setattr(os, "fsync", full)
  with pytest.raises(OSError, match="No space left"):
    run.save(2, step=2)
  assert files_of(run.path) == before


def test_sizes_and_weights_of_other_checkpoints(run):
  with pytest.raises(
    checkpoints.CheckpointError, match=r"There is no checkpoint .*/none: the f"
  ):
    checkpoints.sizes_in(str(run.path / "none"))
  run.save(1)
  path = str(run.path / "model.ckpt-1")
  with pytest.raises(checkpoints.CheckpointError, match="lacks the matrix em"):
    checkpoints.sizes_in(path)
  for name, shape, message in (
    ("Model/w", [2], r"another model: Model/w should have the shape \[2\]"),
    ("Model/v", [3, 20], "another model: it has no Model/v"),
  ):
    with (
      tf1.Graph().as_default(),
      tf1.Session() as session,
      pytest.raises(checkpoints.CheckpointError, match=message),
    ):
      tf1.get_variable(name, shape, initializer=tf1.zeros_initializer())
      checkpoints.restore_variables(session, path)


def test_a_checkpoint_of_another_run_or_name_is_refused(run, tmp_path):
  run.save(5, step=5)
  for file in run.path.glob("model.ckpt-5.*"):
    shutil.copy(file, run.path / file.name.replace("-5.", "-6."))
  path = str(run.path / "model.ckpt-6")
  with pytest.raises(checkpoints.CheckpointError, match="under another name"):
    checkpoints.check_intact(path)
  other = Training(tmp_path / "other", OTHER_RUN)
  other.path.mkdir()
  other.save(5, step=5)
  path = str(other.path / "model.ckpt-5")
  checkpoints.check_intact(path, OTHER_RUN.id)
  checkpoints.check_intact(path)  # Of whatever run it is.
  with pytest.raises(checkpoints.CheckpointError, match="with another config"):
    checkpoints.check_intact(path, RUN.id)
  with pytest.raises(checkpoints.CheckpointError, match="No checkpoint in"):
    Training(other.path).restore()
  # Older versions did not write whose it is.
  checkpoints.check_intact(str(OLD_RUN / "model.ckpt-191"), RUN.id)


def test_a_checkpoint_of_a_newer_version_is_not_passed_over(run, monkeypatch):
  run.save(1, step=1)
  record = dict(dataclasses.asdict(checkpoints.Progress(step=2)), new=1)
  monkeypatch.setattr(dataclasses, "asdict", lambda progress: record)
  run.save(2, step=2)
  with pytest.raises(
    checkpoints.CheckpointError,
    match="ckpt-2 was written by another version of this program: it has `new`",
  ):
    Training(run.path).restore()


def test_a_checkpoint_has_its_run(run):
  run.save(5, step=5)
  record = checkpoints.record_in(str(run.path / "model.ckpt-5"))
  assert Run.from_json(record["run"]) == RUN
  assert record["run_id"] == RUN.id


def test_files_with_other_names_are_no_checkpoints(tmp_path):
  for name in ("5", "12", "12-copy", "7 (old)", "8b", ""):
    (tmp_path / f"model.ckpt-{name}.index").write_text("")
  assert checkpoints.steps_in(str(tmp_path)) == [5, 12]


def test_a_checkpoint_is_described(run):
  path = str(run.path)
  assert checkpoints.describe(f"{TINY}/model.ckpt-7680") == ""
  run.save(3, step=3)
  last = find_checkpoint(path, "last")
  within = f"{last}: within epoch 1, after step 3."
  assert checkpoints.describe(last) == within
  epochs = []
  for number, valid in enumerate([5.0, 9.0], 1):
    epochs.append(epoch(number, valid))
    run.save(number * 7, epochs)
  best, last = (find_checkpoint(path, which) for which in ("best", "last"))
  assert (
    checkpoints.describe(best) == f"{best}: epoch 1, valid perplexity 5.000."
  )
  better = "Epoch 1 is better, with 5.000: --checkpoint=best uses it."
  assert checkpoints.describe(last) == (
    f"{last}: epoch 2, valid perplexity 9.000. {better}"
  )
  # A checkpoint without its run's folder describes itself alone.
  alone = run.path / "alone"
  alone.mkdir()
  for file in run.path.glob("model.ckpt-7.*"):
    shutil.copy(file, alone)
  text = f"{alone}/model.ckpt-7: epoch 1, valid perplexity 5.000."
  assert checkpoints.describe(str(alone / "model.ckpt-7")) == text
  run.save(17, epochs, step=3)
  last = find_checkpoint(path, "last")
  assert checkpoints.describe(last) == (
    f"{last}: within epoch 3, after step 3. Epoch 1 has valid perplexity 5.000:"
    " --checkpoint=best uses it."
  )


def test_the_best_is_what_the_newest_intact_checkpoint_says(run, caplog):
  path = str(run.path)
  epochs = [epoch(1, 5.0), epoch(2, 9.0)]
  run.save(7, epochs[:1])
  run.save(14, epochs)
  run.save(17, epochs, step=3)
  best = find_checkpoint(path, "best")
  assert best.endswith("/model.ckpt-7") and not caplog.text
  (run.path / "model.ckpt-17.index").write_bytes(b"")
  for name in ("best_checkpoint", "checkpoint"):
    (run.path / name).write_bytes(b"\xff")  # For TensorFlow's tools only.
  assert find_checkpoint(path, "best") == best
  assert (
    "/model.ckpt-17 is damaged or belongs to another model: " in caplog.text
  )
  for file in run.path.glob("*.index"):
    file.write_bytes(b"")
  with pytest.raises(checkpoints.CheckpointError, match="can be read"):
    find_checkpoint(path, "best")


def test_the_last_has_the_largest_step(run, caplog):
  path = str(run.path)
  for step in (3, 5):
    run.save(step, step=step)
  for content in (b'model_checkpoint_path: "model.ckpt-3"\n', b"\xff"):
    (run.path / "checkpoint").write_bytes(content)
    assert find_checkpoint(path, "last").endswith("model.ckpt-5")
    assert Training(run.path).restore()[0] == 5
  assert not caplog.text
  for file in run.path.glob("model.ckpt-3.*"):  # A stray one is not resumed.
    shutil.copy(file, run.path / file.name.replace("-3.", "-99999."))
  assert Training(run.path).restore()[0] == 5
  assert "it is model.ckpt-3, under another name" in caplog.text
  (run.path / "model.ckpt-99999.index").unlink()
  (run.path / "model.ckpt-5.index").unlink()
  assert find_checkpoint(path, "last").endswith("model.ckpt-3")
