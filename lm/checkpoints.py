"""Checkpoints from which a run goes on exactly as if it had not stopped.

A checkpoint holds the variables, under the names that TensorFlow 1.15 gave
them, and a Progress: all else that the steps to come depend on. It is one
TensorFlow bundle, so both are of the same moment, and each tensor has a
checksum. Two files in the folder, in TensorFlow's own format, name one each:

checkpoint         the newest
best_checkpoint    that of the epoch with the lowest valid perplexity
"""

import contextlib
import dataclasses
import functools
import glob
import json
import os
import re

import numpy as np
from absl import logging

from lm import tf1
from lm.command import InputError

_KERNEL = "basic_lstm_cell/kernel"  # How the name of a layer's kernel ends.


class CheckpointError(InputError, ValueError):
  """There is no checkpoint to take, or it does not fit."""


@dataclasses.dataclass
class Progress:
  """How far a training is.

  Where the learning rate and the dropout masks are follows from this and from
  the variable global_step, since both depend on the epoch and the step alone.
  """

  step: int = 0  # Steps done of the epoch that is going on.
  costs: float = 0.0  # Their costs (PTBModel.cost), added up.
  seconds: float = 0.0  # The time they took.
  state: np.ndarray | None = None  # After them: [L, 2, B, H]. None: zeros.
  # The numbers of each epoch done, the first first: a line of epochs.jsonl.
  epochs: list[dict] = dataclasses.field(default_factory=list)

  @property
  def epoch(self):
    """Which epoch is going on; the first is 1."""
    return len(self.epochs) + 1

  def end_epoch(self, numbers):
    """Goes on to the next epoch, which starts from a state of zeros."""
    self.step, self.costs, self.seconds, self.state = 0, 0.0, 0.0, None
    self.epochs.append(numbers)


class Checkpoints:
  """The checkpoints of one run, model.ckpt-<global step>, in its folder.

  Kept are the newest two, so that one is whole whatever happens, and the best.
  Make it where the graph has all of the variables.
  """

  def __init__(self, path, state_shape):
    """Adds to the graph what it needs.

    Args:
      path: the folder.
      state_shape: of Progress.state.
    """
    self._path = path
    self._steps = []  # Of the checkpoints to keep: not known to be damaged.
    with tf1.variable_scope(tf1.VariableScope(False, name="progress")):
      # Local variables: the model's own are the global ones.
      make = functools.partial(
        tf1.get_variable,
        trainable=False,
        collections=[tf1.GraphKeys.LOCAL_VARIABLES],
      )
      self._state = make("lstm_state", state_shape)  # [L, 2, B, H]
      # The rest of Progress, in JSON.
      self._json = make("json", [], tf1.string, tf1.zeros_initializer())
    self._variables = [*tf1.global_variables(), self._state, self._json]
    self._saver = tf1.train.Saver(self._variables, max_to_keep=None)

  def save(self, session, step, progress):
    """Writes a checkpoint; the older ones go when it is on the disk.

    Args:
      session: a Session with the variables.
      step: the value of global_step.
      progress: a Progress.

    Raises:
      OSError, or one of tf1.ERRORS: if it cannot be written. What there was
        before is still there.
    """
    if step in self._steps:
      return  # The same moment: never overwrite what is whole.
    self._load(session, progress)
    prefix = self._prefix(step)
    try:
      # Its files get their names once they are written, the index last.
      self._saver.save(
        session, prefix, write_meta_graph=False, write_state=False
      )
      for path in [*glob.glob(glob.escape(prefix) + ".*"), self._path]:
        _flush_to_disk(path)
    except (OSError, *tf1.ERRORS):
      self._remove(step)
      raise
    self._steps = [*self._steps[-1:], step]
    self._name(step, progress)
    self._remove_all_but({*self._steps, _best_step(progress.epochs)})

  def restore(self, session):
    """Reads the newest checkpoint that is whole.

    Args:
      session: a Session, with its variables initialized.

    Returns:
      (progress, name): its Progress, and the file's name; where there is none,
      a new Progress and None.

    Raises:
      CheckpointError: if there are checkpoints, but none is whole.
    """
    self._steps = steps_in(self._path)
    while self._steps:
      step = self._steps[-1]
      try:
        with _reading(self._prefix(step)):
          _check_shapes(self._prefix(step), self._variables)
          self._saver.restore(session, self._prefix(step))
          state, text = session.run([self._state, self._json])
          progress = Progress(**json.loads(text))
      except CheckpointError as error:
        logging.warning("%s Looking for one before it.", error)
        self._steps.pop()
        continue
      if progress.step:
        progress.state = state
      self._name(step, progress)  # It may have been killed before that.
      return progress, f"model.ckpt-{step}"
    if steps_in(self._path):
      raise CheckpointError(
        f"No checkpoint in {self._path} can be read. Remove them to train from "
        "the start, or put back a copy."
      )
    return Progress(), None

  def _load(self, session, progress):
    """Sets the variables that hold the progress."""
    rest = dataclasses.asdict(progress)
    state = rest.pop("state")
    if state is None:
      state = np.zeros(self._state.shape)
    self._state.load(np.asarray(state), session)
    self._json.load(json.dumps(rest), session)

  def _name(self, step, progress):
    """Names the newest checkpoint, and the best, as TensorFlow's tools do."""
    best = _best_step(progress.epochs)
    for filename, named in (("checkpoint", step), ("best_checkpoint", best)):
      if named is not None:
        tf1.train.update_checkpoint_state(
          os.path.abspath(self._path),
          f"model.ckpt-{named}",
          latest_filename=filename,
        )

  def _prefix(self, step):
    return os.path.join(self._path, f"model.ckpt-{step}")

  def _remove_all_but(self, steps):
    """Removes the files of other checkpoints, unfinished ones too."""
    for name in os.listdir(self._path):
      match = re.fullmatch(r"model\.ckpt-(\d+)\..*", name)
      if match and (int(match[1]) not in steps or ".tempstate" in name):
        with contextlib.suppress(FileNotFoundError):
          os.remove(os.path.join(self._path, name))

  def _remove(self, step):
    """Removes the files of one checkpoint, as far as that is possible."""
    for path in glob.glob(glob.escape(self._prefix(step)) + ".*"):
      with contextlib.suppress(OSError):
        os.remove(path)


def steps_in(path):
  """Returns the steps of the checkpoints in a folder, the oldest first."""
  matches = (
    re.fullmatch(r"model\.ckpt-(\d+)\.index", name) for name in os.listdir(path)
  )
  return sorted(int(match[1]) for match in matches if match)


def _best_step(epochs):
  """Returns the global step of the epoch with the best valid perplexity."""
  if not epochs:
    return None
  return min(epochs, key=lambda e: e["valid_perplexity"])["global_step"]


def _flush_to_disk(path):
  """Returns when a file, or a folder's list of files, is on the disk."""
  fd = os.open(path, os.O_RDONLY)
  try:
    os.fsync(fd)
  finally:
    os.close(fd)


def find(folder, which):
  """Returns the path of a run's checkpoint.

  Args:
    folder: of the run.
    which: "last", or "best" by the valid perplexity; or else the name of one in
      the folder, or any path, which need not exist. Which is best, the last
      says.

  Raises:
    CheckpointError: if there is none, or the last is damaged.
  """
  if which not in ("best", "last"):
    return which if os.path.dirname(which) else os.path.join(folder, which)
  try:
    steps = steps_in(folder)
  except OSError as error:
    raise CheckpointError(
      f"{folder} cannot be read: {error.strerror}."
    ) from None
  if not steps:
    raise CheckpointError(f"{folder} has no checkpoint.")
  path = os.path.join(folder, f"model.ckpt-{steps[-1]}")
  if which == "last":
    return path
  with _reading(path):
    text = tf1.train.load_checkpoint(path).get_tensor("progress/json")
    best = _best_step(json.loads(text)["epochs"])
  if best is None:
    raise CheckpointError(
      f"{folder} has no best checkpoint yet, as no epoch has ended. Take the "
      "last one: --checkpoint=last."
    )
  return os.path.join(folder, f"model.ckpt-{best}")


def sizes_in(path):
  """Returns the sizes of the model in a checkpoint, TensorFlow 1.15's too.

  Args:
    path: of the checkpoint, without .index.

  Returns:
    A dictionary: hidden_size, vocab_size, num_layers.

  Raises:
    CheckpointError: if it is not a checkpoint of such a model.
  """
  with _reading(path):
    shapes = dict(tf1.train.list_variables(path))
  try:
    vocab_size, hidden_size = shapes["Model/embedding"]
  except (KeyError, ValueError):
    raise CheckpointError(
      f"{path} is not a checkpoint of this model: it has no matrix "
      "Model/embedding."
    ) from None
  cells = {name for name in shapes if name.endswith(_KERNEL)}
  if not cells:
    raise CheckpointError(
      f"{path} is not a checkpoint of this model: it has no kernel of a "
      "basic_lstm_cell."
    )
  return {
    "hidden_size": hidden_size,
    "vocab_size": vocab_size,
    "num_layers": len(cells),
  }


def restore_variables(session, path, scope=""):
  """Reads the model's variables, and no Progress.

  Args:
    session: a Session.
    path: of the checkpoint, without .index.
    scope: "" or one that ends with "/": that of the variables to read. In the
      checkpoint they have the names without it.

  Raises:
    CheckpointError: if they are not in the checkpoint, or damaged.
  """
  variables = tf1.trainable_variables(scope)
  with _reading(path):
    _check_shapes(path, variables, scope)
    # Nothing is added to the graph, which may be exported.
    tensors = tf1.train.load_checkpoint(path)
    for variable in variables:
      name = variable.op.name.removeprefix(scope)
      variable.load(tensors.get_tensor(name), session)


def _check_shapes(path, variables, scope=""):
  """Raises ValueError if a checkpoint is not of a model with these variables.

  Those it lacks, those of another shape, and further layers are told.
  """
  shapes = dict(tf1.train.list_variables(path))
  known = {variable.op.name.removeprefix(scope) for variable in variables}
  for name in sorted(shapes):
    if name.endswith(_KERNEL) and name not in known:
      raise ValueError(f"it has a layer more, {name}.")
  for variable in variables:
    name = variable.op.name.removeprefix(scope)
    expected = variable.shape.as_list()
    if shapes.get(name) != expected:
      raise ValueError(
        f"{name} should be of shape {expected}, and is {shapes.get(name)}."
      )


@contextlib.contextmanager
def _reading(path):
  """Raises CheckpointError for what goes wrong in the block."""
  if not os.path.isfile(path + ".index"):
    raise CheckpointError(
      f"There is no checkpoint {path}: it would have a file {path}.index, and "
      "is named without .index."
    )
  try:
    yield
  except tf1.ERRORS as error:
    raise CheckpointError(
      f"The checkpoint {path} is damaged or another model's: "
      f"{tf1.reason_of(error)}"
    ) from None
