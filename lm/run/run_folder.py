"""The folder of a run, which --save_path names.

config.json       the Run (see lm/run/run.py)
vocabulary.txt    one word per line; line numbers, from 0, are the words' ids
model.ckpt-*      the checkpoints (see lm/run/checkpoints.py)
checkpoint, best_checkpoint   the names of the newest and of the best checkpoint
events.out.tfevents.*         summaries for TensorBoard, one file per start
epochs.jsonl      the numbers of each epoch, one JSON object per line
result.json       the numbers of the finished run
.lock             locked by the process that trains in the folder
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
from lm.base.files import read_json, same_path, write_file
from lm.run import checkpoints
from lm.run.run import Run, lines_of, sha256_of_lines
from lm.run.summaries import Summaries

_LOGGER = logging.getLogger(__name__)
# How the names of a run's files start, except for config.json.
_PREFIXES = ("vocabulary.txt", "model.ckpt", "checkpoint", "epochs.", "result.")


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
  """Stands for the folder of a run without --save_path: writes nothing."""

  begun = None
  result = None
  is_due = False

  def __exit__(self, *exception):
    pass

  def claim(self, run, vocabulary):
    pass

  def restore(self, session, state_shape):
    """Returns the Progress of a new run."""
    return checkpoints.Progress()

  def save(self, session, step, progress):
    pass

  def summarize(self, step, prefix, values):
    pass

  def finish(self, step, values):
    pass


class RunFolder(contextlib.AbstractContextManager):
  """The folder of one run: training writes it, and resumes from it.

  Use it as a context manager; the folder is locked until the block ends. Call
  `claim` first. All methods raise RunFolderError if they cannot read or write.

  Attributes:
    begun: the Run that has begun in the folder; None in a new folder.
    result: the numbers of the finished run, a dictionary; None before its end.
    is_due: true when it is time for the next checkpoint.
  """

  def __init__(self, path, checkpoint_minutes=10.0):
    """Opens the folder, and makes it if it is missing.

    Args:
      path: the folder.
      checkpoint_minutes: the time between two checkpoints.

    Raises:
      RunFolderError: also if another process uses the folder.
      DamagedFileError: if its config.json cannot be read.
    """
    check_path(path)
    self.path = path
    self.result = None
    self.is_due = Timer(checkpoint_minutes)
    with self._trying_to("create the folder"):
      os.makedirs(path, exist_ok=True)
      self._folder = os.stat(path)
    self.begun = _begun_run(path)  # A refused folder gets no lock.
    self._lock = self._locked()

  def __exit__(self, *exception):
    self._lock.release()

  def claim(self, run, vocabulary):
    """Begins a run in a new folder, or resumes the one that has begun there.

    Args:
      run: the Run to train.
      vocabulary: the words in the order of their ids.

    Raises:
      RunFolderError: also if another run has begun there. Then nothing changes.
      DamagedFileError: if result.json cannot be read.
    """
    if self.begun is None:
      self._run = run
      self._write_config()
    else:
      self._run = self._resumed(run)
      # If the end of the run changed, `restore` writes config.json, once it
      # knows that the run is not past this end.
      if self._run.config == self.begun.config:
        self._write_config()
        self.result = self._read_result()
    self._write("vocabulary.txt", lines_of(vocabulary))

  def _resumed(self, run):
    """Returns `run` as config.json describes it from now on.

    Raises RunFolderError if it is not the run that has begun.
    """
    # The first rnn_mode, the first name of init_from and its checkpoint stay.
    rnn_mode = self.begun.config.rnn_mode
    unchanged = {
      "config": dataclasses.replace(run.config, rnn_mode=rnn_mode),
      "init_checkpoint": self.begun.init_checkpoint,
    }
    if same_path(self.begun.init_from, run.init_from):
      unchanged["init_from"] = self.begun.init_from
    resumed = dataclasses.replace(run, **unchanged)
    differences = self.begun.differences(resumed)
    known = self.begun.vocabulary_sha256  # Older versions did not record it.
    if known not in (None, run.vocabulary_sha256):
      differences.append(
        "the vocabulary differs (perhaps because of another --vocabulary)"
      )
    if differences:
      raise RunFolderError(
        f"{self.path} holds another run: {'; '.join(differences)}. Choose "
        "another --save_path, or use the flags and the data of that run."
      )
    if run.config.rnn_mode != rnn_mode:
      _LOGGER.warning(
        "%s began in rnn_mode %s. In another mode, its results differ by up to "
        "as much as with another seed.",
        *(self.path, rnn_mode),
      )
    return resumed

  def restore(self, session, state_shape):
    """Restores the newest intact checkpoint.

    Call it when the graph has all of its variables and they are initialized.

    Args:
      session: the session.
      state_shape: the shape of the LSTM's state, [L, 2, B, H].

    Returns:
      The checkpoint's checkpoints.Progress; that of a new run if there is no
      checkpoint.

    Raises:
      checkpoints.CheckpointError: if there are checkpoints, but none is intact.
    """
    self._checkpoints = checkpoints.Checkpoints(
      self.path, state_shape, self._run
    )
    with self._trying_to("read the checkpoints in"):
      progress, step = self._checkpoints.restore(session)
    self._set_end(progress)
    if step is None and os.path.exists(os.path.join(self.path, "epochs.jsonl")):
      _LOGGER.warning(
        "%s has no checkpoint left: training from the start.", self.path
      )
    elif step is not None:
      self._write_epochs(progress)  # A kill may have prevented it.
      where = f"after epoch {len(progress.epochs)}"
      if progress.step:
        where = f"epoch {progress.epoch}, after step {progress.step}"
      _LOGGER.warning(
        "Resuming %s from model.ckpt-%s: %s.", self.path, step, where
      )
    with self._trying_to("write the summaries to"):
      self._summaries = Summaries(self.path, step or 0)
    self.is_due.start()
    return progress

  def save(self, session, step, progress):
    """Writes a checkpoint of a global step, and epochs.jsonl after an epoch."""
    with self._trying_to("write the checkpoint to"):
      if not os.path.samestat(os.stat(self.path), self._folder):
        raise RunFolderError(
          f"Cannot write the checkpoint to --save_path={self.path}: the folder "
          "was replaced by another one."
        )
      self._checkpoints.save(session, step, progress)
    if progress.step == 0:
      self._write_epochs(progress)
    self.is_due.start()

  def summarize(self, step, prefix, values):
    """Writes numbers for TensorBoard.

    Args:
      step: the global step.
      prefix: the start of each tag, such as "train/".
      values: a dictionary from the rest of the tag to the number.
    """
    values = {prefix + name: value for name, value in values.items()}
    with self._trying_to("write the summaries to"):
      self._summaries.add(step, values)

  def finish(self, step, values):
    """Writes the numbers of a finished run: result.json, and summaries."""
    self._write("result.json", json.dumps(values, indent=2) + "\n")
    self.summarize(step, "result/", values)

  def _set_end(self, progress):
    """Writes config.json, with the end of the run, and removes result.json.

    Raises RunFolderError if the run is already past max_max_epoch.
    """
    limit = self._run.config.max_max_epoch
    where = f"has already trained {len(progress.epochs)} epochs"
    if progress.step:
      where = f"is already in epoch {progress.epoch}"
    if progress.epoch - (progress.step == 0) > limit:
      raise RunFolderError(
        f"The run in {self.path} {where}: max_max_epoch={limit} is too small. "
        "Make it larger, or use another --save_path."
      )
    with (
      self._trying_to("remove result.json from"),
      contextlib.suppress(FileNotFoundError),
    ):
      os.remove(os.path.join(self.path, "result.json"))
    self._write_config()

  def _write_config(self):
    text = json.dumps(self._run.to_json(), indent=2)
    self._write("config.json", text + "\n")

  def _write_epochs(self, progress):
    self._write("epochs.jsonl", lines_of(map(json.dumps, progress.epochs)))

  def _read_result(self):
    """Returns the numbers in result.json; None if the run is not finished."""
    path = os.path.join(self.path, "result.json")
    if not os.path.exists(path):
      return None
    return read_json(path, dict, "Remove it: the run writes it again.")

  def _locked(self):
    """Locks the folder; returns the lock."""
    lock = filelock.FileLock(os.path.join(self.path, ".lock"))
    try:
      lock.acquire(blocking=False)
    except filelock.Timeout:
      raise RunFolderError(
        f"{self.path} is in use by another process. Wait until that process "
        "ends, or choose another --save_path."
      ) from None
    except (OSError, NotImplementedError) as error:
      if getattr(error, "filename", None):  # The file cannot be opened.
        raise RunFolderError(
          f"Cannot write to the folder --save_path={self.path}: "
          f"{error.strerror}."
        ) from None
      _LOGGER.warning(  # Some network file systems have no locks.
        "%s cannot be locked: do not start a second run in it.", self.path
      )
    return lock

  def _write(self, name, text):
    """Writes a file completely or not at all."""
    with self._trying_to(f"write {name} to"):
      write_file(os.path.join(self.path, name), text)

  @contextlib.contextmanager
  def _trying_to(self, action):
    """Raises RunFolderError if the block cannot read or write.

    `action` says what the block does, as in "write the checkpoint to".
    """
    failure = f"Cannot {action} --save_path={self.path}"
    try:
      yield
    except InputError:
      raise
    except OSError as error:
      raise RunFolderError(f"{failure}: {error.strerror}.") from None
    except tf1.errors.OpError as error:
      raise RunFolderError(f"{failure}: {reason_of(error)}") from None


def _begun_run(path):
  """Returns the Run that has begun in a folder; None if none has.

  Raises:
    RunFolderError: if a run has begun, but config.json is missing.
    DamagedFileError: if config.json cannot be read.
  """
  names = os.listdir(path)
  if "config.json" not in names:
    if others := [name for name in names if name.startswith(_PREFIXES)]:
      raise RunFolderError(
        f"{path} has a file {min(others)}, but no config.json, which describes "
        "its run. Put config.json back, or choose another folder."
      )
    return None
  has_numbers = not {"epochs.jsonl", "result.json"}.isdisjoint(names)
  has_begun = has_numbers or checkpoints.steps_in(path)
  return read_config(path) if has_begun else None


def check_path(path, flag="--save_path"):
  """Raises RunFolderError if `path`, given by `flag`, cannot be a run's."""
  if not path:
    raise RunFolderError(f"{flag} is empty: give a folder, or leave it out.")
  if "://" in path:
    raise RunFolderError(f"{flag}={path} is not a local folder. Choose one.")
  if set("*?[\\") & set(path):
    raise RunFolderError(
      f"{flag}={path} has one of the characters * ? [ \\, which TensorFlow "
      "reads as a file name pattern. Choose a name without them."
    )


def read_config(path):
  """Returns the Run that config.json in the folder `path` describes.

  Raises:
    RunFolderError: if there is no config.json.
    DamagedFileError: if it cannot be read.
  """
  name = os.path.join(path, "config.json")
  if not os.path.lexists(name):
    raise RunFolderError(
      f"{path} is not the folder of a run: it has no config.json. Choose a "
      "folder that was the --save_path of a training."
    )
  return read_json(
    name, Run.from_json, "Put back a copy, or choose another folder."
  )


def vocabulary_in(path, run):
  """Returns the words in the folder of a Run, in the order of their ids.

  Raises:
    RunFolderError: if vocabulary.txt cannot be read, or was changed.
  """
  name = os.path.join(path, "vocabulary.txt")
  try:
    # This turns line ends that an editor changed into newlines again.
    text = pathlib.Path(name).read_text("utf-8", errors="replace")
  except OSError as error:
    raise RunFolderError(
      f"{name} cannot be read: {error.strerror}. If it is missing, repeat the "
      "command that trained the run, which rebuilds the file."
    ) from None
  vocabulary = text.split("\n")[:-1]
  is_known = run.vocabulary_sha256 in (None, sha256_of_lines(vocabulary))
  if not is_known or len(vocabulary) != run.config.vocab_size:
    raise RunFolderError(
      f"{name} was changed after the training: its words no longer match the "
      "model's ids. Remove the file, and repeat the command that trained the "
      "run, which rebuilds it."
    )
  return vocabulary
