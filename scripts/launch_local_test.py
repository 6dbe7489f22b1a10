"""Tests of launch_local.py; most start a stand-in for ptb_word_lm.py."""

import collections
import contextlib
import ctypes
import errno
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import launch_local
import pytest

from conftest import TINY

SCRIPT = pathlib.Path(launch_local.__file__)
LAUNCH = """
import launch_local, pathlib, sys
launch_local.ROOT = pathlib.Path(sys.argv.pop(1))
launch_local.SECONDS_TO_END = 0.5
sys.exit(launch_local.main())
"""
WORKER = """
import json, os, signal, socket, sys, time
config = json.loads(os.environ["TF_CONFIG"])
index, addresses = config["task"]["index"], config["cluster"]["worker"]
def tell(text):
  os.write(2, f"{text}\\n".encode())  # Complete lines: others write there too.
def stop(signum, frame):
  tell(f"got {signum}")
  sys.exit(128 + signum)
for signum in (signal.SIGINT, signal.SIGTERM):
  signal.signal(signum, stop)
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
"""


CODE = "import launch_local; launch_local.enter_own_network()"
ENTERED = subprocess.run(
  [sys.executable, "-c", CODE], cwd=SCRIPT.parent, capture_output=True
)
needs_own_network = pytest.mark.skipif(
  ENTERED.returncode != 0, reason="this system gives no network of its own"
)


@pytest.fixture
def launch(tmp_path):
  """A function: starts launch_local.py where ptb_word_lm.py does `body`."""

  @contextlib.contextmanager
  def start(body, *args, **env):
    (tmp_path / "ptb_word_lm.py").write_text(WORKER + body)
    process = subprocess.Popen(
      [sys.executable, "-c", LAUNCH, tmp_path, *args],
      env={**os.environ, "PYTHONPATH": str(SCRIPT.parent), **env},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    with process:
      try:
        yield process
      finally:
        process.kill()

  return start


def test_each_worker_is_told_who_it_is(launch):
  body = """
print(json.dumps([config, os.environ["CUDA_VISIBLE_DEVICES"], sys.argv[1:]]))
tell(f"{index} of {len(addresses)}")
lines = 5000 if index else 1  # Over 64 KiB through the launcher.
tell(f"GPU {os.environ['CUDA_VISIBLE_DEVICES']}\\n" * lines)
"""
  flags = ["--data_path", "x y", "--verbosity=1", "--model", "small", "-v"]
  args = [*flags[:2], "--open_ports", *flags[2:4], "-n", "3", *flags[4:]]
  with launch(body, *args, "--gpus", CUDA_VISIBLE_DEVICES="4,6,8") as process:
    out, err = process.communicate(timeout=60)
  assert process.returncode == 0
  config, gpu, worker_args = json.loads(out)  # Only worker 0 prints.
  assert (gpu, worker_args) == ("4", [*flags, "--num_gpus=1"])
  assert config["task"] == {"type": "worker", "index": 0}
  hosts = {address.split(":")[0] for address in config["cluster"]["worker"]}
  assert len(set(config["cluster"]["worker"])) == 3 and hosts == {"127.0.0.1"}
  counts = collections.Counter(err.splitlines())
  assert counts["0 of 3"] == counts["worker 2: 2 of 3"] == 1
  assert counts["GPU 4"] == 1 and counts["worker 1: GPU 6"] == 5000


@needs_own_network
def test_nobody_else_reaches_the_workers(launch):
  body = """
host, port = addresses[index].split(":")
server = socket.create_server(("0.0.0.0", int(port)))
print(port, flush=True)
for address in addresses:  # All of them reach each other.
  other = address.split(":")
  while socket.socket().connect_ex((other[0], int(other[1]))):
    time.sleep(0.01)
print("met", flush=True)
while True:
  server.accept()[0].sendall(b"a worker")
"""

  def answer():
    with contextlib.suppress(OSError), socket.socket() as sock:
      sock.settimeout(5)  # Somebody else may have a port of this number.
      sock.connect(("127.0.0.1", port))
      return sock.recv(8)

  for flags, expected in ((["--open_ports"], True), ([], False)):
    with launch(body, "-n", "2", *flags) as process:
      port = int(process.stdout.readline())
      assert process.stdout.readline() == "met\n"
      assert (answer() == b"a worker") == expected
      process.terminate()
      assert process.wait(60) == 143


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_each_worker_once(launch, signum):
  body = "tell('ready')\ntime.sleep(60)\n"
  with launch(body, "-n", "2", "--open_ports") as process:
    lines = sorted(process.stderr.readline() for _ in range(2))
    assert lines == ["ready\n", "worker 1: ready\n"]
    process.send_signal(signum)
    assert process.wait(60) == 128 + signum
    got = f"got {int(signum)}\n"
    assert sorted(process.stderr) == [got, f"worker 1: {got}"]


def test_a_signal_while_workers_start(launch):
  with launch("time.sleep(60)", "-n", "4", "--open_ports") as process:
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not children.read_text():
      time.sleep(0.001)
    process.terminate()
    out, err = process.communicate(timeout=30)
  assert process.returncode == 143 and "Traceback" not in out + err


@pytest.mark.parametrize(
  ("end", "status"),
  [("sys.exit(3)", 3), ("os.kill(os.getpid(), signal.SIGKILL)", 137)],
)
def test_one_that_fails_ends_all(launch, end, status):
  body = f"{end} if index else time.sleep(60)\n"
  with launch(body, "-n", "2", "--open_ports") as process:
    assert process.wait(30) == status


@pytest.mark.parametrize(
  ("max_restarts", "end", "starts", "status"),
  [
    (3, "os.kill(os.getpid(), signal.SIGKILL)", 3, 0),
    (1, "os.kill(os.getpid(), signal.SIGSEGV)", 2, 139),
    (3, "sys.exit(1)", 1, 1),
  ],
)
def test_it_restarts_what_was_killed(
  launch, tmp_path, max_restarts, end, starts, status
):
  """The second worker fails in its first two starts."""
  body = f"""
with open(sys.argv[1], "a") as file:
  file.write(f"{{index}} {{addresses}}\\n")
if index and sum(line[0] == "1" for line in open(sys.argv[1])) < 3:
  {end}
time.sleep(0.1)
"""
  args = [str(tmp_path / "log"), "-n", "2", f"--max_restarts={max_restarts}"]
  with launch(body, *args, "--open_ports") as process:
    _, err = process.communicate(timeout=60)
  assert process.returncode == status
  log = (tmp_path / "log").read_text().splitlines()
  assert sum(line.startswith("1") for line in log) == starts
  assert len({line[2:] for line in log}) == starts  # With new ports each time.
  assert err.count("launch_local.py: a worker was killed by") == starts - 1


def test_a_signal_stops_it_for_good(launch):
  body = """
tell("ready")
signal.signal(signal.SIGTERM, signal.SIG_DFL)
time.sleep(60)
"""
  args = ["-n", "2", "--open_ports", "--max_restarts=9"]
  with launch(body, *args) as process:
    for _ in range(2):
      process.stderr.readline()
    time.sleep(0.1)
    process.terminate()
    assert process.wait(60) == 143 and process.stderr.read() == ""


def test_workers_do_not_outlive_the_launcher(launch):
  body = "tell(os.getpid())\ntime.sleep(60)\n"
  with launch(body, "-n", "2", "--open_ports") as process:
    lines = [process.stderr.readline() for _ in range(2)]
    process.kill()
  end = time.monotonic() + 20
  for line in lines:
    while pathlib.Path("/proc", line.split()[-1]).exists():
      assert time.monotonic() < end
      time.sleep(0.01)


@pytest.mark.parametrize(
  ("args", "told"),
  [
    ([], "-n is missing"),
    (["-n", "two"], "two"),
    (["-n", "1000000"], "1000000 is not an integer in the range [1, "),
    (["-n", "2", "--gpus"], "CUDA_VISIBLE_DEVICES lists fewer GPUs"),
    (["-n", "2"], "(Operation not permitted). If only people you trust"),
  ],
)
def test_nothing_starts(args, told, monkeypatch, capsys):
  class Library:  # In place of the C library.
    def unshare(self, flags):
      ctypes.set_errno(errno.EPERM)
      return -1

  monkeypatch.setattr(launch_local.ctypes, "CDLL", lambda *_, **__: Library())
  monkeypatch.delattr(subprocess, "Popen")
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
  assert launch_local.main(["launch_local.py", *args]) == 1
  err = capsys.readouterr().err
  assert err.startswith("launch_local.py: ") and err.count("\n") == 1
  assert told in err


def test_cores_are_shared_out(monkeypatch):
  cores = {1, 3, 5, 7, 9}
  monkeypatch.setattr(launch_local.os, "sched_getaffinity", lambda pid: cores)
  assert [launch_local.cores_of(i, 2) for i in (0, 1)] == [[1, 3], [5, 7, 9]]
  assert launch_local.cores_of(0, 6) == [1, 3, 5, 7, 9]


@needs_own_network
def test_it_trains(tmp_path):
  flags = ["--model=test", "--hparams=num_steps=20", f"--data_path={TINY}"]
  flags += [f"--save_path={tmp_path}", "--max_restarts=1"]
  process = subprocess.run(
    [SCRIPT.with_suffix(".sh"), "-n", "2", *flags],
    capture_output=True,
    text=True,
  )
  assert process.returncode == 0, process.stderr
  result = json.loads((tmp_path / "result.json").read_text())
  assert process.stdout.count("Test Perplexity: ") == 1
  perplexity = f"{result['test_perplexity']:.3f}"
  assert process.stdout.endswith(f"\nTest Perplexity: {perplexity}\n")
