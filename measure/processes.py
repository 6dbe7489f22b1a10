"""Starts the project's programs in processes of their own."""

import pathlib
import subprocess
import sys

from lm.base.command import InputError

ROOT = pathlib.Path(__file__).resolve().parent.parent


def command_line(script, *args):
  """Returns the command line of a program; `script` is its path in ROOT."""
  return [sys.executable, str(ROOT / script), *map(str, args)]


def start(script, *args, **options):
  """Starts a program; returns its Popen. The options are those of Popen."""
  return subprocess.Popen(
    command_line(script, *args),
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    **options,
  )


def finish(process):
  """Waits for the end of a process from `start`; returns its output.

  Raises InputError with the last line of its stderr if it failed.
  """
  out, err = process.communicate()
  if process.returncode:
    lines = err.strip().splitlines() or ["No message."]
    name = pathlib.Path(process.args[1]).name
    raise InputError(
      f"{name} ended with status {process.returncode}: {lines[-1]}"
    )
  return out


def run(script, *args, **options):
  """Runs a program to its end; returns its output. See `start`, `finish`."""
  with start(script, *args, **options) as process:
    return finish(process)
