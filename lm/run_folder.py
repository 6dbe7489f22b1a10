"""The folder of a run, which --save_path names.

config.json       what run it is: model, seed, dtype, config, data checksums
vocabulary.txt    a word a line; the line's number, from 0, is the word's id
model.ckpt-*      the checkpoints (see checkpoints.py)
checkpoint, best_checkpoint   the names of the newest and of the best one
events.out.tfevents.*         summaries for TensorBoard, a file for each start
epochs.jsonl      a JSON object a line: what each epoch reached
result.json       what the finished run reached
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import re
import time

from absl import logging

import configs
from lm import checkpoints, preparation, tf1
from lm.command import InputError

# How the names of its files start.
_NAMES = (
  "vocabulary.txt",
  "model.ckpt-",
  "checkpoint",
  "best_checkpoint",
  "epochs.jsonl",
  "result.json",
)
# What result.json has at least.
RESULT_NAMES = (
  "epoch",
  "train_perplexity",
  "valid_perplexity",
  "test_perplexity",
)


class RunFolderError(InputError, OSError):
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
    check_name(path)
    self.path = path
    self.result = None
    self._events = None  # Where summaries go.
    self._seconds_between = 60 * checkpoint_minutes
    self._saved_at = time.monotonic()  # No clock that somebody sets.
    with self._trying_to("make the folder"):
      os.makedirs(path, exist_ok=True)
    self._lock = self._locked()
    try:
      self._open(about, vocabulary)
    except BaseException:
      os.close(self._lock)
      raise

  def __exit__(self, *exception):
    """Closes the folder."""
    if self._events:
      self._events.close()
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
    with self._trying_to("read the checkpoints"):
      progress, name = self._checkpoints.restore(session)
    lines = _lines(map(json.dumps, progress.epochs))
    found = self._read("epochs.jsonl")
    if name is None:
      if found:
        logging.warning(
          "%s has no checkpoint left: training from the start.", self.path
        )
    else:
      if found != (lines or None):
        self._write("epochs.jsonl", lines)
        logging.warning(
          "%s: epochs.jsonl did not agree with the checkpoint, made anew.",
          self.path,
        )
      where = f"after epoch {len(progress.epochs)}"
      if progress.step:
        size = model.input.epoch_size
        where = f"epoch {progress.epoch}, after step {progress.step} of {size}"
      logging.warning("Going on in %s from %s: %s.", self.path, name, where)
    self._open_events(int(session.run(model.global_step)))
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
    with self._trying_to("write the checkpoint"):
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
    self._write("result.json", json.dumps(values, indent=2) + "\n")
    self._summarize(step, "result/", values)

  def _open(self, about, vocabulary):
    """Checks what the folder has, and adds what it lacks."""
    names = os.listdir(self.path)
    has_run = checkpoints.steps_in(self.path) or not (
      {"epochs.jsonl", "result.json"}.isdisjoint(names)
    )
    unlike = []
    if "config.json" in names:
      unlike = differences(read_config(self.path), about)
    else:
      used = [n for n in names if n.startswith(_NAMES)]
      if used:
        raise RunFolderError(
          f"{self.path} has a file {min(used)}, but no config.json to say of "
          "which run. Give --save_path another folder, or put config.json back."
        )
    if unlike and has_run:
      raise RunFolderError(
        f"{self.path} holds another run: {'; '.join(unlike)}. Give "
        "--save_path another folder, or the flags and the data of that run."
      )
    if unlike or "config.json" not in names:
      self._write("config.json", json.dumps(about, indent=2) + "\n")
    text, found = _lines(vocabulary), self._read("vocabulary.txt")
    if has_run and found not in (text, None):
      raise RunFolderError(
        f"{self.path}/vocabulary.txt is not that of the training text. Give "
        "--save_path another folder, or remove the file: it is made anew."
      )
    if has_run and found is None:
      logging.warning("%s: vocabulary.txt was missing, made anew.", self.path)
    if found != text:
      self._write("vocabulary.txt", text)
    self.result = self._read_result()

  def _read_result(self):
    """Returns what result.json says, None if it is missing or damaged."""
    try:
      result = json.loads(self._read("result.json") or "null")
      if all(isinstance(result[n], int | float) for n in RESULT_NAMES):
        return result
    except (ValueError, TypeError, KeyError):
      pass
    return None

  def _locked(self):
    """Locks the folder, until the process ends; returns a file descriptor."""
    with self._trying_to("open the folder"):
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

  def _open_events(self, step):
    """Starts a file of summaries, of steps after `step`.

    It is written here, and not by tf1.summary.FileWriter, which writes in a
    thread of its own, where an error is not met, and which names files by the
    time: TensorBoard reads them in the order of their names, so that of a
    clock set back would come too early.
    """
    matches = (
      re.fullmatch(r"events\.out\.tfevents\.(\d+)", name)
      for name in os.listdir(self.path)
    )
    number = 1 + max((int(match[1]) for match in matches if match), default=-1)
    path = os.path.join(self.path, f"events.out.tfevents.{number:06}")
    with self._trying_to("write the summaries"):
      self._events = tf1.io.TFRecordWriter(path)
    self._add_event(file_version="brain.Event:2")
    # TensorBoard forgets what earlier files have of later steps.
    start = tf1.SessionLog(status=tf1.SessionLog.START)
    self._add_event(step=step + 1 if step else 0, session_log=start)

  def _add_event(self, **fields):
    """Writes an event of TensorBoard."""
    event = tf1.Event(wall_time=time.time(), **fields)
    with self._trying_to("write the summaries"):
      self._events.write(event.SerializeToString())
      self._events.flush()

  def _summarize(self, step, prefix, values):
    """Writes scalars, made here and not in the graph: no batch is fetched."""
    summary = tf1.Summary()
    for name, value in values.items():
      summary.value.add(tag=prefix + name, simple_value=value)
    self._add_event(step=step, summary=summary)

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
        f"{self.path}/{name} cannot be read: {error.strerror}. Remove it, or "
        "give --save_path another folder."
      ) from None

  def _write(self, name, text):
    """Writes a file as a whole or not at all."""
    path = os.path.join(self.path, name)
    with self._trying_to(f"write {name}"):
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
  def _trying_to(self, do):
    """Raises RunFolderError for what goes wrong in the block."""
    where = f"Cannot {do} of --save_path={self.path}"
    try:
      yield
    except InputError:
      raise
    except OSError as error:
      raise RunFolderError(f"{where}: {error.strerror}.") from None
    except tf1.ERRORS as error:
      raise RunFolderError(f"{where}: {tf1.reason_of(error)}") from None


def check_name(path, flag="--save_path"):
  """Raises RunFolderError if a folder, which `flag` names, cannot be so."""
  if not path:
    raise RunFolderError(f"{flag} is empty; name a folder, or leave it out.")
  if set("*?[\\") & set(path):
    raise RunFolderError(
      f"{flag}={path} has one of the characters * ? [ \\, which TensorFlow "
      "takes for a pattern of names; choose a name without them."
    )
  if os.path.lexists(path) and not os.path.isdir(path):
    raise RunFolderError(f"{flag}={path} is not a folder; name one.")


def read_config(path):
  """Returns what config.json in the folder `path` says, a dictionary.

  Raises:
    RunFolderError: if there is none, or it is damaged.
  """
  name = os.path.join(path, "config.json")
  try:
    with open(name, encoding="utf-8") as f:
      about = json.load(f)
    if isinstance(about, dict) and isinstance(about.get("config"), dict):
      return about
  except OSError as error:
    raise RunFolderError(
      f"{path} is not the folder of a run: {name}: {error.strerror}."
    ) from None
  except ValueError:
    pass
  raise RunFolderError(
    f"{name} is damaged, or not of this program. It says which run this is: "
    "put back a copy, or name another folder."
  )


@dataclasses.dataclass(frozen=True)
class Run:
  """What a run's folder says of the model in it."""

  config: configs.Config
  vocabulary: list[str]  # The words in the order of their ids.
  preparation: preparation.Preparation | None  # Of the text.


def read_run(path, flag="--save_path"):
  """Returns the Run in a folder.

  Args:
    path: the folder.
    flag: where its name comes from, for errors.

  Raises:
    RunFolderError: if the folder lacks something.
  """
  check_name(path, flag)
  about = read_config(path)
  try:
    config = configs.Config(**about["config"])
    choices = preparation.from_json(about.get("preparation"))
  except (TypeError, configs.ConfigError, preparation.PreparationError):
    raise RunFolderError(
      f"{path}/config.json has no whole config. Put back a copy."
    ) from None
  name = os.path.join(path, "vocabulary.txt")
  try:
    with open(name, encoding="utf-8", newline="\n") as f:
      vocabulary = f.read().split("\n")[:-1]
  except (OSError, ValueError):
    raise RunFolderError(
      f"{name} cannot be read. The command that trained the run makes it anew "
      "if it is missing."
    ) from None
  if not len(vocabulary) == len(set(vocabulary)) == config.vocab_size:
    raise RunFolderError(
      f"{name} has {len(vocabulary):,} lines with {len(set(vocabulary)):,} "
      f"different words, but the model knows {config.vocab_size:,}. Remove the "
      "file: the command that trained the run makes it anew."
    )
  return Run(config, vocabulary, choices)


def config_of(path, vocabulary):
  """Returns the Config of the run in a folder.

  Args:
    path: the folder.
    vocabulary: the words in the order of their ids, which must be the run's.

  Raises:
    RunFolderError: if they are not, or if the folder lacks something.
  """
  run = read_run(path)
  if run.vocabulary != vocabulary:
    raise RunFolderError(
      f"The run in {path} has another vocabulary than ptb.train.txt. Name the "
      "folder of the text that it was trained on."
    )
  return run.config


def differences(there, here, where=("there", "here")):
  """Says in words how two config.json differ, a list.

  Args:
    there: what the one says, a dictionary.
    here: what the other says.
    where: what to call the two.
  """
  there, here = _flat(there), _flat(here)
  names = [n for n in {**there, **here} if there.get(n) != here.get(n)]
  return [
    f"{name} is another text"
    if name.startswith("ptb.")
    else f"{name} is {there.get(name)} {where[0]}, {here.get(name)} {where[1]}"
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
