"""Reads TF_CONFIG, the environment variable that lists the workers of a run."""

import json
import os
import re

from lm.base.command import InputError


class WorkersError(InputError, RuntimeError):
  """The workers cannot be found, do not match, or one was lost."""


_EXAMPLE = (
  'It looks like {"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": '
  '{"type": "worker", "index": 0}}.'
)


def workers_in(text):
  """Reads the value of TF_CONFIG; None or "" if it is not set.

  Returns (addresses, index): "host:port" of each worker, and the number of this
  one; ([], 0) if there are no workers. Raises WorkersError if it is not in
  TensorFlow's format, or lists tasks that are not workers.
  """
  try:
    config = json.loads(text or "{}")
    cluster, task = config.get("cluster", {}), config.get("task", {})
    kind, index = task.get("type", "worker"), task.get("index")
    others = {*cluster, kind} - {"worker", "chief"}
    addresses, chief = cluster.get("worker", []), cluster.get("chief", [])
    if isinstance(addresses, list) and isinstance(chief, list):
      # TensorFlow's strategies may call worker 0 the chief.
      if chief and kind == "worker" and type(index) is int:
        index += 1
      addresses = chief + addresses
    are_valid = all(map(_is_address, addresses))
  except ValueError as error:
    raise WorkersError(f"TF_CONFIG is not JSON: {error}. {_EXAMPLE}") from None
  except (AttributeError, TypeError):
    raise WorkersError(f"TF_CONFIG is not as expected. {_EXAMPLE}") from None
  if not config:
    return [], 0
  if others:
    raise WorkersError(
      f"TF_CONFIG has a task '{min(others, key=str)}', but this program has "
      f"only workers, of which the chief may be the first. {_EXAMPLE}"
    )
  if not addresses or not are_valid or not isinstance(addresses, list):
    raise WorkersError(
      "TF_CONFIG must list workers as host:port, with a host's name or IPv4 "
      f"address, not {addresses}. {_EXAMPLE}"
    )
  if len(chief) > 1 or (kind == "chief" and not (chief and index in (0, None))):
    raise WorkersError(
      f"TF_CONFIG must list one chief, with the index 0. {_EXAMPLE}"
    )
  if kind == "chief":
    index = 0
  if len(set(addresses)) < len(addresses):
    raise WorkersError("TF_CONFIG lists one worker twice.")
  if type(index) is not int or not 0 <= index < len(addresses):
    raise WorkersError(
      f"TF_CONFIG says that this is worker {index!r} of {len(addresses)}: the "
      f"task's index must be a whole number from 0 to {len(addresses) - 1}."
    )
  return addresses, index


def refuse_workers(what):
  """Raises WorkersError if TF_CONFIG lists several workers, for `what`."""
  if len(workers_in(os.environ.get("TF_CONFIG"))[0]) > 1:
    raise WorkersError(
      f"{what} needs one process: start it alone, without TF_CONFIG."
    )


def _is_address(text):
  """Says whether a text is a possible host:port."""
  match = re.fullmatch(r"([\w-]{1,63}\.)*[\w-]{1,63}:([1-9]\d{,4})", text, re.A)
  return match is not None and int(match[2]) < 2**16
