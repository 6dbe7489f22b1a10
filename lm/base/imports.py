"""What Ctrl-C and a missing package do while a command imports its modules.

Each command calls `quietly` before it imports anything that may be missing or
take long; later, command.run answers. So this needs only Python itself.
"""

import os
import signal
import sys


def quietly():
  """Ends the process without a traceback on Ctrl-C or if a package is missing.

  A process that ignores Ctrl-C, as in the background of a shell, still does.
  """
  if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
  sys.excepthook = _report


def _report(kind, error, traceback):
  """Prints an uncaught exception: a sentence if a package is missing."""
  if isinstance(error, ModuleNotFoundError):
    command = os.path.basename(sys.argv[0])
    print(f"{command}: {sentence_for(error)}", file=sys.stderr)
  else:
    sys.__excepthook__(kind, error, traceback)


def sentence_for(error):
  """Says what to do about a ModuleNotFoundError."""
  version = "{}.{}".format(*sys.version_info)
  return (
    f"the package {error.name} is not installed for {sys.executable} (Python "
    f"{version}). scripts/train.sh and scripts/setup_venv.sh make .venv with "
    "all packages, given a Python 3.10 to 3.13: then start the command by "
    ".venv/bin/python."
  )
