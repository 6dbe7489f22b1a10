"""Tests of run_folder.py: which run a folder holds, and damage in it."""

import contextlib
import dataclasses
import json
import os
import time
from unittest import mock

import filelock
import numpy as np
import pytest
from tensorboard.backend.event_processing import event_accumulator

import configs
from lm.base import tf1
from lm.base.files import DamagedFileError
from lm.run import checkpoints, run_folder
from lm.run.run import Run, sha256_of_lines
from lm.run.run_folder import RunFolderError

WORDS = ["the", "<eos>", "é"]
RUN = Run(
  model="test",
  seed=1,
  dtype="float32",
  config=configs.TestConfig(vocab_size=3, keep_prob=0.5),
  data_sha256={"ptb.train.txt": "12", "ptb.test.txt": "34"},
)
VALUES = RUN.to_json()
VOCABULARY = "the\n<eos>\né\n"
RESULT = {"epoch": 2} | {
  f"{part}_perplexity": 5.0 for part in ("train", "valid", "test")
}


@contextlib.contextmanager
def open_folder(path, run=RUN):
  """Yields the RunFolder, claimed by the run."""
  with run_folder.RunFolder(str(path)) as folder:
    folder.claim(run, WORDS)
    yield folder


def start(path, run=RUN):
  """Starts a run in a folder, and ends it at once."""
  with open_folder(path, run):
    pass


@contextlib.contextmanager
def restored(path):
  """Yields (folder, session, progress) of a model without weights."""
  with (
    open_folder(path) as folder,
    tf1.Graph().as_default(),
    tf1.Session() as session,
  ):
    step = tf1.train.get_or_create_global_step()
    session.run(tf1.global_variables_initializer())
    progress = folder.restore(session, [1, 2, 3, 4])
    save = folder.save

    def save_step(session, number, progress):
      step.load(number, session)
      save(session, number, progress)

    folder.save = save_step
    yield folder, session, progress


def files_of(path):
  return {p.name: p.read_bytes() for p in path.iterdir()}


def change(path, text):
  """Writes another text to a file, or removes it if there is None."""
  path.unlink() if text is None else path.write_text(text)


@pytest.fixture
def new(tmp_path):
  """The folder of a run that has no checkpoint yet."""
  start(tmp_path / "new" / "run")
  return tmp_path / "new" / "run"


@pytest.fixture
def path(new):
  """The folder of a run that has begun."""
  (new / "epochs.jsonl").write_text("")
  return new


def check_new_folder(path):
  assert json.loads((path / "config.json").read_text()) == VALUES
  assert (path / "vocabulary.txt").read_text() == VOCABULARY
  assert {p.name for p in path.iterdir()} - {".lock"} == (
    {"config.json", "vocabulary.txt"}
  )


def test_without_a_folder_nothing_is_written():
  with run_folder.NoRunFolder() as folder:
    folder.claim(RUN, WORDS)
    assert folder.restore(None, []) == checkpoints.Progress()
    folder.save(None, 1, None)
    folder.summarize(1, "train/", {})
    folder.finish(1, {})
    assert folder.begun is folder.result is None and not folder.is_due


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"seed": 2}, "holds another run: seed is 1 there, 2 here. Choose anot"),
    ({"seed": 2, "model": "small"},
     "run: model is test there, small here; seed is 1 there, 2 here. Choo"),
    ({"config": configs.TestConfig(vocab_size=3, keep_prob=0.4)},
     "run: keep_prob is 0.5 there, 0.4 here. Choo"),
    ({"data_sha256": {"ptb.train.txt": "12", "ptb.test.txt": "35"}},
     "run: ptb.test.txt differs. Choose"),
    ({"vocab_limit": 9}, "run: --vocab_size is not set there, 9 here. Choo"),
  ],
)  # fmt: skip
def test_another_run_is_refused_untouched(path, changes, message):
  before = files_of(path)
  with pytest.raises(RunFolderError, match=message):
    start(path, dataclasses.replace(RUN, **changes))
  assert files_of(path) == before
  start(path)  # It is not left locked.


@pytest.mark.parametrize(
  ("name", "message"),
  [
    *((name, "has one of the charact") for name in ("[a]", "a*", "a?", "a\\b")),
    ("gs://bucket/run", "is not a local folder"),
    ("", "is empty"),
  ],
)
def test_names_that_no_run_can_have(tmp_path, monkeypatch, name, message):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(RunFolderError, match=message):
    run_folder.RunFolder(name)
  assert not list(tmp_path.iterdir())


def test_two_at_once_are_refused(path):
  with open_folder(path) as folder:
    before = files_of(path)
    with pytest.raises(RunFolderError, match="in use by another process"):
      run_folder.RunFolder(str(path))
    assert files_of(path) == before
    assert folder.result is None


@pytest.mark.parametrize("error", [OSError(37, "None"), NotImplementedError])
def test_without_locks_it_warns(path, monkeypatch, caplog, error):
  """As on some network file systems, with different versions of filelock."""
  acquire = mock.Mock(side_effect=error)
  monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
  with open_folder(path):
    assert "cannot be locked: do not start a second run in it" in caplog.text


@pytest.mark.parametrize(
  "name",
  ["epochs.jsonl", "model.ckpt-5.index", "result.json", "vocabulary.txt"],
)
def test_a_run_without_config_is_refused(tmp_path, name):
  (tmp_path / name).write_text("")
  with pytest.raises(RunFolderError, match=f"has a file {name}, but no config"):
    run_folder.RunFolder(str(tmp_path))
  assert files_of(tmp_path) == {name: b""}


@pytest.mark.parametrize(
  "text",
  [
    "",
    '{"config": {}}',
    json.dumps({**VALUES, "preparation": 1}),
    json.dumps({**VALUES, "new": 1}),
  ],
)
def test_a_damaged_config_is_refused(path, text):
  (path / "config.json").write_text(text)
  before = files_of(path)
  with pytest.raises(DamagedFileError, match=r"config\.json is damag.* Put"):
    run_folder.RunFolder(str(path))
  assert files_of(path) == before


def test_a_run_without_a_checkpoint_is_no_run(new):
  check_new_folder(new)
  (new / "config.json").write_text('{"config": {"vocab_size": 9}}')
  (new / "vocabulary.txt").write_text("half of an")
  start(new)
  check_new_folder(new)


@pytest.mark.parametrize("words", [None, "a\n"])
def test_the_vocabulary_is_written_at_each_start(path, words, caplog):
  change(path / "vocabulary.txt", words)
  start(path)
  assert (path / "vocabulary.txt").read_text() == VOCABULARY
  assert not caplog.text


def test_another_vocabulary_of_the_same_size_is_refused(new):
  first, second = (
    dataclasses.replace(RUN, vocabulary_sha256=checksum) for checksum in "ab"
  )
  start(new, first)
  (new / "epochs.jsonl").write_text("")
  start(new, first)
  before = files_of(new)
  with pytest.raises(RunFolderError, match=r"the vocabulary differs \(perhaps"):
    start(new, second)
  assert files_of(new) == before


def test_a_finished_run_records_whether_to_keep_checkpoints(path):
  with restored(path) as (folder, *_):
    folder.finish(1, RESULT)
  keeping = dataclasses.replace(RUN, keep_checkpoints=True)
  with open_folder(path, keeping) as folder:
    assert folder.result == RESULT
  with open_folder(path, keeping) as folder:
    assert folder.begun == keeping


def test_a_run_that_has_begun_keeps_its_mode_in_config_json(path, caplog):
  config = dataclasses.replace(RUN.config, rnn_mode="basic")
  with open_folder(path, dataclasses.replace(RUN, config=config)) as folder:
    assert folder.begun == RUN
  assert json.loads((path / "config.json").read_text()) == VALUES
  assert "began in rnn_mode block. In another mode, its results" in caplog.text


def test_a_finished_run_is_known_by_its_result(path):
  """As long as the flags ask for the same end."""
  with restored(path) as (folder, *_):
    folder.finish(1, RESULT)
  for patience, result in ((0, RESULT), (3, None)):
    config = dataclasses.replace(RUN.config, patience=patience)
    with open_folder(path, dataclasses.replace(RUN, config=config)) as folder:
      assert folder.result == result


@pytest.mark.parametrize("text", ["", "[1]"])
def test_a_damaged_result_is_refused(path, text):
  (path / "result.json").write_text(text)
  with pytest.raises(
    DamagedFileError, match=r"result\.json is dam.* Remove it"
  ):
    start(path)


@pytest.mark.parametrize("damage", [None, '{"epoch": 1, "valid'])
def test_epochs_are_written_at_each_start(new, damage, caplog):
  numbers = {"valid_perplexity": 7.5, "global_step": 6}
  epochs = new / "epochs.jsonl"
  with restored(new) as (folder, session, progress):
    progress.end_epoch(numbers)
    folder.save(session, 6, progress)
  assert not caplog.text
  assert epochs.read_text() == json.dumps(numbers) + "\n"
  change(epochs, damage)
  with restored(new):
    assert epochs.read_text() == json.dumps(numbers) + "\n"
  (record,) = caplog.records
  assert record.message == f"Resuming {new} from model.ckpt-6: after epoch 1."
  for file in new.glob("*ckpt*"):
    file.unlink()
  with restored(new) as (*_, progress):
    assert progress == checkpoints.Progress()
  assert "has no checkpoint left: training from the start" in caplog.text


def test_summaries_that_cannot_be_written(path):
  with restored(path) as (folder, *_):
    folder._summaries._file = tf1.io.TFRecordWriter("/dev/full")
    message = "^Cannot write the summaries to --save_path="
    for _ in range(2):
      with pytest.raises(RunFolderError, match=message):
        folder.summarize(1, "train/", {"loss": 1.0})


def test_tensorboard_sees_each_step_once(new, monkeypatch):
  """Also after a kill, and with a clock that was set back."""

  def train(losses, is_saved, now):
    monkeypatch.setattr(time, "time", lambda: now)
    with restored(new) as (folder, session, progress):
      for number, loss in losses.items():
        folder.summarize(number, "train/", {"loss": loss})
      if is_saved:
        progress.step, progress.state = number, np.zeros([1, 2, 3, 4])
        folder.save(session, number, progress)

  def check(losses):
    events = event_accumulator.EventAccumulator(str(new))
    events.Reload()
    found = [(e.step, e.value) for e in events.Scalars("train/loss")]
    assert found == list(losses.items())

  train({2: 9.0, 4: 8.0}, False, 5000)
  train({2: 7.0, 3: 6.0}, True, 4000)
  check({2: 7.0, 3: 6.0})
  train({4: 5.0, 5: 4.0, 6: 3.0}, False, 3000)
  train({4: 2.0, 5: 1.0}, True, 2000)
  check({2: 7.0, 3: 6.0, 4: 2.0, 5: 1.0})
  names = [f"events.out.tfevents.{number:06}" for number in range(4)]
  assert sorted(p.name for p in new.glob("*tfevents*")) == names
  # If somebody removes a file, the others are still not overwritten.
  (new / names[0]).unlink()
  train({6: 0.5}, True, 1000)
  check({2: 7.0, 3: 6.0, 4: 2.0, 5: 1.0, 6: 0.5})


def test_a_timer_heeds_no_clock_that_can_be_set(monkeypatch):
  now = [1000]
  monkeypatch.setattr(time, "monotonic", lambda: now[0])
  monkeypatch.setattr(time, "time", lambda: 0)
  timer = run_folder.Timer(2)
  for now[0], is_due in ((1000, False), (1119, False), (1120, True)):
    assert bool(timer) == is_due
  assert run_folder.Timer(0)


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_folder_that_was_removed_is_not_made_again(path, is_replaced):
  with open_folder(path) as folder:
    path.rename(path.parent / "moved")
    if is_replaced:
      path.mkdir()
    with pytest.raises(RunFolderError, match="Cannot write the check"):
      folder.save(None, 1, checkpoints.Progress())
    assert path.exists() == is_replaced


def test_what_cannot_be_written_leaves_the_old(path, monkeypatch):
  with restored(path) as (folder, *_):
    folder.finish(1, RESULT)
    before = files_of(path)
    full = mock.Mock(side_effect=OSError(28, "No space left on device"))
    monkeypatch.setattr(os, "fsync", full)
    message = r"Cannot write result\.json to --save_path=.*: No space left"
    with pytest.raises(RunFolderError, match=message):
      folder.finish(1, {})
    assert files_of(path) == before


def test_a_changed_vocabulary_is_refused(path):
  run = dataclasses.replace(RUN, vocabulary_sha256=sha256_of_lines(WORDS))
  file = path / "vocabulary.txt"
  # An editor on Windows writes other line ends.
  file.write_bytes(VOCABULARY.replace("\n", "\r\n").encode())
  assert run_folder.vocabulary_in(str(path), run) == WORDS
  for words in (WORDS[::-1], ["", *WORDS[1:]], [WORDS[0] + " ", *WORDS[1:]]):
    file.write_text("".join(f"{word}\n" for word in words))
    with pytest.raises(RunFolderError, match="was changed after the training"):
      run_folder.vocabulary_in(str(path), run)
