"""Checkpoints from which a run resumes exactly, as if it had never stopped.

A checkpoint is one TensorFlow bundle of the variables, under the names that
TensorFlow 1.15 gave them, and of a Progress. What makes a resumed run equal, to
the last bit, to one that was never stopped:

  what                        where it comes from
  --------------------------  ------------------------------------------------
  weights                     saved: Model/...
  steps trained               saved: global_step
  the LSTM's state            saved: progress/lstm_state, [L, 2, B, H]
  step within the epoch       saved: progress/json, "step"
  the epoch's cost and time   saved: progress/json, "costs" and "seconds"
  numbers of earlier epochs   saved: progress/json, "epochs"
  learning rate               derived: from the epoch (Config.learning_rate_of)
  dropout masks               derived: from the seed and global_step alone
  place in the text           derived: `step` is the number of the next batch
  config, seed, type, texts   compared: config.json, a Run; another one is
                              refused. A copy is in progress/json, "run"

TensorFlow, the code and the processor are not compared: with others the last
bits may differ.

Each tensor has a checksum. Two files in the folder, in TensorFlow's own format,
name one checkpoint each: `checkpoint` the newest, `best_checkpoint` the one of
the epoch with the lowest valid perplexity.
"""

import contextlib
import dataclasses
import json
import logging
import os
import pathlib
import re

import numpy as np

from lm.base import tf1
from lm.base.command import InputError, reason_of
from lm.model.softmax import SOFTMAX_ROWS

_LOGGER = logging.getLogger(__name__)
_KERNEL = "basic_lstm_cell/kernel"  # How the name of a layer's kernel ends.
_TRANSPOSED = {"Model/softmax_w": f"Model/{SOFTMAX_ROWS}"}
_TRANSPOSED |= {rows: name for name, rows in _TRANSPOSED.items()}


class CheckpointError(InputError, ValueError):
  """There is no checkpoint to take, or it does not fit."""


class _UnfitError(Exception):
  """Why a checkpoint that can be read is not the one that is wanted."""


@dataclasses.dataclass
class Progress:
  """How far a training has come."""

  step: int = 0  # Steps done in the current epoch.
  costs: float = 0.0  # The sum of their costs (PTBModel.cost).
  seconds: float = 0.0  # The time they took.
  state: np.ndarray | None = None  # After them, [L, 2, B, H]; None: zeros.
  # The numbers of each finished epoch, as in epochs.jsonl.
  epochs: list[dict] = dataclasses.field(default_factory=list)

  @property
  def epoch(self):
    """The current epoch; the first is 1."""
    return len(self.epochs) + 1

  def perplexities(self, part):
    """Returns those of each finished epoch; `part` is "train" or "valid"."""
    return [epoch[f"{part}_perplexity"] for epoch in self.epochs]

  def end_epoch(self, numbers):
    """Moves to the next epoch, which starts from a state of zeros."""
    self.step, self.costs, self.seconds, self.state = 0, 0.0, 0.0, None
    self.epochs.append(numbers)


class Checkpoints:
  """The checkpoints of one run, model.ckpt-<global step>, in its folder.

  It keeps the newest two, so that one is intact whatever happens, and the best.
  Create it when the graph has all of its variables.
  """

  def __init__(self, path, state_shape, run):
    """Adds the variables that hold a Progress, with this shape of its state.

    `run` is the Run; checkpoints of another one are refused.
    """
    self._run = run
    self._path = os.path.abspath(path)
    self._steps = []  # The steps of the newest checkpoints, as far as intact.
    with tf1.variable_scope(tf1.VariableScope(False, name="progress")):
      # Local variables: the model's own are the global ones.
      make = tf1.get_local_variable
      zeros = tf1.zeros_initializer()
      # [L, 2, B, H]
      self._state = make("lstm_state", state_shape, initializer=zeros)
      # The rest of Progress, in JSON.
      self._json = make("json", [], tf1.string, zeros)
    variables = [*tf1.global_variables(), self._state, self._json]
    self._variables = {v.op.name: v for v in variables}
    self._saver = tf1.train.Saver(self._variables, max_to_keep=None)

  def save(self, session, step, progress):
    """Writes a checkpoint; once it is on the disk, older ones are removed.

    Raises OSError or tf1.errors.OpError if it cannot be written: those before
    it are still there.
    """
    if step in self._steps:
      return  # The same moment: never overwrite an intact file.
    rest = dataclasses.asdict(progress)
    state = rest.pop("state")
    rest |= {"run_id": self._run.id, "run": self._run.to_json()}
    zeros = np.zeros(self._state.shape)
    self._state.load(zeros if state is None else np.asarray(state), session)
    self._json.load(json.dumps(rest), session)
    path = _path_of(self._path, step)
    try:
      # The files get their names when they are complete, the index last.
      self._saver.save(session, path, write_meta_graph=False, write_state=False)
      files = pathlib.Path(self._path).glob(f"model.ckpt-{step}.*")
      for written in [*files, self._path]:
        _flush_to_disk(written)
    except (OSError, tf1.errors.OpError):
      self._remove(lambda other: other == step)
      raise
    self._steps = [*self._steps[-1:], step]
    self._name(step, progress)
    kept = {*self._steps, _best_step(progress.epochs)}
    self._remove(lambda other: other not in kept)

  def restore(self, session):
    """Reads the newest intact checkpoint; returns its Progress and global step.

    Without a checkpoint, these are a new Progress and None. Raises
    CheckpointError if there are checkpoints, but none is intact.
    """
    self._steps = steps_in(self._path)
    while self._steps:
      step = self._steps[-1]
      path = _path_of(self._path, step)
      try:
        with _reading(path) as tensors:
          _check_shapes(tensors, self._variables)
          _unless_damaged(self._saver.restore, session, path)
          rest = _check_owner(path, tensors, self._run.id)
          state = session.run(self._state)
          progress = Progress(
            **{name: rest[name] for name in rest.keys() - {"run_id", "run"}}
          )
      except CheckpointError as error:
        _LOGGER.warning("%s Trying the one before it.", error)
        self._steps.pop()
        continue
      if progress.step:
        progress.state = state
      self._name(step, progress)  # A kill may have come before that.
      return progress, step
    if steps_in(self._path):
      raise CheckpointError(
        f"No checkpoint in {self._path} can be read. Put back a copy, or "
        "remove them to train from the start."
      )
    return Progress(), None

  def _name(self, step, progress):
    """Writes `checkpoint` and `best_checkpoint`, as TensorFlow's tools do."""
    named = {"checkpoint": step, "best_checkpoint": _best_step(progress.epochs)}
    for filename, its_step in named.items():
      if its_step is not None:
        tf1.train.update_checkpoint_state(
          self._path, f"model.ckpt-{its_step}", latest_filename=filename
        )

  def _remove(self, is_unwanted):
    """Removes unfinished checkpoints, and those whose step is unwanted."""
    for name in os.listdir(self._path):
      match = re.fullmatch(r"model\.ckpt-(\d+)\..*", name)
      is_half = ".tempstate" in name or "checkpoint.tmp" in name
      if is_half or (match and is_unwanted(int(match[1]))):
        with contextlib.suppress(OSError):
          os.remove(os.path.join(self._path, name))


def steps_in(path):
  """Returns the global steps of a folder's checkpoints, the oldest first."""
  names = [path.name for path in pathlib.Path(path).glob("model.ckpt-*.index")]
  matches = (re.fullmatch(r"model\.ckpt-(\d+)\.index", name) for name in names)
  return sorted(int(match[1]) for match in matches if match)


def _path_of(folder, step):
  """Returns the path of a checkpoint, without .index."""
  return os.path.join(folder, f"model.ckpt-{step}")


def best_of(epochs):
  """Returns the epoch with the best valid perplexity, {} if there is none."""
  return min(epochs, key=lambda e: e["valid_perplexity"], default={})


def _best_step(epochs):
  """Returns the global step of the best epoch, None if there is none."""
  return best_of(epochs).get("global_step")


def _flush_to_disk(path):
  """Returns when a file, or the entries of a folder, are on the disk."""
  if os.name == "nt" and os.path.isdir(path):
    return  # Windows cannot, and need not, sync a folder.
  fd = os.open(path, os.O_RDONLY)
  try:
    os.fsync(fd)
  finally:
    os.close(fd)


def find_checkpoint(folder, which):
  """Returns the path of a checkpoint, which need not exist if it is named.

  `which` is "last", "best" by the valid perplexity, the name of one in the
  run's folder, or any path. Raises CheckpointError if there is none.
  """
  if which not in ("best", "last"):
    return which if os.path.dirname(which) else os.path.join(folder, which)
  steps = steps_in(folder)
  if not steps:
    raise CheckpointError(f"{folder} has no checkpoint.")
  step = steps[-1] if which == "last" else _best_step(_epochs_of(folder))
  if step is None:
    raise CheckpointError(
      f"{folder} has no best checkpoint before its first epoch ends: use last."
    )
  return _path_of(folder, step)


def _epochs_of(folder):
  """Returns the numbers of a run's epochs, from its newest intact checkpoint.

  Raises CheckpointError if none is intact.
  """
  for step in reversed(steps_in(folder)):
    try:
      return record_in(_path_of(folder, step)).get("epochs", [])
    except CheckpointError as error:
      _LOGGER.warning("%s", error)
  raise CheckpointError(f"No checkpoint in {folder} can be read.")


def describe(path):
  """Says which epoch of its run a checkpoint is, and if another one is better.

  Returns "" for a checkpoint of another program.
  """
  own, folder = record_in(path), os.path.dirname(path)
  if not own:
    return ""
  better = best_of(_epochs_of(folder)) if steps_in(folder) else None
  text, epoch = "not at the end of an epoch.", None
  if own["step"] == 0 and own["epochs"]:
    epoch = own["epochs"][-1]
    text = f"epoch {epoch['epoch']}, valid perplexity "
    text += f"{epoch['valid_perplexity']:.3f}."
  if better and better != epoch:
    text += f" Epoch {better['epoch']} is better, with "
    text += f"{better['valid_perplexity']:.3f}: --checkpoint=best uses it."
  return f"{path}: {text}"


def sizes_in(path):
  """Returns hidden_size, vocab_size, num_layers, and tie_embeddings if true.

  Raises CheckpointError if it is not a checkpoint of such a model.
  """
  with _reading(path) as tensors:
    shapes = _shapes_in(tensors)
  cells = {name for name in shapes if name.endswith(_KERNEL)}
  embedding = shapes.get("Model/embedding", ())
  if not cells or len(embedding) != 2:
    raise CheckpointError(
      f"{path} is not a checkpoint of this model: it has no matrix "
      "Model/embedding, or no kernel of a basic_lstm_cell."
    )
  vocab_size, hidden_size = embedding
  sizes = {"hidden_size": hidden_size, "vocab_size": vocab_size}
  if "Model/softmax_w" not in shapes:
    sizes["tie_embeddings"] = True
  return {**sizes, "num_layers": len(cells)}


def record_in(path):
  """Returns what a run's checkpoint says besides the variables, a dictionary.

  "run" is the run's config.json and "run_id" its id; older versions wrote
  neither. It is empty for a checkpoint that no run wrote. Raises
  CheckpointError if the checkpoint is damaged.
  """
  with _reading(path) as tensors:
    return _check_owner(path, tensors)


def check_intact(path, run_id=None):
  """Raises CheckpointError if a checkpoint is damaged or of another run."""
  with _reading(path) as tensors:
    _check_owner(path, tensors, run_id)
    for name in tensors.shapes:
      tensors.get(name)


def restore_variables(session, path, scope="", run_id=None):
  """Reads a model's variables, those in `scope`, such as "model_0/".

  Their names in the checkpoint do not have it. softmax_w may be its transpose
  there. Raises CheckpointError if they are missing or damaged, or if the
  checkpoint is of a run with another run_id.
  """
  variables = tf1.trainable_variables(scope)
  variables = {v.op.name.removeprefix(scope): v for v in variables}
  with _reading(path) as tensors:
    _check_shapes(tensors, variables)
    _check_owner(path, tensors, run_id)
    # Not by a Saver, which would add to the graph: that may be exported.
    for name, variable in variables.items():
      is_stored = name in tensors.shapes
      stored = name if is_stored else _TRANSPOSED.get(name, name)
      value = tensors.get(stored)
      value = value if is_stored else value.T
      if not np.isfinite(value).all():
        raise _UnfitError(f"{name} has numbers that are not finite.")
      variable.load(value, session)


def _check_shapes(tensors, variables):
  """Raises _UnfitError unless a checkpoint has these variables, by their names.

  It must have them all, in the same shapes, and no further layer.
  """
  shapes = _shapes_in(tensors)
  if further := _cells_in(shapes) - _cells_in(variables):
    raise _UnfitError(f"it has one more layer, {min(further)}.")
  for name, variable in variables.items():
    expected = variable.shape.as_list()
    if shapes.get(name) != expected:
      raise _UnfitError(
        f"{name} should have the shape {expected}, but has {shapes.get(name)}."
      )


def _cells_in(names):
  """Returns the part of some names of variables that tells the layer."""
  found = (re.match(r".*/cell_\d+/", name) for name in names)
  return {match[0] for match in found if match}


def _check_owner(path, tensors, run_id=None):
  """Returns the JSON in a run's checkpoint, {} if it is not a run's.

  Raises _UnfitError if it has the name of another checkpoint, or if it is of a
  run with another run_id. Older versions wrote none.
  """
  if "progress/json" not in tensors.shapes:
    return {}
  step = re.fullmatch(r"model\.ckpt-(\d+)", os.path.basename(path))
  own = int(tensors.get("global_step"))
  if step and own != int(step[1]):
    raise _UnfitError(f"it is model.ckpt-{own}, under another name.")
  rest = json.loads(tensors.get("progress/json"))
  if run_id and rest.get("run_id", run_id) not in (None, run_id):
    raise _UnfitError("it is of a run with another config.json.")
  return rest


def _shapes_in(tensors):
  """Returns {name: shape} of a checkpoint's tensors; both of softmax_w's."""
  shapes = dict(tensors.shapes)
  for name, transposed in _TRANSPOSED.items():
    if name in shapes:
      shapes.setdefault(transposed, shapes[name][::-1])
  return shapes


@contextlib.contextmanager
def _reading(path):
  """Yields a _Reader of a checkpoint.

  Raises CheckpointError if it is damaged, or does not fit in the block.
  """
  if not os.path.isfile(path + ".index"):
    raise CheckpointError(
      f"There is no checkpoint {path}: it would have a file {path}.index. Give "
      "its name without .index."
    )
  try:
    yield _Reader(path)
  except _UnfitError as error:
    raise CheckpointError(
      f"The checkpoint {path} is damaged or of another model: {error}"
    ) from None


class _Reader:
  """Reads the tensors of a checkpoint; raises _UnfitError if it is damaged."""

  def __init__(self, path):
    self._reader = _unless_damaged(tf1.train.load_checkpoint, path)
    self.shapes = _unless_damaged(self._reader.get_variable_to_shape_map)

  def get(self, name):
    """Returns the value of a tensor."""
    return _unless_damaged(self._reader.get_tensor, name)


def _unless_damaged(read, *args):
  """Calls a function of TensorFlow that reads a checkpoint."""
  try:
    return read(*args)
  # It raises IndexError for a file that is too short.
  except (tf1.errors.OpError, IndexError) as error:
    raise _UnfitError(reason_of(error)) from None
