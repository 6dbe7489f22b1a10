"""Tests of command.py: how every command ends."""

import os
import signal
import subprocess
import sys
import time

import pytest

from lm import command

ROOT = command.__file__.rpartition("/")[0]


def run_body(body, stdout=subprocess.PIPE, **environment):
  """Starts a process whose command does `body`; returns the Popen."""
  code = f"import sys; sys.path.insert(0, {ROOT!r})\n" + (
    "import command, os, time\n"
    f"{body}\n"
    "sys.exit(command.run('try.py', [''], body))\n"
  )
  # Python's own buffering, whatever the shell has set.
  kept = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
  return subprocess.Popen(
    [sys.executable, "-c", code],
    stdout=stdout,
    stderr=subprocess.PIPE,
    text=True,
    env={**kept, **environment},
  )


LOSES = """
class Loses:
  def __del__(self):
    print("ready", flush=True)
    time.sleep(60)
    print("lost")
def body():
  thing = Loses()
  del thing
  time.sleep(60)
"""


SLOW_START = """
import threading
class Slow(threading.Timer):
  count = 0
  def start(self):
    super().start()
    Slow.count += 1
    if Slow.count < 3: time.sleep(0.5)  # The signal comes within the hook.
threading.Timer = Slow
"""


@pytest.mark.parametrize("before", ["", SLOW_START])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_within_a_destructor_is_not_lost(signum, before):
  with run_body(before + LOSES) as process:
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signum)
    out, err = process.communicate(timeout=50)
  assert (process.returncode, out) == (128 + signum, "")
  assert err == ("Interrupted.\n" if signum == signal.SIGINT else "")


def test_a_hangup_ends_it_unless_it_is_ignored():
  body = "def body():\n  print('ready', flush=True)\n  time.sleep({})\n"
  heeds = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
  with run_body(heeds + body.format(60)) as process:
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    assert process.wait(50) == 129
  ignores = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
  with run_body(ignores + body.format(1)) as process:
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    time.sleep(0.1)
    assert process.wait(50) == 0


# What fits into a buffer fails when it is flushed, at the end; more, before.
@pytest.mark.parametrize("lines", [1, 100_000])
def test_output_that_nobody_takes(lines):
  body = f"def body():\n  for _ in range({lines}): print('out')\n"
  with (
    open("/dev/full", "w") as full,
    run_body(body, stdout=full) as process,
  ):
    assert process.stderr.read() == (
      "try.py: cannot print: No space left on device.\n"
    )
  assert process.returncode == 1
  with run_body("time.sleep(0.5)\n" + body) as process:
    process.stdout.close()  # As "| head" does.
    assert process.stderr.read() == ""
  assert process.returncode == 1


def test_output_that_cannot_be_encoded():
  body = "def body():\n  print('caf\\u00e9')\n"
  with run_body(body, PYTHONIOENCODING="ascii") as process:
    assert process.stderr.read() == (
      "try.py: cannot print '\\xe9' in ascii: set PYTHONIOENCODING=utf-8.\n"
    )
  assert process.returncode == 1


@pytest.mark.parametrize(
  ("error", "status", "message"),
  [
    (command.InputError("Mend it."), 1, "try.py: Mend it.\n"),
    (PermissionError(13, "Permission denied", "/a"), 1,
     "try.py: /a: Permission denied.\n"),
    (OSError(21, "Is a directory", "/a.part", None, "/a"), 1,
     "try.py: /a: Is a directory.\n"),
    (OSError(28, "No space left"), 1, "try.py: cannot print: No space left.\n"),
    (MemoryError(), 1, "try.py: The model does not fit into memory. Less.\n"),
    (KeyboardInterrupt(), 130, "Interrupted.\n"),
  ],
)  # fmt: skip
def test_errors_become_a_sentence(monkeypatch, capfd, error, status, message):
  def body():
    raise error

  monkeypatch.setattr(command.os, "dup2", lambda *args: None)
  before = signal.getsignal(signal.SIGTERM)
  assert command.run("try.py", [""], body, too_large="Less.") == status
  assert capfd.readouterr() == ("", message)
  assert signal.getsignal(signal.SIGTERM) == before
  with pytest.raises(ZeroDivisionError):  # Ours to mend: not hidden.
    command.run("try.py", [""], lambda: 1 / 0)


def test_an_argument_that_is_no_flag(capfd):
  assert command.run("try.py", ["try.py", "x"], None) == 2
  told = "try.py: 'x' is not a flag; --help lists them.\n"
  assert capfd.readouterr() == ("", told)
