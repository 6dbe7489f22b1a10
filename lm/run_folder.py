"""The folder of a run, which --save_path names.

config.json       which run it is: model, seed, dtype, config, data checksums
vocabulary.txt    a word a line; the line's number, from 0, is the word's id
model.ckpt-*      the checkpoints (see lm/checkpoints.py)
checkpoint, best_checkpoint   the names of the newest and of the best checkpoint
events.out.tfevents.*         summaries for TensorBoard, a file for each start
epochs.jsonl      a JSON object a line: the numbers of each epoch
result.json       the numbers of the finished run
.lock             held by the process that uses the folder
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import time

import filelock
from absl import logging

from lm import checkpoints, preparation, tf1
from lm.command import InputError, reason_of
from lm.files import (
  DamagedFileError,
  parse_json,
  read_file,
  read_json,
  same_path,
  write_file,
)
from lm.summaries import Summaries
from lm.text import UNKNOWN

# How the names of a run's files start, without config.json.
_NAMES = ("vocabulary.txt", "model.ckpt", "checkpoint", "epochs.", "result.")
# Hyper-parameters that older versions lack: they are left out when off.
_NEWER = {"tie_embeddings": False, "forget_bias": 0.0, "patience": 0}
_NEWER |= {"num_samples": 0}
# Where a run starts and ends may change: neither alters a step of it. Older
# versions wrote no checksum of the vocabulary.
_MAY_CHANGE = ("max_max_epoch", "patience", "init_checkpoint")
_MAY_CHANGE += ("vocabulary_sha256",)
# The flags of what config.json has under another name.
_FLAGS = {
  "vocab_limit": "--vocab_size",
  "unknown_word": "--unknown_word",
  "init_from": "--init_from",
  "init_checkpoint": "the checkpoint of --init_from",
  "exchange_fp16": "--exchange_fp16",
}
# What result.json has at least.
_RESULT = {"epoch", "train_perplexity", "valid_perplexity", "test_perplexity"}


class RunFolderError(InputError, OSError):
  """The folder cannot be used, read or written, or it holds another run."""


class Timer:
  """True once so many minutes have passed since its start."""

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

  def __init__(self, path, about, vocabulary, checkpoint_minutes=10.0):
    """Opens the folder, which is made if it is missing.

    Args:
      path: the folder.
      about: a dictionary for config.json, of values that JSON can hold: what
        must be the same for a run to resume.
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
    self._about = about = dict(about)
    words = _lines(vocabulary)
    has_run = self._check(about, words)  # A refused folder gets no lock.
    self._lock = self._locked()
    self._has_new_end = False
    if has_run:
      first = read_config(path)
      config = self._about["config"] = dict(about["config"])
      # These two stay as they were when the run began.
      mode = first["config"].get("rnn_mode")
      if mode not in (None, config.get("rnn_mode")):
        logging.warning(
          "%s began in rnn_mode %s: with another, its last digits differ.",
          path,
          mode,
        )
        config["rnn_mode"] = mode
      if "init_checkpoint" in first:
        self._about["init_checkpoint"] = first["init_checkpoint"]
      # Another end is written only when the checkpoint is known to allow it.
      self._has_new_end = first["config"] != config
    else:
      self._write_config()
    if self._read("vocabulary.txt") != words:
      self._write("vocabulary.txt", words)
      if has_run:
        logging.warning("%s: vocabulary.txt was missing and was rebuilt.", path)
    self.result = None if self._has_new_end else self._read_result()

  def __exit__(self, *exception):
    self._lock.release()

  def restore(self, session, state_shape):
    """Reads the newest intact checkpoint; returns its checkpoints.Progress.

    Call it when the graph has all of its variables and they are initialized.
    The LSTM's state has the shape state_shape, [L, 2, B, H].

    Raises:
      checkpoints.CheckpointError: if there are checkpoints, but none is intact.
    """
    self._checkpoints = checkpoints.Checkpoints(
      self.path, state_shape, self._about, id_of(self._about)
    )
    with self._trying_to("read the checkpoints"):
      progress, step = self._checkpoints.restore(session)
    if self._has_new_end:
      self._change_end(progress)
    lines = _lines(map(json.dumps, progress.epochs))
    found = self._read("epochs.jsonl")
    if step is None and found:
      logging.warning(
        "%s has no checkpoint left: training from the start.", self.path
      )
    elif step is not None:
      if found != (lines or None):
        self._write("epochs.jsonl", lines)
        logging.warning(
          "%s: epochs.jsonl did not match the checkpoint and was rebuilt.",
          self.path,
        )
      where = f"after epoch {len(progress.epochs)}"
      if progress.step:
        where = f"epoch {progress.epoch}, after step {progress.step}"
      logging.warning(
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
      self._write("epochs.jsonl", _lines(map(json.dumps, progress.epochs)))
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

  def _change_end(self, progress):
    """Makes the run end after another epoch, which must not be over."""
    limit = self._about["config"]["max_max_epoch"]
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
    self._write("config.json", json.dumps(self._about, indent=2) + "\n")

  def _check(self, about, vocabulary):
    """Returns whether the folder holds this run, with something trained."""
    names = os.listdir(self.path)
    has_run = bool(checkpoints.steps_in(self.path)) or not (
      {"epochs.jsonl", "result.json"}.isdisjoint(names)
    )
    if "config.json" in names:
      there = read_config(self.path)
      if same_path(there.get("init_from"), about.get("init_from")):
        about["init_from"] = there["init_from"]  # Another name of the model.
      may_change = (*_MAY_CHANGE, "rnn_mode")  # By the last bits only.
      unlike = differences(there, about, without=may_change)
      if unlike and has_run:
        raise RunFolderError(
          f"{self.path} holds another run: {'; '.join(unlike)}. Give "
          "--save_path another folder, or the flags and the data of that run."
        )
    elif used := [n for n in names if n.startswith(_NAMES)]:
      raise RunFolderError(
        f"{self.path} has a file {min(used)}, but no config.json that says "
        "which run it is of. Put that back, or name another folder."
      )
    if has_run and self._read("vocabulary.txt") not in (vocabulary, None):
      raise RunFolderError(
        f"{self.path}/vocabulary.txt does not match the training text. Give "
        "--save_path another folder, or remove the file: it is then rebuilt."
      )
    return has_run

  def _read_result(self):
    """Returns what result.json says, None if it is missing or damaged."""
    path = os.path.join(self.path, "result.json")
    if not os.path.lexists(path):
      return None
    try:
      result = read_json(path, _checked_result, "It is rebuilt.")
      lines = (self._read("epochs.jsonl") or "{}\n").splitlines()
      epoch = parse_json(lines[-1])
      if any(epoch[name] != result.get(name) for name in epoch):
        raise DamagedFileError(f"{path} is of another run. It is rebuilt.")
      return result
    except DamagedFileError as error:
      logging.warning("%s", error)
    except (ValueError, TypeError):
      pass  # Of epochs.jsonl: that is said when it is rebuilt.
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
      logging.warning(  # Some network file systems have no locks.
        "%s cannot be locked: do not start a second run in it.", self.path
      )
    return lock

  def _read(self, name):
    """Returns the text of a file, None if it is missing."""
    try:
      return _read_text(os.path.join(self.path, name))
    except FileNotFoundError:
      return None
    except OSError as error:
      raise RunFolderError(
        f"{self.path}/{name} cannot be read: {error.strerror}. Remove it, or "
        "give --save_path another folder."
      ) from None

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
    except tf1.ERRORS as error:
      raise RunFolderError(f"{where}: {reason_of(error)}") from None


def describe(model, seed, dtype, config, corpus, **others):
  """Returns the dictionary of config.json: all that a run's numbers depend on.

  `config` is a Config, `corpus` a reader.Corpus. `others` are for a few runs
  only: they are left out if false.
  """
  fields = dataclasses.asdict(config).items()
  about = {
    "model": model,
    "seed": seed,
    "dtype": dtype,
    "config": {n: v for n, v in fields if v or n not in _NEWER},
    "data_sha256": corpus.sha256,
    "vocabulary_sha256": sha256_of(corpus.vocabulary),
  }
  if corpus.preparation is not None:
    about["preparation"] = dataclasses.asdict(corpus.preparation)
  if corpus.unknown != UNKNOWN:
    about["unknown_word"] = corpus.unknown
  return {**about, **{name: value for name, value in others.items() if value}}


def mode_and_type_in(path):
  """Returns the rnn_mode and the dtype of a folder's run; None if unknown."""
  if path is None or not checkpoints.steps_in(path):
    return None, None
  about = read_config(path)
  return about["config"].get("rnn_mode"), about.get("dtype")


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
  """Returns the dictionary of config.json in the folder `path`."""
  name = os.path.join(path, "config.json")
  try:
    os.lstat(name)
  except (FileNotFoundError, NotADirectoryError):
    raise RunFolderError(
      f"{path} is not the folder of a run: it has no config.json. Name one "
      "that --save_path has named."
    ) from None
  except OSError:
    pass  # The next line says why.
  advice = "Put back a copy, or name another folder."
  return read_json(name, _checked_config, advice)


def _checked_config(about):
  """Returns the value of a config.json; raises an error if it is not one."""
  int(about["config"]["vocab_size"])
  _preparation_in(about)
  return about


def _preparation_in(about):
  """Returns the Preparation of the texts, None if they had none."""
  choices = about.get("preparation")
  return None if choices is None else preparation.Preparation(**choices)


def _checked_result(result):
  """Returns the value of a result.json; raises an error if it is not one."""
  numbers = [*result.values(), *(result[name] for name in _RESULT)]
  if not all(type(n) in (int, float) and n >= 0 for n in numbers):
    raise ValueError
  return result


def id_of(about):
  """Returns a text that differs for two runs with other config.json."""
  fixed = {n: v for n, v in _flat(about).items() if n not in _MAY_CHANGE}
  return _sha256(json.dumps(fixed, sort_keys=True))


def read_run(path, flag="--save_path"):
  """Reads what a run's folder, which `flag` names, says about its model.

  Returns:
    A dictionary: the fields of trained.Trained, without the checkpoint.

  Raises:
    RunFolderError: if something is missing or damaged.
  """
  check_name(path, flag)
  about = read_config(path)
  vocab_size = int(about["config"]["vocab_size"])
  name = os.path.join(path, "vocabulary.txt")
  try:
    vocabulary = _read_text(name).split("\n")[:-1]
  except OSError as error:
    raise RunFolderError(
      f"{name} cannot be read: {error.strerror}. If it is missing, the command "
      "that trained the run rebuilds it."
    ) from None
  if not len(vocabulary) == len(set(vocabulary)) == vocab_size:
    raise RunFolderError(
      f"{name} has {len(vocabulary):,} lines with {len(set(vocabulary)):,} "
      f"different words, but the model has {vocab_size:,}. Remove the file: "
      "the command that trained the run rebuilds it."
    )
  checksum = sha256_of(vocabulary)
  if about.get("vocabulary_sha256", checksum) != checksum:
    raise RunFolderError(
      f"{name} was changed after the training: its words no longer belong to "
      "the model's ids. Remove the file: the command that trained the run "
      "rebuilds it."
    )
  return {**fields_of(about), "vocabulary": vocabulary}


def fields_of(about):
  """Returns what a config.json says about the model, as `read_run` does."""
  return {
    "hparams": _NEWER | about["config"],
    "preparation": _preparation_in(about),
    "unknown": str(about.get("unknown_word", UNKNOWN)),
    "init_from": about.get("init_from"),
    "vocab_limit": about.get("vocab_limit"),
    "run_id": id_of(about),
  }


def differences(there, here, where=("there", "here"), without=()):
  """Returns a list of texts that say how two dictionaries differ."""
  there, here = _flat(there), _flat(here)
  names = [name for name in {**there, **here} if name not in without]
  pairs = {
    name: [side.get(name, _NEWER.get(name)) for side in (there, here)]
    for name in names
  }
  return [
    _difference(name, values, where)
    for name, values in pairs.items()
    if values[0] != values[1]
  ]


def _difference(name, values, where):
  """Says how two values of this name differ, in words for users."""
  if name.startswith("ptb."):
    return f"{name} is another text"
  if name.endswith(".py"):
    return f"{name} is another version"
  if name == "vocabulary_sha256":
    return "the vocabulary is another one"
  shown = ["not set" if value is None else value for value in values]
  name = _FLAGS.get(name, name)
  return f"{name} is {shown[0]} {where[0]}, {shown[1]} {where[1]}"


def _flat(values):
  """Returns a dictionary with the entries of nested ones in their place."""
  flat = {}
  for name, value in values.items():
    flat.update(value if isinstance(value, dict) else {name: value})
  return flat


def _read_text(path):
  """Returns a file's text, as it was before an editor changed line ends."""
  text = read_file(path).decode(errors="replace")
  return text.replace("\r\n", "\n")


def sha256_of(vocabulary):
  """Returns the checksum of a list of words: that of their vocabulary.txt."""
  return _sha256(_lines(vocabulary))


def _sha256(text):
  return hashlib.sha256(text.encode()).hexdigest()


def _lines(texts):
  """Returns a text with a line for each of the texts."""
  return "".join(f"{text}\n" for text in texts)
