"""Ends a run in order on Ctrl-C (SIGINT), SIGTERM and SIGHUP."""

import signal

from lm.command import handle_signals


class StopRequest:
  """Turns the first signal into a flag that a loop can check between steps.

    with StopRequest() as stop:
      while not stop:
        train_a_step()

  The second signal ends the process at once. If no signal came, the handlers
  are restored at the end of the block.

  Attributes:
    signum: the number of the signal; None before one comes.
  """

  def __init__(self):
    self.signum = None

  def __bool__(self):
    return self.signum is not None

  def __enter__(self):
    self._before = handle_signals(self._receive)
    return self

  def __exit__(self, *exception):
    if not self:
      for signum, handler in self._before.items():
        signal.signal(signum, handler)

  def _receive(self, signum, frame):
    del frame
    self.signum = signum
    # The system's own handlers do not wait for a training step.
    for each in self._before:
      signal.signal(each, signal.SIG_DFL)
