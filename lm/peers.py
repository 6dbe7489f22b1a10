"""Watches whether the other workers of a run are there."""

import errno
import socket
import time

from lm.command import tell
from lm.tf_config import WorkersError

# Seconds until a worker that cannot be reached counts as lost. That a worker's
# process has ended is known at once.
_UNREACHABLE = 60


class Peers:
  """The other workers of a run, seen from one of them."""

  def __init__(self, addresses, index):
    """Takes the "host:port" of all workers, and the number of this one."""
    self._index = index
    # A worker need not reach its own address: it may lie behind another name.
    self._others = [(i, a) for i, a in enumerate(addresses) if i != index]
    self._seen = {}

  def wait_for_all(self, seconds):
    """Returns when all others' ports are open; WorkersError if one is late."""
    give_up = time.monotonic() + seconds
    for index, address in self._others:
      is_reported = False
      while (reason := why_closed(address)) is not None:
        if time.monotonic() > give_up:
          raise WorkersError(
            f"Worker {index} at {address} did not come within {seconds:g} "
            f"seconds: {reason.strerror or reason}. Start all workers, with "
            "the same list in TF_CONFIG."
          )
        if not is_reported:
          tell(
            f"Worker {self._index} waits for worker {index} at {address}, for "
            f"at most {seconds:g} seconds."
          )
          is_reported = True
        time.sleep(0.2)

  def start_watching(self):
    """Counts the time that a worker is unreachable from now on."""
    self._seen = dict.fromkeys(dict(self._others), time.monotonic())

  def lost(self):
    """Returns a sentence about a lost worker; None if all are there."""
    now = time.monotonic()
    for index, address in self._others:
      error = why_closed(address)
      if error is None:
        self._seen[index] = now
      elif (
        isinstance(error, ConnectionError)  # Its process has ended.
        or now - self._seen[index] > _UNREACHABLE
      ):
        return f"Worker {index} at {address} was lost."
    return None


def why_closed(address):
  """Returns an OSError if nothing listens at an address, else None.

  It is a ConnectionError if the machine answered.
  """
  host, _, port = address.rpartition(":")
  try:
    with socket.create_connection((host, int(port)), timeout=2) as sock:
      if sock.getsockname() == sock.getpeername():  # By chance its own port.
        return ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
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
