"""Writes numbers as summaries for TensorBoard."""

import os
import pathlib
import time

from lm.base import tf1


class Summaries:
  """A new file of summaries in a run's folder.

  Each method raises OSError or tf1.errors.OpError if it fails.

  tf1.summary.FileWriter is not used, for two reasons. It writes in a thread, so
  a full disk would end in two tracebacks. And it names its files by the clock,
  which may be set back, but TensorBoard reads files in the order of their
  names.
  """

  def __init__(self, folder, step):
    """Starts the file for the steps after `step`, a global step."""
    paths = pathlib.Path(folder).glob("events.out.tfevents.*")
    numbers = [path.suffix[1:] for path in paths]
    number = 1 + max((int(n) for n in numbers if n.isdigit()), default=-1)
    path = os.path.join(folder, f"events.out.tfevents.{number:06}")
    self._file = tf1.io.TFRecordWriter(path)
    self._write(file_version="brain.Event:2")
    # TensorBoard then drops the later steps of earlier files.
    start = tf1.SessionLog(status=tf1.SessionLog.START)
    self._write(step=step + 1 if step else 0, session_log=start)

  def add(self, step, values):
    """Writes the numbers of a global step, a dictionary by their tags."""
    summary = tf1.Summary()
    for tag, value in values.items():
      summary.value.add(tag=tag, simple_value=value)
    self._write(step=step, summary=summary)

  def _write(self, **fields):
    """Writes an event of TensorBoard."""
    event = tf1.Event(wall_time=time.time(), **fields)
    self._file.write(event.SerializeToString())
    self._file.flush()
