"""Tests of command.py and signals.py: how every command ends."""

import importlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
from absl import flags

from lm.base import command, imports, tf1

ROOT = pathlib.Path(__file__).parents[2]


def start(body, before="", stdout=subprocess.PIPE):
  """Starts a process whose command does `body`; returns the Popen."""
  lines = "".join(f"  {line}\n" for line in body.splitlines())
  code = (
    "import os, signal, sys, time\n"
    "from lm.base import command, files, signals\n"
    f"{before}\n"
    "@command.entry_point('try.py')\n"
    f"def main(args):\n{lines}"
    "sys.exit(main())\n"
  )
  # Python's own buffering, whatever the shell has set.
  env = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
  return subprocess.Popen(
    [sys.executable, "-c", code],
    cwd=ROOT,
    stdin=subprocess.PIPE,
    stdout=stdout,
    stderr=subprocess.PIPE,
    text=True,
    env=env,
  )


def run(body, **options):
  """Runs a command that does `body` in this process; returns its status."""
  main = command.entry_point("try.py", **options)(lambda args: body())
  return main(["try.py"])


def test_paths_can_start_with_a_tilde(monkeypatch):
  monkeypatch.setenv("HOME", "/home/me")
  paths = []
  main = command.entry_point(
    "try.py", lambda define: define.path("file", None, "A path.")
  )(lambda args: paths.append(args.file))
  for argv in (["--file=~/a~"], ["--file", "~"], ["--file=a/~"], []):
    main(["try.py", *argv])
  assert paths == ["/home/me/a~", "/home/me", "a/~", None]


def test_every_flag_for_a_file_or_folder_is_a_path():
  text = re.compile(r"\bfiles?\b|\bfolders?\b|\bpath\b|\bUTF-8\b")
  for name in ("ptb_word_lm", "score", "generate", "export", "prepare_text"):
    args = flags.FlagValues()
    importlib.import_module(name).define_flags(command.Define(args))
    for flag in args:
      is_path = isinstance(args[flag].parser, command._PathParser)
      # A run is a list of paths; language_model_test.py tests it.
      if flag != "run" and text.search(args[flag].help):
        assert is_path, flag


@pytest.mark.parametrize(("how", "status"), [("SIG_DFL", 129), ("SIG_IGN", 0)])
def test_a_hangup_ends_it_unless_it_is_ignored(how, status):
  before = f"signal.signal(signal.SIGHUP, signal.{how})"
  body = "print('ready', flush=True)\nsys.stdin.read()"
  with start(body, before) as process:
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    if how == "SIG_IGN":
      process.stdin.close()
    assert process.wait(300) == status


def test_the_second_signal_ends_a_loop_at_once():
  body = """
with signals.StopRequest() as stop:
  print("ready", flush=True)
  while not stop:
    time.sleep(0.01)
  print("stopping", stop.signum, flush=True)
  time.sleep(60)
"""
  with start(body) as process:
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == f"stopping {signal.SIGTERM:d}\n"
    process.send_signal(signal.SIGINT)  # Too early: it counts as the first.
    time.sleep(1.2)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(300) == -signal.SIGTERM  # A shell calls this 143.
    assert process.stderr.read() == ""


@pytest.mark.parametrize("other", [signal.SIGINT, signal.SIGTERM])
def test_two_signals_at_once_interrupt_no_clean_up(tmp_path, other):
  body = f"""
with files.new_folder("{tmp_path}/new", "--output") as made:
  print("ready", flush=True)
  time.sleep(60)
"""
  slow_clean_up = """
import shutil
def rmtree(path, ignore_errors):
  time.sleep(0.5)
  os.rmdir(path)
shutil.rmtree = rmtree
"""
  with start(body, slow_clean_up) as process:
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    for _ in range(20):
      process.send_signal(other)
      time.sleep(0.002)
    assert process.wait(300) == 128 + signal.SIGINT
    assert process.stderr.read() == "Interrupted.\n"
  assert not list(tmp_path.iterdir())


# Short output fails when it is flushed at the end, long output before that.
@pytest.mark.parametrize("lines", [1, 100_000])
def test_output_that_nobody_reads(lines):
  body = f"for _ in range({lines}): print('out')"
  with (
    open("/dev/full", "w") as full,
    start(body, stdout=full) as process,
  ):
    told = "try.py: No space left on device.\n"
    assert process.stderr.read() == told
  assert process.returncode == 1
  with start(f"sys.stdin.read()\n{body}") as process:
    process.stdout.close()  # As "| head" does.
    process.stdin.close()
    assert process.stderr.read() == ""
  assert process.returncode == 1


@pytest.mark.parametrize(
  ("error", "status", "message"),
  [
    (command.InputError("Fix it."), 1, "try.py: Fix it.\n"),
    (PermissionError(13, "Permission denied", "/a"), 1,
     "try.py: /a: Permission denied.\n"),
    (OSError(28, "No space left"), 1, "try.py: No space left.\n"),
    (OSError("No space left"), 1, "try.py: No space left.\n"),
    (OSError(), 1, "try.py: OSError.\n"),
    (MemoryError(), 1, "try.py: Less.\n"),
    (KeyboardInterrupt(), 130, "Interrupted.\n"),
  ],
)  # fmt: skip
def test_errors_become_a_sentence(capfd, error, status, message):
  def body():
    raise error

  before = signal.getsignal(signal.SIGTERM)
  assert run(body, too_large="Less.") == status
  assert capfd.readouterr() == ("", message)
  assert signal.getsignal(signal.SIGTERM) == before
  with pytest.raises(ZeroDivisionError):  # A bug of ours is not hidden.
    run(lambda: 1 / 0)


@pytest.mark.parametrize(
  ("kind", "text", "message"),
  [
    ("ResourceExhausted", "OOM when allocating tensor", "Less."),
    ("Internal", "Failed to allocate: CUDA_ERROR_OUT_OF_MEMORY", "Less."),
    ("Unknown", "CUDNN_STATUS_ALLOC_FAILED", "Less."),
    (
      "Internal",
      "Graph execution error:\nNode: x\nDnn: CUDNN_STATUS_NOT_READY.\n"
      "\t [[{{node x}}]]",
      "The GPU failed: Dnn: CUDNN_STATUS_NOT_READY. To compute on the CPU, set "
      "CUDA_VISIBLE_DEVICES=-1 in the environment.",
    ),
  ],
)
def test_what_a_gpu_raises_becomes_a_sentence(capfd, kind, text, message):
  def body():
    raise getattr(tf1.errors, f"{kind}Error")(None, None, text)

  assert run(body, too_large="Less.") == 1
  assert capfd.readouterr() == ("", f"try.py: {message}\n")


@pytest.mark.parametrize(
  "text", ["oneDNN primitive failed", "/data/GPU/x is missing", "FOCUS_X"]
)
def test_other_errors_are_not_taken_for_those_of_a_gpu(text):
  def body():
    raise tf1.errors.InternalError(None, None, text)

  with pytest.raises(tf1.errors.InternalError):
    run(body)


def test_packages_that_are_missing_or_damaged(capfd):
  def body():
    raise error

  error = ImportError("wrong")
  assert run(body) == 1
  told = "try.py: a package cannot be loaded: wrong. "
  assert capfd.readouterr().err.startswith(told)
  error = ModuleNotFoundError("No module named 'h5py'", name="h5py")
  with pytest.raises(ModuleNotFoundError):
    run(body)
  imports._report(type(error), error, None)
  told = ": the package h5py is not installed for "
  assert told in capfd.readouterr().err


def test_ctrl_c_while_modules_are_imported():
  code = """
import os, signal, time
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # By launch_local.py.
os.kill(os.getpid(), signal.SIGINT)
from lm.base import imports
imports.report_failures()
time.sleep(9)
"""
  process = subprocess.run(
    [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
  )
  assert process.returncode == 128 + signal.SIGINT
  assert (process.stdout, process.stderr) == ("", "Interrupted.\n")


def test_numbers_get_the_right_noun():
  texts = [command.counted(number, "word") for number in (0, 1, 2000)]
  assert texts == ["0 words", "1 word", "2,000 words"]


def define_flags(define):
  define.integer("number", 1, "A number.", 0)
  define.multi_string("name", [], "Names.")
  define.boolean("quiet", False, "Print less.")
  define.validator("number", lambda n: n != 7, "must not be 7.")


@command.entry_point(
  "try.py", define_flags, arguments=1, advice_for={"hparam": "Try x."}.get
)
def try_it(args, *others):
  print(args.number, args.name, *others)
  return args.number


def test_a_command_is_called_again_and_again(capfd):
  before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
  defined = {*flags.FLAGS}
  for argv, status, out in (
    (["--number=3", "--name=a", "--name=b", "x"], 3, "3 ['a', 'b'] x\n"),
    ([], 1, "1 []\n"),
    (["--number=0"], 0, "0 []\n"),
  ):
    assert try_it(["try.py", *argv]) == status
    assert capfd.readouterr() == (out, "")
  assert {*flags.FLAGS} == defined
  assert before == [
    signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)
  ]


@pytest.mark.parametrize(
  ("argv", "message"),
  [
    (["x", "y"], "'y' is not a flag. --help lists the flags."),
    (["--numbr=1"], "Unknown command line flag 'numbr'. Did you mean: number"),
    (["--hparam=1"], "Unknown command line flag 'hparam'. Try x."),
    (
      ["--number=-1"],
      "flag --number=-1: -1 is not a non-negative integer. ",
    ),
    (["--quiet=yes"], "flag --quiet=yes: value should be true or false. --he"),
    (["--number=7"], "flag --number=7: must not be 7. --help lists the flags."),
  ],
)
def test_wrong_flags(capfd, argv, message):
  assert try_it(["try.py", *argv]) == 1
  out, err = capfd.readouterr()
  assert out == "" and err.count("\n") == 1
  assert err.startswith(f"try.py: {message}")


def test_help(capfd):
  for flag in ("--help", "-h"):
    assert try_it(["try.py", flag]) == 0
    out, err = capfd.readouterr()
    assert __doc__ in out and "--number: A number." in out and not err


@pytest.mark.parametrize("name", ["ptb_word_lm.py", "score.py"])
def test_help_for_a_reader_that_leaves(name):
  read, write = os.pipe()
  os.close(read)
  args = [sys.executable, ROOT / name, "--help"]
  process = subprocess.run(args, stdout=write, stderr=subprocess.PIPE)
  os.close(write)
  assert (process.returncode, process.stderr) == (1, b"")
