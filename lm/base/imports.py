"""Explains a missing package to users, and handles Ctrl-C during imports.

Each command calls `report_failures` before it imports anything else, so this
module imports only what comes with Python.
"""

import contextlib
import os
import signal
import sys


def report_failures():
  """Makes Ctrl-C or a missing package end this process with a sentence.

  Later, the command sets a handler of its own for Ctrl-C.
  """
  sys.excepthook = _report
  is_default = signal.getsignal(signal.SIGINT) == signal.default_int_handler
  if is_default and not hasattr(sys, "ps1"):  # A prompt, as IPython, has ps1.
    signal.signal(signal.SIGINT, _end)
  # launch_local.py blocks Ctrl-C in its workers until here.
  if hasattr(signal, "pthread_sigmask"):  # Windows lacks it.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


def _end(signum, frame):
  """Ends the process; Python would ignore exceptions in parts of an import."""
  with contextlib.suppress(OSError):
    os.write(2, b"Interrupted.\n")
  os._exit(128 + signum)


def _report(kind, error, traceback):
  """Reports an uncaught exception, in place of sys.__excepthook__."""
  if isinstance(error, ModuleNotFoundError):
    command = os.path.basename(sys.argv[0])
    print(f"{command}: {_explain_missing(error)}", file=sys.stderr)
  else:
    sys.__excepthook__(kind, error, traceback)


def _explain_missing(error):
  """Returns what to do about a ModuleNotFoundError."""
  version = "{}.{}".format(*sys.version_info)
  sentence = f"the package {error.name} is not installed for {sys.executable} "
  sentence += f"(Python {version}). "
  if os.path.basename(sys.prefix) == ".venv":
    return sentence + (
      "Run scripts/setup_venv.sh to install what is missing. If nothing is "
      "missing, rename .venv, and run the script again."
    )
  return sentence + (
    "Run scripts/setup_venv.sh, which needs Python 3.10 to 3.13 and creates a "
    ".venv with all packages. Then start the command with .venv/bin/python."
  )
