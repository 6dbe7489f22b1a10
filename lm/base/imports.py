"""What a command says if a package that it imports is missing.

Each command calls `explain_missing` before it imports anything else. So this
needs only Python itself.
"""

import os
import sys


def explain_missing():
  """Lets this process end with a sentence if it cannot import a package."""
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
  sentence = f"the package {error.name} is not installed for {sys.executable} "
  sentence += f"(Python {version}). "
  if os.path.basename(sys.prefix) == ".venv":
    return sentence + (
      "scripts/setup_venv.sh installs what is missing. If it finds nothing, "
      "give .venv another name, and it makes a new one."
    )
  return sentence + (
    "scripts/train.sh and scripts/setup_venv.sh make .venv with all packages, "
    "given a Python 3.10 to 3.13: then start the command by .venv/bin/python."
  )
