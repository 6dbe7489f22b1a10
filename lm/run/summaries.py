"""Summaries for TensorBoard, written from numbers at hand."""

import os
import pathlib
import time

from lm.base import tf1


class Summaries:
  """A new file of summaries in a run's folder.

  tf1.summary.FileWriter is no choice: it writes in a thread of its own, so that
  a full disk ends in two tracebacks, and names its files by the time, while
  TensorBoard reads them in the order of their names. Each method raises OSError
  or tf1.errors.OpError if it fails.
  """

  def __init__(self, folder, step):
    """Starts the file, for steps after `step`."""
    paths = pathlib.Path(folder).glob("events.out.tfevents.*")
    numbers = [path.suffix[1:] for path in paths]
    number = 1 + max((int(n) for n in numbers if n.isdigit()), default=-1)
    path = os.path.join(folder, f"events.out.tfevents.{number:06}")
    self._file = tf1.io.TFRecordWriter(path)
    self._write(file_version="brain.Event:2")
    # Makes TensorBoard drop what earlier files have of later steps.
    start = tf1.SessionLog(status=tf1.SessionLog.START)
    self._write(step=step + 1 if step else 0, session_log=start)

  def add(self, step, values):
    """Writes numbers of a step, a dictionary by their tags.

    They are not made in the graph: no batch is fetched for them.
    """
    summary = tf1.Summary()
    for tag, value in values.items():
      summary.value.add(tag=tag, simple_value=value)
    self._write(step=step, summary=summary)

  def _write(self, **fields):
    """Writes an event of TensorBoard."""
    event = tf1.Event(wall_time=time.time(), **fields)
    self._file.write(event.SerializeToString())
    self._file.flush()
