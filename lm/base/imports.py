"""Explains to users which package is missing, and how to install it.

Each command calls `explain_missing` before it imports anything else, so this
module imports only what comes with Python.
"""

import os
import sys


def explain_missing():
  """Makes a missing package end this process with a sentence."""
  sys.excepthook = _report


def _report(kind, error, traceback):
  """Prints an uncaught exception: a sentence if a package is missing."""
  if isinstance(error, ModuleNotFoundError):
    command = os.path.basename(sys.argv[0])
    print(f"{command}: {sentence_for(error)}", file=sys.stderr)
  else:
    sys.__excepthook__(kind, error, traceback)


def sentence_for(error):
  """Returns what to do about a ModuleNotFoundError."""
  version = "{}.{}".format(*sys.version_info)
  sentence = f"the package {error.name} is not installed for {sys.executable} "
  sentence += f"(Python {version}). "
  if os.path.basename(sys.prefix) == ".venv":
    return sentence + (
      "scripts/setup_venv.sh installs what is missing. If it finds nothing "
      "missing, rename .venv, and it makes a new one."
    )
  return sentence + (
    "With Python 3.10 to 3.13, scripts/setup_venv.sh makes a .venv that has "
    "all packages: then start the command with .venv/bin/python."
  )
