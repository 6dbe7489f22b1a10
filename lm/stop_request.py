"""Ends a run in order on Ctrl-C (SIGINT), SIGTERM and SIGHUP."""

import signal


class StopRequest:
  """Turns the first signal into a wish that a loop can ask for between steps.

    with StopRequest() as stop:
      while not stop:
        train_a_step()

  The second signal ends the process at once. A block without a signal leaves
  them as they were before it. One that is ignored, as nohup has it, stays so.

  Attributes:
    signum: the signal's number, or None as long as there was none.
  """

  _SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

  def __init__(self):
    self.signum = None

  def __bool__(self):
    return self.signum is not None

  def __enter__(self):
    self._before = {
      signum: signal.signal(signum, self._receive)
      for signum in self._SIGNALS
      if signal.getsignal(signum) is not signal.SIG_IGN
    }
    return self

  def __exit__(self, *exception):
    if not self:
      for signum, handler in self._before.items():
        signal.signal(signum, handler)

  def _receive(self, signum, frame):
    del frame
    self.signum = signum
    # Left to the operating system, which does not wait for a training step.
    for each in self._before:
      signal.signal(each, signal.SIG_DFL)
