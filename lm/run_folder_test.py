"""Tests of run_folder.py: whose folder it is, and what is damaged in it."""

import copy
import fcntl
import json
import os
import pathlib
import time

import pytest
from tensorboard.backend.event_processing import event_accumulator

import configs
from lm import checkpoints, run_folder, tf1

ABOUT = {
  "model": "test",
  "seed": 1,
  "config": {"hidden_size": 2, "keep_prob": 0.5},
  "data_sha256": {"ptb.train.txt": "12", "ptb.test.txt": "34"},
}
WORDS = ["the", "<eos>", "é"]
RESULT = {
  "epoch": 2,
  "train_perplexity": 5.0,
  "valid_perplexity": 6.5,
  "test_perplexity": 6.25,
}


def open_folder(path, about=ABOUT, words=WORDS, **kwargs):
  return run_folder.RunFolder(str(path), about, words, **kwargs)


def files_of(path):
  return {p.name: p.read_bytes() for p in path.iterdir()}


@pytest.fixture
def new(tmp_path):
  """The folder of a run that has just begun."""
  with open_folder(tmp_path / "new" / "run"):
    pass
  return tmp_path / "new" / "run"


@pytest.fixture
def path(new):
  """The folder of a run with something in it."""
  (new / "epochs.jsonl").write_text("")
  return new


def check_new_folder(path):
  assert json.loads((path / "config.json").read_text()) == ABOUT
  assert (path / "vocabulary.txt").read_text() == "the\n<eos>\né\n"
  assert len(files_of(path)) == 2


def test_a_new_folder(new):
  check_new_folder(new)
  with open_folder(new):
    pass
  check_new_folder(new)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"seed": 2}, "holds another run: seed is 1 there, 2 here. Give --save_"),
    ({"seed": 2, "model": "small"},
     "run: model is test there, small here; seed is 1 there, 2 here. Give"),
    ({"config": {"hidden_size": 2, "keep_prob": 0.4}},
     "run: keep_prob is 0.5 there, 0.4 here. Give"),
    ({"data_sha256": {"ptb.train.txt": "12", "ptb.test.txt": "35"}},
     "run: ptb.test.txt is another text. Give"),
    ({"dtype": "float32"}, "run: dtype is None there, float32 here. Give"),
  ],
)  # fmt: skip
def test_another_run_is_refused_untouched(path, changes, message):
  before = files_of(path)
  with pytest.raises(run_folder.RunFolderError, match=message):
    open_folder(path, about={**ABOUT, **changes})
  assert files_of(path) == before
  with open_folder(path):  # It is not left locked.
    pass


@pytest.mark.parametrize("name", ["[a]", "a*", "a?", "a\\b"])
def test_patterns_are_no_names(tmp_path, name):
  with pytest.raises(run_folder.RunFolderError, match="has one of the charact"):
    open_folder(tmp_path / name)
  assert not list(tmp_path.iterdir())


def test_two_at_once_are_refused(path):
  with open_folder(path) as folder:
    before = files_of(path)
    with pytest.raises(run_folder.RunFolderError, match="in use by another"):
      open_folder(path)
    assert files_of(path) == before
    assert folder.result is None
  with open_folder(path):
    pass


def test_without_locks_it_warns(path, monkeypatch, caplog):
  def no_locks(fd, operation):
    raise OSError(37, "No locks available")

  monkeypatch.setattr(fcntl, "flock", no_locks)
  with open_folder(path):
    assert "cannot be locked (No locks available)" in caplog.text


@pytest.mark.parametrize(
  "name",
  ["epochs.jsonl", "model.ckpt-5.index", "model.ckpt-5.meta", "result.json",
   "checkpoint", "vocabulary.txt"],
)  # fmt: skip
def test_a_run_without_config_is_refused(new, name):
  path = new
  (path / "config.json").unlink()
  (path / "vocabulary.txt").unlink()
  (path / name).write_text("")
  before = files_of(path)
  with pytest.raises(
    run_folder.RunFolderError, match=r"has a file .*, but no config\.json"
  ):
    open_folder(path)
  assert files_of(path) == before


@pytest.mark.parametrize(
  "text", ["", "{", "[]", '{"mine": 1}', '{"config": 3}']
)
def test_a_damaged_config_is_refused(path, text):
  (path / "config.json").write_text(text)
  before = files_of(path)
  with pytest.raises(run_folder.RunFolderError, match=r"config\.json is damag"):
    open_folder(path)
  assert files_of(path) == before


@pytest.mark.parametrize("words", [None, "half of an"])
def test_a_run_without_a_checkpoint_is_no_run(new, words):
  (new / "config.json").write_text('{"seed": 2, "config": {}}')
  (new / "vocabulary.txt").unlink()
  if words is not None:
    (new / "vocabulary.txt").write_text(words)
  with open_folder(new):
    pass
  check_new_folder(new)


def test_a_missing_vocabulary_is_made_anew(path, caplog):
  (path / "vocabulary.txt").unlink()
  with open_folder(path):
    assert "vocabulary.txt was missing, made anew" in caplog.text
  assert (path / "vocabulary.txt").read_text() == "the\n<eos>\né\n"
  (path / "vocabulary.txt").write_text("a\n")
  with pytest.raises(run_folder.RunFolderError, match="is not that of the tra"):
    open_folder(path)


@pytest.mark.parametrize(
  "damage", [lambda s: s, lambda s: s[:-9], lambda s: "", lambda s: "[1]",
             lambda s: s.replace("5.0", '"5"')]
)  # fmt: skip
def test_a_damaged_result_is_none(path, damage):
  with open_folder(path) as folder:
    folder._open_events(0)
    folder.finish(1, RESULT)
  text = (path / "result.json").read_text()
  (path / "result.json").write_text(damage(text))
  with open_folder(path) as folder:
    assert folder.result == (RESULT if damage(text) == text else None)


@pytest.mark.parametrize(
  "damage", [None, "", '{"epoch": 1, "valid', "\x00\ufffd"]
)
def test_damaged_epochs_are_made_anew(path, damage, caplog):
  def restore(folder):
    with tf1.Graph().as_default(), tf1.Session() as session:
      tf1.train.get_or_create_global_step()
      model = FakeModel()
      session.run(tf1.global_variables_initializer())
      progress = folder.restore(session, model)
      if not progress.epochs:
        progress.end_epoch({"valid_perplexity": 7.5, "global_step": 6})
        folder.save(session, 6, progress)

  with open_folder(path) as folder:
    restore(folder)
  assert not caplog.text
  epochs = path / "epochs.jsonl"
  whole = epochs.read_text()
  assert json.loads(whole) == {"valid_perplexity": 7.5, "global_step": 6}
  epochs.unlink() if damage is None else epochs.write_text(damage)
  with open_folder(path) as folder:
    restore(folder)
  assert epochs.read_text() == whole
  assert "epochs.jsonl did not agree with the checkpoint" in caplog.text
  assert "model.ckpt-6: after epoch 1." in caplog.text
  for file in path.glob("*ckpt*"):
    file.unlink()
  with open_folder(path) as folder:
    restore(folder)
  assert "has no checkpoint left: training from the start" in caplog.text


def test_tensorboard_sees_each_step_once(new, monkeypatch):
  """Also after a kill, and with a clock that was set back."""

  def go_on(losses, is_saved, now):
    monkeypatch.setattr(time, "time", lambda: now)
    with (
      open_folder(new) as folder,
      tf1.Graph().as_default(),
      tf1.Session() as session,
    ):
      step = tf1.train.get_or_create_global_step()
      session.run(tf1.global_variables_initializer())
      progress = folder.restore(session, FakeModel())
      for number, loss in losses.items():
        folder.add_step(number, {"loss": loss})
      step.load(number, session)
      if is_saved:
        progress.step = number
        folder.save(session, number, progress)

  def losses():
    events = event_accumulator.EventAccumulator(str(new))
    events.Reload()
    return {e.step: e.value for e in events.Scalars("train/loss")}, len(
      events.Scalars("train/loss")
    )

  go_on({2: 9.0, 4: 8.0}, False, 5000)
  go_on({2: 7.0, 3: 6.0}, True, 4000)
  assert losses() == ({2: 7.0, 3: 6.0}, 2)
  go_on({4: 5.0, 5: 4.0, 6: 3.0}, False, 3000)
  go_on({4: 2.0, 5: 1.0}, True, 2000)
  assert losses() == ({2: 7.0, 3: 6.0, 4: 2.0, 5: 1.0}, 4)
  names = [f"events.out.tfevents.{number:06}" for number in range(4)]
  assert sorted(p.name for p in new.glob("*tfevents*")) == names
  (new / names[0]).unlink()  # By somebody; the others are not overwritten.
  go_on({6: 0.5}, True, 1000)
  assert losses() == ({2: 7.0, 3: 6.0, 4: 2.0, 5: 1.0, 6: 0.5}, 5)


class FakeModel:
  """As much of a PTBModel as a RunFolder asks for."""

  def __init__(self):
    self.initial_state = [
      tf1.nn.rnn_cell.LSTMStateTuple(*[tf1.zeros([3, 4])] * 2)
    ]
    self.global_step = tf1.train.get_global_step()
    self.input = type("Input", (), {"epoch_size": 9})


def test_checkpoints_are_due_whatever_the_clock_says(path, monkeypatch):
  now = [1000.0]
  monkeypatch.setattr(time, "monotonic", lambda: now[0])
  monkeypatch.setattr(time, "time", lambda: 0.0)
  with open_folder(path, checkpoint_minutes=2) as folder:
    assert not folder.is_due()
    now[0] += 119
    assert not folder.is_due()
    now[0] += 1
    assert folder.is_due()
  with open_folder(path, checkpoint_minutes=0) as folder:
    assert folder.is_due()


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_folder_that_was_removed_is_not_made_again(path, is_replaced):
  with open_folder(path) as folder:
    path.rename(path.parent / "moved")
    if is_replaced:
      path.mkdir()
    with pytest.raises(
      run_folder.RunFolderError, match="Cannot write the check"
    ):
      folder.save(None, 1, checkpoints.Progress())
    assert path.exists() == is_replaced


def test_what_cannot_be_written_leaves_the_old(path, monkeypatch):
  with open_folder(path) as folder:
    folder._open_events(0)
    folder.finish(1, RESULT)
    before = files_of(path)

    def full(fd):
      raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
      run_folder.RunFolderError,
      match=r"Cannot write result\.json of --save_path=.*: No space left",
    ):
      folder.finish(1, {})
    assert files_of(path) == before


def test_the_config_of_a_run(path):
  about = copy.deepcopy(ABOUT)
  about["config"] = vars(configs.TestConfig(vocab_size=len(WORDS)))
  (path / "config.json").write_text(json.dumps(about))
  config = run_folder.config_of(str(path), WORDS)
  assert vars(config) == about["config"]
  with pytest.raises(run_folder.RunFolderError, match="has another vocabulary"):
    run_folder.config_of(str(path), ["the"])
  (path / "vocabulary.txt").unlink()
  with pytest.raises(run_folder.RunFolderError, match=r"y\.txt cannot be read"):
    run_folder.config_of(str(path), WORDS)
  del about["config"]["num_steps"]
  (path / "config.json").write_text(json.dumps(about))
  with pytest.raises(run_folder.RunFolderError, match="has no whole config"):
    run_folder.config_of(str(path), WORDS)
  for wrong in (path.parent, pathlib.Path("/none")):
    with pytest.raises(run_folder.RunFolderError, match="not the folder of a"):
      run_folder.config_of(str(wrong), WORDS)
