"""The folder of a run, which --save_path names.

config.json       which run it is: model, seed, dtype, config, data checksums
vocabulary.txt    a word a line; the line's number, from 0, is the word's id
model.ckpt-*      the checkpoints (see lm/run/checkpoints.py)
checkpoint, best_checkpoint   the names of the newest and of the best checkpoint
events.out.tfevents.*         summaries for TensorBoard, a file for each start
epochs.jsonl      a JSON object a line: the numbers of each epoch
result.json       the numbers of the finished run
.lock             held by the process that uses the folder
"""

import contextlib
import dataclasses
import json
import logging
import os
import pathlib
import time

import filelock

from lm.base import tf1
from lm.base.command import InputError, reason_of
from lm.base.files import (
  DamagedFileError,
  read_json,
  same_path,
  write_file,
)
from lm.run import checkpoints
from lm.run.run import Run, lines_of, sha256_of_lines
from lm.run.summaries import Summaries

_LOGGER = logging.getLogger(__name__)
# How the names of a run's files start, without config.json.
_NAMES = ("vocabulary.txt", "model.ckpt", "checkpoint", "epochs.", "result.")
# What result.json has at least.
_RESULT = {"epoch", "train_perplexity", "valid_perplexity", "test_perplexity"}


class RunFolderError(InputError, OSError):
  """The folder cannot be used, read or written, or it holds another run."""


class Timer:
  """True once the given minutes have passed since its start."""

  def __init__(self, minutes):
    self._seconds = 60 * minutes
    self.start()

  def start(self):
    """Starts the timer, or restarts it."""
    self._started = time.monotonic()  # A clock that nobody can set.

  def __bool__(self):
    return time.monotonic() - self._started >= self._seconds


class NoRunFolder(contextlib.AbstractContextManager):
  """The case without --save_path: keeps nothing."""

  result = None
  is_due = False

  def restore(self, session, state_shape):
    """Returns the Progress of a new run."""
    return checkpoints.Progress()

  def _do_nothing(self, *args):
    pass

  save = summarize = finish = __exit__ = _do_nothing


class RunFolder(NoRunFolder):
  """A run's folder: written as the run proceeds, read when it resumes.

  It is locked while it is open. Use it as a context manager. Each method raises
  RunFolderError if it cannot write.

  Attributes:
    result: the numbers of the finished run, a dictionary; None before.
    is_due: true when it is time for the next checkpoint.
  """

  def __init__(self, path, run, vocabulary, checkpoint_minutes=10.0):
    """Opens the folder, which is made if it is missing.

    Args:
      path: the folder.
      run: the Run that is to be trained in it.
      vocabulary: the words in the order of their ids.
      checkpoint_minutes: the time between two checkpoints.

    Raises:
      RunFolderError: also if it holds another run, or another process uses it.
        Nothing in it has changed then.
    """
    check_name(path)
    self.path = path
    self.is_due = Timer(checkpoint_minutes)
    with self._trying_to("make the folder"):
      os.makedirs(path, exist_ok=True)
      self._folder = os.stat(path)
    first = self._first_run()  # A refused folder gets no lock.
    self._run = run if first is None else self._resumed(first, run)
    self._lock = self._locked()
    if first is None:
      self._write_config()
    self._write("vocabulary.txt", lines_of(vocabulary))
    # Another end is written only when the checkpoint is known to allow it.
    has_new_end = first is not None and self._run.config != first.config
    self.result = None if has_new_end else self._read_result()

  def __exit__(self, *exception):
    self._lock.release()

  def _first_run(self):
    """Returns the Run that has trained in the folder; None if none has."""
    names = os.listdir(self.path)
    if "config.json" not in names:
      if used := [name for name in names if name.startswith(_NAMES)]:
        raise RunFolderError(
          f"{self.path} has a file {min(used)}, but no config.json that says "
          "which run it is of. Put that back, or name another folder."
        )
      return None
    has_run = checkpoints.steps_in(self.path) or not (
      {"epochs.jsonl", "result.json"}.isdisjoint(names)
    )
    return read_config(self.path) if has_run else None

  def _resumed(self, first, run):
    """Returns `run` as it goes on from `first`, the folder's.

    Raises RunFolderError if it is another one.
    """
    # The mode in which it began, a name for init_from, and its checkpoint stay.
    mode = first.config.rnn_mode
    kept = {"config": dataclasses.replace(run.config, rnn_mode=mode)}
    kept["init_checkpoint"] = first.init_checkpoint
    if same_path(first.init_from, run.init_from):
      kept["init_from"] = first.init_from
    resumed = dataclasses.replace(run, **kept)
    if unlike := first.differences(resumed):
      raise RunFolderError(
        f"{self.path} holds another run: {'; '.join(unlike)}. Give "
        "--save_path another folder, or the flags and the data of that run."
      )
    if run.config.rnn_mode != mode:
      _LOGGER.warning(
        "%s began in rnn_mode %s: with another, its last digits differ.",
        *(self.path, mode),
      )
    return resumed

  def restore(self, session, state_shape):
    """Reads the newest intact checkpoint; returns its checkpoints.Progress.

    Call it when the graph has all of its variables and they are initialized.
    The LSTM's state has the shape state_shape, [L, 2, B, H].

    Raises:
      checkpoints.CheckpointError: if there are checkpoints, but none is intact.
    """
    self._checkpoints = checkpoints.Checkpoints(
      self.path, state_shape, self._run
    )
    with self._trying_to("read the checkpoints"):
      progress, step = self._checkpoints.restore(session)
    self._check_end(progress)
    if step is None and os.path.exists(os.path.join(self.path, "epochs.jsonl")):
      _LOGGER.warning(
        "%s has no checkpoint left: training from the start.", self.path
      )
    elif step is not None:
      self._write_epochs(progress)  # A kill may have come before that.
      where = f"after epoch {len(progress.epochs)}"
      if progress.step:
        where = f"epoch {progress.epoch}, after step {progress.step}"
      _LOGGER.warning(
        "Resuming %s from model.ckpt-%s: %s.", self.path, step, where
      )
    with self._trying_to("write the summaries"):
      self._summaries = Summaries(self.path, step or 0)
    self.is_due.start()
    return progress

  def save(self, session, step, progress):
    """Writes a checkpoint of this global step; epochs.jsonl after an epoch."""
    with self._trying_to("write the checkpoint"):
      if not os.path.samestat(os.stat(self.path), self._folder):
        raise FileNotFoundError(0, "the folder was replaced by another one")
      self._checkpoints.save(session, step, progress)
    if progress.step == 0:
      self._write_epochs(progress)
    self.is_due.start()

  def summarize(self, step, prefix, values):
    """Writes a dictionary of numbers for TensorBoard, at a global step.

    The tags are the names with a prefix, such as "train/".
    """
    values = {prefix + name: value for name, value in values.items()}
    with self._trying_to("write the summaries"):
      self._summaries.add(step, values)

  def finish(self, step, values):
    """Writes result.json, and each number as a summary "result/..."."""
    self._write("result.json", json.dumps(values, indent=2) + "\n")
    self.summarize(step, "result/", values)

  def _check_end(self, progress):
    """Writes after which epoch the run ends, which must not be over."""
    limit = self._run.config.max_max_epoch
    where = f"has trained {len(progress.epochs)} epochs"
    if progress.step:
      where = f"is in epoch {progress.epoch}"
    if progress.epoch - (progress.step == 0) > limit:
      raise RunFolderError(
        f"{self.path} {where} already: max_max_epoch={limit} is too small. "
        "Make it larger, or use another --save_path."
      )
    with (
      self._trying_to("remove result.json"),
      contextlib.suppress(FileNotFoundError),
    ):
      os.remove(os.path.join(self.path, "result.json"))
    self._write_config()

  def _write_config(self):
    about = json.dumps(self._run.to_json(), indent=2)
    self._write("config.json", about + "\n")

  def _write_epochs(self, progress):
    self._write("epochs.jsonl", lines_of(map(json.dumps, progress.epochs)))

  def _read_result(self):
    """Returns what result.json says, None if it is missing or damaged."""
    path = os.path.join(self.path, "result.json")
    if not os.path.exists(path):
      return None
    try:
      return read_json(
        path,
        lambda result: {name: result[name] for name in [*_RESULT, *result]},
        "It is rebuilt.",
      )
    except DamagedFileError as error:
      _LOGGER.warning("%s", error)
      return None

  def _locked(self):
    """Locks the folder until the process ends; returns the lock."""
    lock = filelock.FileLock(os.path.join(self.path, ".lock"))
    try:
      lock.acquire(blocking=False)
    except filelock.Timeout:
      raise RunFolderError(
        f"{self.path} is in use by another process. Wait until it ends, or "
        "give --save_path another folder."
      ) from None
    except (OSError, NotImplementedError) as error:
      if getattr(error, "filename", None):  # The file cannot be opened.
        raise RunFolderError(
          f"Cannot write the folder --save_path={self.path}: {error.strerror}."
        ) from None
      _LOGGER.warning(  # Some network file systems have no locks.
        "%s cannot be locked: do not start a second run in it.", self.path
      )
    return lock

  def _write(self, name, text):
    """Writes a file completely or not at all."""
    with self._trying_to(f"write {name}"):
      write_file(os.path.join(self.path, name), text)

  @contextlib.contextmanager
  def _trying_to(self, do):
    """Raises RunFolderError for whatever goes wrong in the block."""
    where = f"Cannot {do} of --save_path={self.path}"
    try:
      yield
    except InputError:
      raise
    except OSError as error:
      raise RunFolderError(f"{where}: {error.strerror}.") from None
    except tf1.errors.OpError as error:
      raise RunFolderError(f"{where}: {reason_of(error)}") from None


def run_in(path):
  """Returns the Run with a checkpoint in a folder; None if there is none."""
  if path is None or not checkpoints.steps_in(path):
    return None
  return read_config(path)


def check_name(path, flag="--save_path"):
  """Raises RunFolderError if `path`, given by `flag`, cannot be a run's."""
  if not path:
    raise RunFolderError(f"{flag} is empty: name a folder, or leave it out.")
  if "://" in path:
    raise RunFolderError(f"{flag}={path} is not a local folder. Name one.")
  if set("*?[\\") & set(path):
    raise RunFolderError(
      f"{flag}={path} has one of the characters * ? [ \\, which TensorFlow "
      "takes for a pattern of names. Choose a name without them."
    )
  if os.path.lexists(path) and not os.path.isdir(path):
    raise RunFolderError(f"{flag}={path} is not a folder. Name a folder.")


def read_config(path):
  """Returns the Run that config.json in the folder `path` describes.

  Raises:
    RunFolderError: if there is none.
    DamagedFileError: if it cannot be read.
  """
  name = os.path.join(path, "config.json")
  if not os.path.lexists(name):
    raise RunFolderError(
      f"{path} is not the folder of a run: it has no config.json. Name one "
      "that --save_path has named."
    )
  advice = "Put back a copy, or name another folder."
  return read_json(name, Run.from_json, advice)


def read_run(path, flag="--save_path"):
  """Reads what a run's folder, which `flag` names, says about its model.

  Returns:
    (run, vocabulary): a Run, and the words in the order of their ids.

  Raises:
    InputError: if something is missing or damaged.
  """
  check_name(path, flag)
  run = read_config(path)
  name = os.path.join(path, "vocabulary.txt")
  try:
    vocabulary = _read_text(name).split("\n")[:-1]
  except OSError as error:
    raise RunFolderError(
      f"{name} cannot be read: {error.strerror}. If it is missing, the command "
      "that trained the run rebuilds it."
    ) from None
  is_known = run.vocabulary_sha256 in (None, sha256_of_lines(vocabulary))
  size = len(set(vocabulary))
  if not (is_known and len(vocabulary) == size == run.config.vocab_size):
    raise RunFolderError(
      f"{name} was changed after the training: its words no longer belong to "
      "the model's ids. Remove the file: the command that trained the run "
      "rebuilds it."
    )
  return run, vocabulary


def _read_text(path):
  """Returns a file's text, as it was before an editor changed line ends."""
  return pathlib.Path(path).read_text("utf-8", errors="replace")
