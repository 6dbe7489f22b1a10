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
  config, seed, type, texts   compared: a Run, in progress/json and config.json;
                              a checkpoint of another run is refused

TensorFlow, the code and the processor are not compared: if they change, the
last bits may differ.

Each tensor has a checksum. The newest checkpoint is the intact one with the
largest step. Its progress/json tells which one is the best: that of the epoch
with the lowest valid perplexity. For TensorFlow's own tools, the files
`checkpoint` and `best_checkpoint` in the folder name these two.
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
from lm.base.files import flush_to_disk
from lm.model.softmax import SOFTMAX_ROWS
from lm.run.run import RecordError, from_record

_LOGGER = logging.getLogger(__name__)
# The collection of the global variables that checkpoints leave out.
NOT_SAVED = "not_saved"
_KERNEL = "basic_lstm_cell/kernel"  # How the name of a layer's kernel ends.
# How other versions of TensorFlow and forks of the tutorial name a layer's
# tensors: the end of the name, below any scopes.
_LAYER = re.compile(
  r"(?:^|/)(?:basic_lstm_cell|lstm_cell|BasicLSTMCell/Linear)/"
  r"(?:(kernel|weights|Matrix)|bias|biases|Bias)$"
)
_CELL = re.compile(r"(?:^|/)cell_?(\d+)/", re.IGNORECASE)
_OTHERS = re.compile(
  rf"(?:^|.*/)(embedding|softmax_w|softmax_b|{SOFTMAX_ROWS})"
)
# Two names for the weights of the softmax, each the transpose of the other.
_TRANSPOSED = {"Model/softmax_w": f"Model/{SOFTMAX_ROWS}"}
_TRANSPOSED |= {rows: name for name, rows in _TRANSPOSED.items()}


class CheckpointError(InputError, ValueError):
  """A checkpoint that is missing, damaged or of another model."""


class MissingError(CheckpointError):
  """There is no checkpoint of this name, or no longer."""


class _UnfitError(Exception):
  """Why a checkpoint cannot be used; `_reading` adds which one it is."""


@dataclasses.dataclass
class Progress:
  """How far a training has come."""

  step: int = 0  # The number of steps done in the current epoch.
  costs: float = 0.0  # The sum of the costs of these steps (PTBModel.cost).
  seconds: float = 0.0  # The time they took.
  # The LSTM's state after these steps, [L, 2, B, H]; None stands for zeros.
  state: np.ndarray | None = None
  # The numbers of each finished epoch, as in epochs.jsonl.
  epochs: list[dict] = dataclasses.field(default_factory=list)

  @property
  def epoch(self):
    """The current epoch; the first is 1."""
    return len(self.epochs) + 1

  @property
  def valid_perplexities(self):
    """The valid perplexity of each finished epoch, a list."""
    return [epoch["valid_perplexity"] for epoch in self.epochs]

  def end_epoch(self, numbers):
    """Moves to the next epoch, which starts from a state of zeros."""
    self.step, self.costs, self.seconds, self.state = 0, 0.0, 0.0, None
    self.epochs.append(numbers)


class Checkpoints:
  """The checkpoints of one run, model.ckpt-<global step>, in its folder.

  It keeps the newest two, so that one is intact whatever happens, and the best;
  with keep_checkpoints, also that of each epoch. Create this object when the
  graph has all of its variables.
  """

  def __init__(self, path, state_shape, run):
    """Adds the variables that hold a Progress to the graph.

    Args:
      path: the folder.
      state_shape: the shape of the LSTM's state, [L, 2, B, H].
      run: the Run. Checkpoints of another run are refused.
    """
    self._run = run
    self._path = os.path.abspath(path)
    self._steps = []  # The steps of the newest intact checkpoints.
    # The steps of checkpoints that another program has put into the folder.
    self._others = set()
    with tf1.variable_scope(tf1.VariableScope(False, name="progress")):
      # Local variables: the global ones are the model's.
      make = tf1.get_local_variable
      zeros = tf1.zeros_initializer()
      self._state = make("lstm_state", state_shape, initializer=zeros)
      # All other fields of the Progress, and the Run.
      self._json = make("json", [], tf1.string, zeros)
    variables = [*tf1.global_variables(), self._state, self._json]
    not_saved = {v.op.name for v in tf1.get_collection(NOT_SAVED)}
    self._variables = {
      v.op.name: v for v in variables if v.op.name not in not_saved
    }
    self._saver = tf1.train.Saver(self._variables, max_to_keep=None)

  def save(self, session, step, progress):
    """Writes the checkpoint of a global step, then removes older ones.

    Raises OSError or tf1.errors.OpError if it cannot be written. Then the older
    ones stay.
    """
    if step in self._steps:
      return  # It exists: an intact file is never overwritten.
    record = dataclasses.asdict(progress)
    state = record.pop("state")
    record |= {"run_id": self._run.id, "run": self._run.to_json()}
    zeros = np.zeros(self._state.shape)
    self._state.load(zeros if state is None else np.asarray(state), session)
    self._json.load(json.dumps(record), session)
    path = _path_of(self._path, step)
    try:
      # The files get their names when they are complete, the index last.
      self._saver.save(session, path, write_meta_graph=False, write_state=False)
      files = pathlib.Path(self._path).glob(f"model.ckpt-{step}.*")
      for file_or_folder in [*files, self._path]:
        flush_to_disk(file_or_folder)
    except (OSError, tf1.errors.OpError):
      self._remove(lambda other: other == step)
      raise
    self._steps = [*self._steps[-1:], step]
    self._write_pointers(step, progress)
    needed = {*self._steps, *self._others, _best_step(progress.epochs)}
    if self._run.keep_checkpoints:
      needed |= {epoch["global_step"] for epoch in progress.epochs}
    self._remove(lambda other: other not in needed)

  def restore(self, session):
    """Reads the newest intact checkpoint; returns its Progress and global step.

    Without a checkpoint, returns a new Progress and None. Raises
    CheckpointError if there are checkpoints, but none is intact.
    """
    steps = steps_in(self._path)
    self._others = {step for step in steps if self._is_of_others(step)}
    self._steps = [step for step in steps if step not in self._others]
    while self._steps:
      step = self._steps[-1]
      path = _path_of(self._path, step)
      try:
        with _reading(path) as tensors:
          _check_shapes(tensors, self._variables)
          _check_no_others(tensors, self._variables)
          _unless_damaged(self._saver.restore, session, path)
          record = _read_record(path, tensors, self._run.id)
      except CheckpointError as error:
        _LOGGER.warning("%s Trying the one before it.", error)
        self._steps.pop()
        continue
      for name in ("run_id", "run"):  # Older versions did not write them.
        record.pop(name, None)
      try:
        progress = from_record(Progress, record)
      except RecordError as error:
        raise CheckpointError(
          f"{path} was written by another version of this program: {error}"
        ) from None
      if progress.step:
        progress.state = session.run(self._state)
      self._write_pointers(step, progress)  # A kill may have prevented it.
      return progress, step
    if steps:
      advice = "Put back a copy, or remove all checkpoints to start again."
      if self._others:
        path = _path_of(self._path, max(self._others))
        advice = (
          f"Another program, perhaps with a tf.train.Saver, wrote {path}, "
          "which does not record how far the training had come. To start from "
          f"its weights, use --init_from={path} and another --save_path."
        )
      raise CheckpointError(
        f"No checkpoint in {self._path} can be resumed. {advice}"
      )
    return Progress(), None

  def _is_of_others(self, step):
    """Returns whether another program wrote the checkpoint of a step."""
    try:
      return not record_in(_path_of(self._path, step))
    except CheckpointError:  # It is damaged.
      return False

  def _write_pointers(self, step, progress):
    """Writes `checkpoint` and `best_checkpoint`, in TensorFlow's format."""
    steps = {"checkpoint": step, "best_checkpoint": _best_step(progress.epochs)}
    for filename, named_step in steps.items():
      if named_step is not None:
        tf1.train.update_checkpoint_state(
          self._path, f"model.ckpt-{named_step}", latest_filename=filename
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


def best_epoch(epochs):
  """Returns the epoch with the lowest valid perplexity, {} if there is none."""
  return min(epochs, key=lambda e: e["valid_perplexity"], default={})


def _best_step(epochs):
  """Returns the global step of the best epoch, None if there is none."""
  return best_epoch(epochs).get("global_step")


def find_checkpoint(folder, name):
  """Returns the path of a checkpoint, without .index.

  Args:
    folder: a run's folder.
    name: "last", "best" by the valid perplexity, the name of a checkpoint in
      the folder, or any path. A name or a path need not exist.

  Raises:
    CheckpointError: if there is no last or no best checkpoint.
  """
  if name not in ("best", "last"):
    return name if os.path.dirname(name) else os.path.join(folder, name)
  if not steps_in(folder):
    raise CheckpointError(
      f"{folder} has no checkpoint yet. The command of its training writes one."
    )
  if name == "last":
    step = _last_step(folder)
  else:
    step = _best_step(_epochs_of(folder))
  if step is None:
    raise CheckpointError(
      f"{folder} has no best checkpoint before its first epoch ends: use "
      "--checkpoint=last."
    )
  return _path_of(folder, step)


def _last_step(folder):
  """Returns the largest step of a checkpoint that the run itself wrote.

  Older versions did not mark their checkpoints: without any mark, all are the
  run's.
  """
  steps = steps_in(folder)
  for step in reversed(steps):
    try:
      if record_in(_path_of(folder, step)):
        return step
    except MissingError:  # A training has just replaced it.
      continue
    except CheckpointError:  # It is damaged; whoever reads it reports that.
      return step
  return steps[-1]


def _epochs_of(folder):
  """Returns the numbers of a run's epochs, from its newest intact checkpoint.

  Raises CheckpointError if none is intact.
  """
  for step in reversed(steps_in(folder)):
    try:
      if record := record_in(_path_of(folder, step)):
        return record.get("epochs", [])
    except MissingError:  # A training has just replaced it.
      continue
    except CheckpointError as error:
      _LOGGER.warning("%s", error)
  raise CheckpointError(f"No checkpoint of the run in {folder} can be read.")


def describe(path):
  """Returns a sentence that says which epoch of its run a checkpoint is from.

  A second sentence names the run's best epoch, unless it is this one. Returns
  "" for a checkpoint of another program.
  """
  record, folder = record_in(path), os.path.dirname(path)
  if not record:
    return ""
  best = best_epoch(_epochs_of(folder)) if steps_in(folder) else {}
  best_perplexity = f"{best['valid_perplexity']:.3f}" if best else None
  if record["step"] == 0 and record["epochs"]:
    epoch = record["epochs"][-1]
    perplexity = f"{epoch['valid_perplexity']:.3f}"
    text = f"epoch {epoch['epoch']}, valid perplexity {perplexity}."
    comparison = f"is better, with {best_perplexity}"
  else:
    epoch = {}
    number = len(record["epochs"]) + 1
    text = f"within epoch {number}, after step {record['step']}."
    comparison = f"has valid perplexity {best_perplexity}"
  if best and best != epoch:
    text += f" Epoch {best['epoch']} {comparison}: --checkpoint=best uses it."
  return f"{path}: {text}"


def sizes_in(path):
  """Returns the sizes of a checkpoint's model, as keyword arguments of Config.

  They are hidden_size, vocab_size, num_layers, and tie_embeddings if it is
  true. Raises CheckpointError if it is not a checkpoint of such a model.
  """
  with _reading(path) as tensors:
    shapes = _shapes_in(tensors)
  cells = {name for name in shapes if name.endswith(_KERNEL)}
  embedding = shapes.get("Model/embedding", ())
  if not cells or len(embedding) != 2:
    names = ", ".join(sorted(tensors.stored_names.values())[:10])
    raise CheckpointError(
      f"{path} is not a checkpoint of this model: it lacks the matrix "
      "embedding or the kernel of a basic_lstm_cell or lstm_cell. It has "
      f"{names}."
    )
  vocab_size, hidden_size = embedding
  sizes = {"hidden_size": hidden_size, "vocab_size": vocab_size}
  if "Model/softmax_w" not in shapes:
    sizes["tie_embeddings"] = True
  return {**sizes, "num_layers": len(cells)}


def record_in(path):
  """Returns the record of a run's checkpoint, a dictionary.

  It has the fields of Progress except the state; "run", the run's config.json;
  and "run_id", its id. Older versions did not write the last two. For a
  checkpoint that no run wrote, the record is empty. Raises CheckpointError if
  the checkpoint is damaged.
  """
  with _reading(path) as tensors:
    return _read_record(path, tensors)


def check_intact(path, run_id=None):
  """Raises CheckpointError if a checkpoint is damaged or of another run."""
  with _reading(path) as tensors:
    _read_record(path, tensors, run_id)
    for name in tensors.shapes:
      tensors.get(name)


def restore_variables(session, path, scope="", run_id=None):
  """Reads the variables of a model from a checkpoint.

  The checkpoint may have the transpose of softmax_w instead.

  Args:
    session: a Session.
    path: the checkpoint, without .index.
    scope: the scope of the model's variables in the graph, such as "model_0/".
      Their names in the checkpoint lack it.
    run_id: the id of the Run that must have written the checkpoint; None if any
      program may have.

  Raises:
    CheckpointError: if the checkpoint is damaged, or of another model or run.
  """
  variables = tf1.trainable_variables(scope)
  variables = {v.op.name.removeprefix(scope): v for v in variables}
  with _reading(path) as tensors:
    _check_shapes(tensors, variables)
    _read_record(path, tensors, run_id)
    # A Saver would add operations to the graph, which may be exported.
    for name, variable in variables.items():
      if name in tensors.shapes:
        value = tensors.get(name)
      else:
        value = tensors.get(_TRANSPOSED[name]).T
      if not np.isfinite(value).all():
        raise _UnfitError(f"{name} has numbers that are not finite.")
      variable.load(value, session)


def _check_shapes(tensors, variables):
  """Raises _UnfitError unless a checkpoint is of a model with these variables.

  It must have all of them, in the same shapes, and no further layer.
  `variables` is a dictionary by the names in the checkpoint.
  """
  shapes = _shapes_in(tensors)
  if further := _layers_in(shapes) - _layers_in(variables):
    raise _UnfitError(f"it has an additional layer, {min(further)}.")
  for name, variable in variables.items():
    if name not in shapes:
      raise _UnfitError(f"it has no {name}.")
    expected = variable.shape.as_list()
    if shapes[name] != expected:
      raise _UnfitError(
        f"{name} should have the shape {expected}, but has {shapes[name]}."
      )


def _check_no_others(tensors, variables):
  """Raises _UnfitError if a checkpoint has a tensor that the graph lacks.

  It may be what another optimizer keeps for a variable, as Adam does.
  """
  others = tensors.shapes.keys() - variables
  others = {name for name in others if not name.startswith("progress/")}
  if others:
    raise _UnfitError(f"it has {min(others)}, which this model does not have.")


def _layers_in(names):
  """Returns the layers' scopes that occur in names of variables."""
  matches = (re.match(r"Model/RNN/.*/cell_\d+/", name) for name in names)
  return {match[0] for match in matches if match}


def _read_record(path, tensors, run_id=None):
  """Returns the record of a checkpoint, see `record_in`.

  Raises _UnfitError if the file was renamed to another step, or if the
  checkpoint is of a run with another run_id.
  """
  if "progress/json" not in tensors.shapes:
    return {}
  named_step = re.fullmatch(r"model\.ckpt-(\d+)", os.path.basename(path))
  step = int(tensors.get("global_step"))
  if named_step and step != int(named_step[1]):
    raise _UnfitError(f"it is model.ckpt-{step}, under another name.")
  record = json.loads(tensors.get("progress/json"))
  recorded_id = record.get("run_id")  # Older versions did not write it.
  if run_id and recorded_id and recorded_id != run_id:
    raise _UnfitError("it belongs to a run with another config.json.")
  return record


def _shapes_in(tensors):
  """Returns {name: shape} of a checkpoint's tensors.

  softmax_w and its transpose are both there if the checkpoint has one of them.
  """
  shapes = dict(tensors.shapes)
  for name, transposed in _TRANSPOSED.items():
    if name in shapes:
      shapes.setdefault(transposed, shapes[name][::-1])
  return shapes


@contextlib.contextmanager
def _reading(path):
  """Yields a _Reader of a checkpoint; raises CheckpointError without one.

  It turns an _UnfitError in the block into a CheckpointError.
  """
  if not os.path.isfile(path + ".index"):
    raise MissingError(
      f"There is no checkpoint {path}: the file {path}.index does not exist. "
      "Give the checkpoint's name without .index."
    )
  try:
    yield _Reader(path)
  except _UnfitError as error:
    raise CheckpointError(
      f"The checkpoint {path} is damaged or belongs to another model: {error}"
    ) from None


class _Reader:
  """The tensors of a checkpoint; raises _UnfitError if they are damaged.

  Tensors of the model have the names that this project gives them, whatever
  program wrote the checkpoint.

  Attributes:
    shapes: the shape of each tensor by its name, a dictionary of lists.
    stored_names: the name of each tensor in the checkpoint, by its name here.
  """

  def __init__(self, path):
    self._reader = _unless_damaged(tf1.train.load_checkpoint, path)
    shapes = _unless_damaged(self._reader.get_variable_to_shape_map)
    self.stored_names = _stored_names(shapes)
    self.shapes = {
      name: shapes[stored] for name, stored in self.stored_names.items()
    }

  def get(self, name):
    """Returns the value of a tensor."""
    return _unless_damaged(self._reader.get_tensor, self.stored_names[name])


def _stored_names(names):
  """Returns {name in this project: name in the checkpoint} of all tensors.

  Args:
    names: the names in the checkpoint.

  Raises:
    _UnfitError: if two tensors would have one name, or if a layer has tensors
      that BasicLSTMCell does not have.
  """
  if "progress/json" in names:  # It is a run's.
    return {name: name for name in names}
  stored = {}
  for name in sorted(names):
    own_name = _own_name(name)
    if own_name in stored:
      raise _UnfitError(
        f"it has both {stored[own_name]} and {name}, where one is expected."
      )
    stored[own_name] = name
  for own_name, kernel in stored.items():
    if own_name.endswith(_KERNEL):
      bias = stored.get(own_name.removesuffix("kernel") + "bias", kernel)
      scope = kernel.rpartition("/")[0]
      for name in names:  # Optimizers add to the names of variables.
        if name.startswith(f"{scope}/") and not name.startswith((kernel, bias)):
          raise _UnfitError(f"it has {name}, which no BasicLSTMCell has.")
  return stored


def _own_name(name):
  """Returns this project's name of a tensor, given another program's name."""
  if match := _OTHERS.fullmatch(name):
    return f"Model/{match[1]}"
  match = _LAYER.search(name)
  if not match:
    return name
  numbers = _CELL.findall(name)  # A model with one layer may have none.
  scope = f"Model/RNN/multi_rnn_cell/cell_{numbers[-1] if numbers else 0}"
  return f"{scope}/basic_lstm_cell/{'kernel' if match[1] else 'bias'}"


def _unless_damaged(read, *args):
  """Calls a function of TensorFlow that reads a checkpoint.

  Raises _UnfitError if that fails.
  """
  try:
    return read(*args)
  # It raises IndexError for a file that is too short.
  except (tf1.errors.OpError, IndexError) as error:
    raise _UnfitError(reason_of(error)) from None
