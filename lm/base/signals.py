"""What Ctrl-C (SIGINT), SIGTERM and SIGHUP do.

A signal ends a command by an exception. It stops a training after the current
step. Signals that arrive within a second count as one, so that the second one
does not interrupt what the first one began.
"""

import math
import os
import signal
import sys
import threading
import time

_AS_ONE = 1.0  # Seconds within which signals count as one.


def handle(handler):
  """Sets the handler of SIGINT, SIGTERM and SIGHUP; returns the former ones.

  A signal that is ignored, as SIGHUP is under nohup, stays ignored. In a thread
  that is not the main one, Python handles no signals, and nothing is set.
  """
  former = {}
  if threading.current_thread() is not threading.main_thread():
    return former
  for name in ("SIGINT", "SIGTERM", "SIGHUP"):
    signum = getattr(signal, name, None)  # Windows has no SIGHUP.
    if signum and signal.getsignal(signum) != signal.SIG_IGN:
      former[signum] = signal.signal(signum, handler)
  return former


def restore(handlers):
  """Restores the handlers that `handle` returned."""
  for signum, handler in handlers.items():
    signal.signal(signum, handler)


class Stop:
  """A signal handler that ends the process by an exception.

  The exception lets `finally` blocks remove half-written files.
  """

  def __init__(self):
    self._last = -math.inf

  def __call__(self, signum, frame):
    last, self._last = self._last, time.monotonic()
    if self._last - last < _AS_ONE:
      return
    if signum == signal.SIGINT:
      raise KeyboardInterrupt
    sys.exit(128 + signum)


class StopRequest:
  """Turns the first signal into a flag that a loop can check between steps.

    with StopRequest() as stop:
      while not stop:
        train_a_step()

  A second signal ends the process. The end of the block restores the former
  handlers unless a signal has come.

  Attributes:
    signum: the number of the first signal; None before it comes.
  """

  def __init__(self):
    self.signum = None

  def __bool__(self):
    return self.signum is not None

  def __enter__(self):
    self._former = handle(self._receive)
    return self

  def __exit__(self, *exception):
    if not self:
      restore(self._former)

  def _receive(self, signum, frame):
    del frame
    if not self:
      self.signum, self._since = signum, time.monotonic()
    elif time.monotonic() - self._since >= _AS_ONE:
      signal.signal(signum, signal.SIG_DFL)
      os.kill(os.getpid(), signum)
