"""Tests of command.py: how every command ends."""

import signal
import subprocess
import sys
import time

import pytest

import command

ROOT = command.__file__.rpartition("/")[0]


def run_body(body, *args):
  """Starts a process whose command does `body`; returns the Popen."""
  code = f"import sys; sys.path.insert(0, {ROOT!r})\n" + (
    "import command, os, time\n"
    f"{body}\n"
    "sys.exit(command.run('try.py', [''], body))\n"
  )
  return subprocess.Popen(
    [sys.executable, "-c", code, *args],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
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


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_within_a_destructor_is_not_lost(signum):
  with run_body(LOSES) as process:
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signum)
    out, err = process.communicate(timeout=50)
  assert (process.returncode, out) == (128 + signum, "")
  assert err == ("Interrupted.\n" if signum == signal.SIGINT else "")


def test_a_hangup_ends_it_unless_it_is_ignored():
  body = "def body():\n  print('ready', flush=True)\n  time.sleep({})\n"
  with run_body(body.format(60)) as process:
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    assert process.wait(50) == 129
  ignores = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
  with run_body(ignores + body.format(1)) as process:
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    time.sleep(0.1)
    assert process.wait(50) == 0


@pytest.mark.parametrize(
  ("error", "status", "message"),
  [
    (command.InputError("Mend it."), 1, "try.py: Mend it.\n"),
    (PermissionError(13, "Permission denied", "/a"), 1,
     "try.py: /a: Permission denied.\n"),
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
