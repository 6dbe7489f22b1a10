"""Watches whether the other workers of a run are there."""

import socket
import time

from lm.base.command import tell
from lm.workers.tf_config import WorkersError

_UNREACHABLE = 60  # Seconds until a worker out of reach counts as lost.


class Peers:
  """The other workers of a run, seen from worker `index`."""

  def __init__(self, addresses, index):
    self._index = index
    # A worker need not reach its own address: it may lie behind another name.
    self._others = [(i, a) for i, a in enumerate(addresses) if i != index]

  def wait_for_all(self, seconds):
    """Returns when all others answer; WorkersError if one is late."""
    give_up = time.monotonic() + seconds
    for index, address in self._others:
      reason = why_closed(address)
      if reason:
        tell(
          f"Worker {self._index} waits for worker {index} at {address}, for at "
          f"most {seconds:g} seconds."
        )
      while reason:
        if time.monotonic() > give_up:
          raise WorkersError(
            f"Worker {index} at {address} did not come within {seconds:g} "
            f"seconds: {reason.strerror or reason}. Start all workers, with "
            "the same list in TF_CONFIG."
          )
        time.sleep(0.2)
        reason = why_closed(address)

  def start_watching(self):
    """Counts the time that a worker is unreachable from now on."""
    self._seen = dict.fromkeys(dict(self._others), time.monotonic())

  def lost(self):
    """Returns a sentence about a lost worker; None if all are there."""
    for index, address in self._others:
      error = why_closed(address)
      if error is None:
        self._seen[index] = time.monotonic()
      silence = time.monotonic() - self._seen[index]
      # A ConnectionError means that its process has ended.
      if isinstance(error, ConnectionError) or silence > _UNREACHABLE:
        return f"Worker {index} at {address} was lost."
    return None


def why_closed(address):
  """Returns an OSError if nothing listens there; None if something does."""
  host, _, port = address.rpartition(":")
  try:
    with socket.create_connection((host, int(port)), timeout=2) as sock:
      if sock.getsockname() == sock.getpeername():  # By chance its own port.
        return ConnectionRefusedError("Connection refused")
  except OSError as error:
    return error
  return None


def why_not_free(port):
  """Returns why a port cannot be listened on, None if it can."""
  with socket.socket() as sock:
    try:
      sock.bind(("", port))
    except OSError as error:
      return error.strerror
  return None
