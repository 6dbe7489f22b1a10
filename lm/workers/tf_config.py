"""Reads TF_CONFIG, the environment variable that lists a run's workers."""

import json
import os
import re

from lm.base.command import InputError


class WorkersError(InputError, RuntimeError):
  """The workers cannot be found, do not match, or one was lost."""


_EXAMPLE = (
  'Example: {"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": '
  '{"type": "worker", "index": 0}}.'
)


def workers_in(text):
  """Reads the value of TF_CONFIG; `text` may be None or "" if it is not set.

  Returns:
    (addresses, index): "host:port" of each worker, and the number of this one;
    ([], 0) if there are no workers.

  Raises:
    WorkersError: if the value is not in TensorFlow's format, or lists tasks
      that are not workers.
  """
  try:
    config = json.loads(text or "{}")
    cluster, task = config.get("cluster", {}), config.get("task", {})
    kind, index = task.get("type", "worker"), task.get("index")
    # TensorFlow's strategies may call worker 0 the chief.
    chief = cluster.get("chief", [])
    addresses = chief + cluster.get("worker", [])
    are_valid = all(re.fullmatch(r"[\w.-]+:\d+", text) for text in addresses)
    others = {*cluster, kind} - {"worker", "chief"}
  except (ValueError, AttributeError, TypeError):
    raise WorkersError(f"TF_CONFIG has the wrong format. {_EXAMPLE}") from None
  if not config:
    return [], 0
  if others:
    raise WorkersError(
      f"TF_CONFIG has a task '{min(others)}', but this program supports only "
      f"workers, the first of which may be the chief. {_EXAMPLE}"
    )
  if not addresses or not are_valid:
    raise WorkersError(
      "TF_CONFIG must list workers as host:port, with a host name or an IPv4 "
      f"address, not {addresses}. {_EXAMPLE}"
    )
  size = len(chief) if kind == "chief" else len(addresses) - len(chief)
  if type(index) is not int or not 0 <= index < size or len(chief) > 1:
    raise WorkersError(
      f"TF_CONFIG has the task {kind} {index!r} for this process: the index "
      f"must be a whole number from 0 to {size - 1}, and there can be only one "
      "chief."
    )
  return addresses, index if kind == "chief" else index + len(chief)


def refuse_workers(command):
  """Raises WorkersError if TF_CONFIG lists several workers.

  `command` names what needs one process, such as "--evaluate".
  """
  if len(workers_in(os.environ.get("TF_CONFIG"))[0]) > 1:
    raise WorkersError(
      f"{command} needs one process: start it alone, without TF_CONFIG."
    )
