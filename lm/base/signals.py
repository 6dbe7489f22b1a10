"""What Ctrl-C (SIGINT), SIGTERM and SIGHUP do.

A signal ends a command by an exception, but a training in order, after the step
it is in. Signals within a second count as one: they say the same, and what the
first one began is not interrupted.
"""

import math
import os
import signal
import sys
import time

_AT_ONCE = 1  # Seconds.


def handle(handler):
  """Sets the handler of SIGINT, SIGTERM and SIGHUP; returns those before.

  A signal that is ignored, as SIGHUP is under nohup, stays ignored.
  """
  before = {}
  for name in ("SIGINT", "SIGTERM", "SIGHUP"):
    signum = getattr(signal, name, None)  # Windows has no SIGHUP.
    if signum and signal.getsignal(signum) != signal.SIG_IGN:
      before[signum] = signal.signal(signum, handler)
  return before


def restore(before):
  """Sets the handlers again that `handle` returned."""
  for signum, handler in before.items():
    signal.signal(signum, handler)


class Stop:
  """A handler of signals: ends the process by an exception.

  So half-written files are removed.
  """

  def __init__(self):
    self._last = -math.inf

  def __call__(self, signum, frame):
    last, self._last = self._last, time.monotonic()
    if self._last - last < _AT_ONCE:
      return
    if signum == signal.SIGINT:
      raise KeyboardInterrupt
    sys.exit(128 + signum)


class StopRequest:
  """Turns the first signal into a flag that a loop can check between steps.

    with StopRequest() as stop:
      while not stop:
        train_a_step()

  A second signal ends the process. If no signal came, the handlers are restored
  at the end of the block.

  Attributes:
    signum: the number of the signal; None before one comes.
  """

  def __init__(self):
    self.signum = None

  def __bool__(self):
    return self.signum is not None

  def __enter__(self):
    self._before = handle(self._receive)
    return self

  def __exit__(self, *exception):
    if not self:
      restore(self._before)

  def _receive(self, signum, frame):
    del frame
    if not self:
      self.signum, self._since = signum, time.monotonic()
    elif time.monotonic() - self._since >= _AT_ONCE:
      signal.signal(signum, signal.SIG_DFL)
      os.kill(os.getpid(), signum)
