"""Ends a run in order on Ctrl-C (SIGINT) and on SIGTERM."""

import signal


class StopRequest:
  """Turns the first signal into a wish that a loop can ask for between steps.

    with StopRequest() as stop:
      while not stop:
        train_a_step()

  The second signal ends the process at once. A block without a signal leaves
  them as they were before it.

  Attributes:
    signum: the signal's number, or None as long as there was none.
  """

  _SIGNALS = (signal.SIGINT, signal.SIGTERM)

  def __init__(self):
    self.signum = None

  def __bool__(self):
    return self.signum is not None

  def __enter__(self):
    self._before = {s: signal.signal(s, self._receive) for s in self._SIGNALS}
    return self

  def __exit__(self, *exception):
    if not self:
      for signum, handler in self._before.items():
        signal.signal(signum, handler)

  def _receive(self, signum, frame):
    del frame
    self.signum = signum
    # Left to the operating system, which does not wait for a training step.
    for each in self._SIGNALS:
      signal.signal(each, signal.SIG_DFL)
