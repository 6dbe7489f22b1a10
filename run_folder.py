"""The folder of a run, which --save_path names.

config.json       what run it is: model, seed, dtype, config, data checksums
vocabulary.txt    a word a line; the line's number, from 0, is the word's id
model.ckpt-*      the checkpoints (see checkpoints.py)
checkpoint, best_checkpoint   the names of the newest and of the best one
events.out.tfevents.*         summaries for TensorBoard
epochs.jsonl      a JSON object a line: what each epoch reached
result.json       what the finished run reached
"""

import contextlib
import fcntl
import functools
import json
import os
import time

from absl import logging

import checkpoints
import configs
import tf1

# What result.json has at least.
RESULT_NAMES = (
  "epoch",
  "train_perplexity",
  "valid_perplexity",
  "test_perplexity",
)


class RunFolderError(OSError):
  """The folder cannot be used, read or written, or has another run in it."""


class NoRunFolder(contextlib.AbstractContextManager):
  """Stands in for a RunFolder where nothing is to be kept."""

  result = None

  def __exit__(self, *exception):
    """Does nothing."""

  def restore(self, session, model):
    """Returns the Progress of a new run."""
    return checkpoints.Progress()

  def is_due(self):
    """Says no."""
    return False

  def save(self, session, step, progress):
    """Does nothing."""

  def add_step(self, step, values):
    """Does nothing."""

  def add_epoch(self, step, values):
    """Does nothing."""

  def finish(self, step, values):
    """Does nothing."""


class RunFolder(NoRunFolder):
  """A run's folder, written as the run goes on, and read when it goes on again.

  It is locked while it is open: close it, or use it in a `with`. Each method
  raises RunFolderError if it cannot write.

  Attributes:
    result: what the run reached, a dictionary; None if it is not finished.
  """

  def __init__(self, path, about, vocabulary, checkpoint_minutes=10.0):
    """Opens the folder, and makes it if it is missing.

    Args:
      path: the folder.
      about: a dictionary that JSON can hold, for config.json: what must be the
        same for a run to go on.
      vocabulary: the words in the order of their ids.
      checkpoint_minutes: after how many minutes without one a checkpoint is
        due.

    Raises:
      RunFolderError: also if it has another run in it, or a process that uses
        it. Then nothing in it was changed.
    """
    self.path = path
    self.result = None
    self._seconds_between = 60 * checkpoint_minutes
    self._saved_at = time.monotonic()  # No clock that somebody sets.
    if not path:
      raise RunFolderError(
        "--save_path is empty; name a folder, or leave it out."
      )
    if set("*?[\\") & set(path):
      raise RunFolderError(
        f"--save_path={path} has one of the characters * ? [ \\, which "
        "TensorFlow takes for a pattern of names; choose a name without them."
      )
    if os.path.exists(path) and not os.path.isdir(path):
      raise RunFolderError(f"--save_path={path} is a file; name a folder.")
    with self._saving("anything"):
      os.makedirs(path, exist_ok=True)
    self._lock = self._locked()
    try:
      self._open(about, vocabulary)
    except BaseException:
      os.close(self._lock)
      raise

  def __exit__(self, *exception):
    """Closes the folder."""
    if "_writer" in vars(self):
      self._writer.close()
    os.close(self._lock)

  def restore(self, session, model):
    """Reads the newest whole checkpoint into the session.

    Call it when the graph has all of its variables.

    Args:
      session: a Session, with its variables initialized.
      model: the PTBModel in training.

    Returns:
      How far the run is, a checkpoints.Progress.

    Raises:
      checkpoints.CheckpointError: if there are checkpoints, but none is whole.
    """
    shape = [len(model.initial_state), 2, *model.initial_state[0].c.shape]
    self._checkpoints = checkpoints.Checkpoints(self.path, shape)
    with self._saving("anything"):
      progress, name = self._checkpoints.restore(session)
      if name is not None:
        self._repair_epochs(progress)
        step = int(session.run(model.global_step))
        # TensorBoard forgets what was written after this step.
        start = tf1.SessionLog(status=tf1.SessionLog.START)
        self._writer.add_session_log(start, step + 1)
    if name is not None:
      logging.warning(
        "Going on in %s from %s: epoch %s, after step %s of %s.",
        self.path,
        name,
        progress.epoch,
        progress.step,
        model.input.epoch_size,
      )
    self._saved_at = time.monotonic()
    return progress

  def is_due(self):
    """Says whether it is time for the next checkpoint."""
    return time.monotonic() - self._saved_at >= self._seconds_between

  def save(self, session, step, progress):
    """Writes a checkpoint, and epochs.jsonl if an epoch has ended.

    Args:
      session: a Session with the variables.
      step: how many steps they were trained.
      progress: a checkpoints.Progress.
    """
    with self._saving("the checkpoint"):
      self._check_presence()
      self._checkpoints.save(session, step, progress)
    if progress.step == 0:
      self._write("epochs.jsonl", _lines(map(json.dumps, progress.epochs)))
    self._saved_at = time.monotonic()

  def add_step(self, step, values):
    """Adds TensorBoard summaries of the training steps just done.

    Args:
      step: how many steps the weights were trained.
      values: a number for each name; the tag is "train/" and the name.
    """
    self._summarize(step, "train/", values)

  def add_epoch(self, step, values):
    """Adds each value of an epoch as a summary "epoch/..."."""
    self._summarize(step, "epoch/", values)

  def finish(self, step, values):
    """Writes result.json, and each value as a summary "result/..."."""
    self._summarize(step, "result/", values)
    self._write("result.json", json.dumps(values, indent=2) + "\n")

  def _open(self, about, vocabulary):
    """Checks what the folder has, and adds what it lacks."""
    names = os.listdir(self.path)
    text = _lines(vocabulary)
    has_run = checkpoints.steps_in(self.path) or not (
      {"epochs.jsonl", "result.json"}.isdisjoint(names)
    )
    if not has_run:  # One that got to no checkpoint left nothing to go on from.
      self._write("vocabulary.txt", text)
      self._write("config.json", json.dumps(about, indent=2) + "\n")
      return
    if "config.json" not in names:
      raise RunFolderError(
        f"{self.path} holds a run, but no config.json that says which. Give "
        "--save_path another folder, or put config.json back."
      )
    differences = _differences(read_config(self.path), about)
    if differences:
      raise RunFolderError(
        f"{self.path} holds another run: {'; '.join(differences)}. Give "
        "--save_path another folder, or the flags and the data of that run."
      )
    found = self._read("vocabulary.txt")
    if found is None:
      self._write("vocabulary.txt", text)
      logging.warning("%s: vocabulary.txt was missing, made anew.", self.path)
    elif found != text:
      raise RunFolderError(
        f"{self.path}/vocabulary.txt is not that of the training text. Give "
        "--save_path another folder, or remove the file: it is made anew."
      )
    self.result = self._read_result()

  def _read_result(self):
    """Returns what result.json says, None if it is missing or damaged."""
    try:
      result = json.loads(self._read("result.json") or "null")
      return {name: result[name] + 0 for name in RESULT_NAMES}
    except (ValueError, TypeError, KeyError):
      return None

  def _locked(self):
    """Locks the folder, until the process ends; returns a file descriptor."""
    with self._saving("anything"):
      fd = os.open(self.path, os.O_RDONLY)
    try:
      fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      os.close(fd)
      raise RunFolderError(
        f"{self.path} is in use by another process. Wait for its end, or give "
        "--save_path another folder."
      ) from None
    except OSError as error:  # Some network file systems have no locks.
      logging.warning(
        "%s cannot be locked (%s): start no second run in it.",
        self.path,
        error.strerror,
      )
    return fd

  def _check_presence(self):
    """Raises OSError if the folder was removed, or another put in its place."""
    if not os.path.samestat(os.stat(self.path), os.fstat(self._lock)):
      raise FileNotFoundError(0, "the folder was replaced by another one")

  def _repair_epochs(self, progress):
    """Makes epochs.jsonl agree with the checkpoint."""
    lines = _lines(map(json.dumps, progress.epochs))
    if self._read("epochs.jsonl") != (lines or None):
      self._write("epochs.jsonl", lines)
      logging.warning(
        "%s: epochs.jsonl did not agree with the checkpoint, made anew.",
        self.path,
      )

  @functools.cached_property
  def _writer(self):
    with tf1.Graph().as_default():  # It refuses to work in eager mode.
      return tf1.summary.FileWriter(self.path)

  def _summarize(self, step, prefix, values):
    """Writes scalars, made here and not in the graph: no batch is fetched."""
    summary = tf1.Summary()
    for name, value in values.items():
      summary.value.add(tag=prefix + name, simple_value=value)
    with self._saving("the summaries"):
      self._writer.add_summary(summary, step)
      self._writer.flush()

  def _read(self, name):
    """Returns the text of a file, None if it is missing."""
    try:
      with open(
        os.path.join(self.path, name), encoding="utf-8", errors="replace"
      ) as f:
        return f.read()
    except FileNotFoundError:
      return None
    except OSError as error:
      raise RunFolderError(
        f"{self.path}/{name} cannot be read: {error.strerror}."
      ) from None

  def _write(self, name, text):
    """Writes a file as a whole or not at all."""
    path = os.path.join(self.path, name)
    with self._saving(name):
      try:
        with open(path + ".tmp", "w", encoding="utf-8", newline="\n") as f:
          f.write(text)
          f.flush()
          os.fsync(f.fileno())
        os.replace(path + ".tmp", path)
      except OSError:
        with contextlib.suppress(OSError):
          os.remove(path + ".tmp")
        raise

  @contextlib.contextmanager
  def _saving(self, what):
    """Raises RunFolderError for what goes wrong in the block."""
    where = f"Cannot write {what} in --save_path={self.path}"
    try:
      yield
    except RunFolderError:
      raise
    except OSError as error:
      raise RunFolderError(f"{where}: {error.strerror}.") from None
    except tf1.errors.OpError as error:
      raise RunFolderError(f"{where}: {tf1.reason_of(error)}") from None


def read_config(path):
  """Returns what config.json in the folder `path` says, a dictionary.

  Raises:
    RunFolderError: if there is none, or it is damaged.
  """
  name = os.path.join(path, "config.json")
  try:
    with open(name, encoding="utf-8") as f:
      about = json.load(f)
    if isinstance(about, dict):
      return about
  except OSError as error:
    raise RunFolderError(
      f"{path} is not the folder of a run: {name}: {error.strerror}."
    ) from None
  except ValueError:
    pass
  raise RunFolderError(
    f"{name} is damaged, and it says which run this is. Put back a copy, or "
    "give --save_path another folder."
  )


def config_of(path, vocabulary):
  """Returns the Config of the run in a folder.

  Args:
    path: the folder.
    vocabulary: the words in the order of their ids, which must be the run's.

  Raises:
    RunFolderError: if they are not, or if the folder lacks something.
  """
  about = read_config(path)
  try:
    config = configs.Config(**about["config"])
  except (KeyError, TypeError, configs.ConfigError):
    raise RunFolderError(f"{path}/config.json has no whole config.") from None
  try:
    with open(os.path.join(path, "vocabulary.txt"), encoding="utf-8") as f:
      is_same = f.read() == _lines(vocabulary)
  except (OSError, ValueError):
    raise RunFolderError(
      f"{path}/vocabulary.txt cannot be read. The command that trained the run "
      "makes it anew if it is missing."
    ) from None
  if not is_same:
    raise RunFolderError(
      f"The run in {path} has another vocabulary than ptb.train.txt. Name the "
      "folder of the text that it was trained on."
    )
  return config


def _differences(there, here):
  """Says in words how two config.json differ, a list."""
  there, here = _flat(there), _flat(here)
  names = [n for n in {**there, **here} if there.get(n) != here.get(n)]
  return [
    f"{name} is another text"
    if name.startswith("ptb.")
    else f"{name} is {there.get(name)} there, here {here.get(name)}"
    for name in names
  ]


def _flat(values):
  """Returns a dictionary without the dictionaries in it, but their values."""
  flat = {}
  for name, value in values.items():
    flat.update(value if isinstance(value, dict) else {name: value})
  return flat


def _lines(texts):
  """Returns a text with a line for each of the texts."""
  return "".join(f"{text}\n" for text in texts)
