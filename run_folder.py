"""What a run leaves in the folder that --save_path names.

config.json       the model's name, seed, dtype, config, data checksums
vocabulary.txt    a word a line; the line's number, from 0, is the word's id
checkpoint, model.ckpt-*   the weights after each of the last epochs
events.out.tfevents.*      summaries for TensorBoard
epochs.jsonl      a JSON object a line: what each epoch reached
result.json       what the finished run reached
"""

import contextlib
import functools
import json
import os

import tf1


class SaveError(OSError):
  """The folder of a run cannot be made or written, or is already in use."""


class NoRunFolder:
  """Stands in for a RunFolder where nothing is to be kept."""

  def add_step(self, step, values):
    """Does nothing."""

  def save(self, session, step):
    """Does nothing."""

  def add_epoch(self, step, values):
    """Does nothing."""

  def finish(self, step, values):
    """Does nothing."""


class RunFolder(NoRunFolder):
  """A run's folder, written as the run goes on.

  Each method raises SaveError if it cannot write.
  """

  def __init__(self, path, about, vocabulary):
    """Makes the folder if it is missing, with config.json and vocabulary.txt.

    Args:
      path: the folder.
      about: a dictionary that JSON can hold, for config.json.
      vocabulary: the words in the order of their ids.

    Raises:
      SaveError: also if the folder has a run with a checkpoint already.
    """
    self.path = path
    if not path:
      raise SaveError("--save_path is empty; name a folder, or leave it out.")
    if os.path.exists(path) and not os.path.isdir(path):
      raise SaveError(f"--save_path={path} is a file; name a folder.")
    with self._saving("anything"):
      os.makedirs(path, exist_ok=True)
    if os.path.exists(os.path.join(path, "checkpoint")):
      raise SaveError(
        f"{path} holds a run already. Give --save_path another folder, or "
        "remove this one."
      )
    self._write("vocabulary.txt", "".join(f"{word}\n" for word in vocabulary))
    self._write("config.json", json.dumps(about, indent=2) + "\n")

  def add_step(self, step, values):
    """Adds TensorBoard summaries of the training steps just done.

    Args:
      step: how many steps the weights were trained.
      values: a number for each name; the tag is "train/" and the name.
    """
    self._summarize(step, "train/", values)

  def save(self, session, step):
    """Writes the weights of the session as model.ckpt-<step>."""
    with self._saving("the checkpoint"):
      self._saver.save(
        session,
        os.path.join(self.path, "model.ckpt"),
        global_step=step,
        write_meta_graph=False,
      )

  def add_epoch(self, step, values):
    """Adds a line to epochs.jsonl, and each value as a summary "epoch/..."."""
    line = json.dumps({**values, "global_step": step}) + "\n"
    with (
      self._saving("epochs.jsonl"),
      open(os.path.join(self.path, "epochs.jsonl"), "a") as f,
    ):
      f.write(line)
    self._summarize(step, "epoch/", values)

  def finish(self, step, values):
    """Writes result.json, and each value as a summary "result/..."."""
    self._write("result.json", json.dumps(values, indent=2) + "\n")
    self._summarize(step, "result/", values)

  @functools.cached_property
  def _saver(self):
    # The learning rate is a local variable, so this leaves exactly the
    # variables that the tutorial's models have in common, and global_step.
    return tf1.train.Saver(tf1.global_variables(), save_relative_paths=True)

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
    """Raises SaveError for what goes wrong in the block."""
    where = f"Cannot write {what} in --save_path={self.path}"
    try:
      yield
    except OSError as error:
      raise SaveError(f"{where}: {error.strerror}.") from None
    except tf1.errors.OpError as error:
      # Its own words stand before the name of the node, after a stack trace.
      lines = error.message.partition("[[{{node")[0].split("\n")
      reason = [line.strip() for line in lines if line.strip()][-1]
      raise SaveError(f"{where}: {reason}.") from None
