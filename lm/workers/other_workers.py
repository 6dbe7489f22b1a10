"""Waits for the other workers of a run, and notices when one is lost."""

import socket
import time

from lm.base.command import tell
from lm.workers.tf_config import WorkersError

# Seconds after which a worker that cannot be reached counts as lost.
_UNREACHABLE = 60


class OtherWorkers:
  """The other workers of a run, seen from worker `index`."""

  def __init__(self, addresses, index):
    """`addresses` has the "host:port" of each worker, this one included."""
    self._index = index
    # A worker may be unable to reach its own address, which the others use.
    self._others = [(i, a) for i, a in enumerate(addresses) if i != index]

  def wait_for_all(self, seconds):
    """Waits until all of them answer; raises WorkersError if one is late."""
    deadline = time.monotonic() + seconds
    for index, address in self._others:
      error = try_to_connect(address)
      if error:
        tell(
          f"Worker {self._index} is waiting for worker {index} at {address}, "
          f"for at most {seconds:g} seconds."
        )
      while error:
        if time.monotonic() > deadline:
          raise WorkersError(
            f"Worker {index} at {address} could not be reached within "
            f"{seconds:g} seconds: {error.strerror or error}. Start all "
            "workers, with the same list in TF_CONFIG."
          )
        time.sleep(0.2)
        error = try_to_connect(address)

  def start_watching(self):
    """Starts to count for how long each worker cannot be reached."""
    now = time.monotonic()
    self._last_answers = {index: now for index, _ in self._others}

  def find_lost(self):
    """Returns a sentence about a lost worker; None if none is lost."""
    for index, address in self._others:
      error = try_to_connect(address)
      if error is None:
        self._last_answers[index] = time.monotonic()
      silence = time.monotonic() - self._last_answers[index]
      # A ConnectionError means that its process has ended.
      if isinstance(error, ConnectionError) or silence > _UNREACHABLE:
        return f"Worker {index} at {address} was lost."
    return None


def try_to_connect(address):
  """Returns None if something listens at "host:port", else an OSError."""
  host, _, port = address.rpartition(":")
  try:
    socket.create_connection((host, int(port)), timeout=2).close()
  except OSError as error:
    return error
  return None


def try_to_listen(port):
  """Returns None if this process can listen on a port, else an OSError."""
  with socket.socket() as listener:
    try:
      listener.bind(("", port))
    except OSError as error:
      return error
  return None
