"""Tests of launch_local.py; most start a stand-in for ptb_word_lm.py."""

import contextlib
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

WORKER = """
import json, os, pathlib, signal, socket, sys, time
config = json.loads(os.environ["TF_CONFIG"])
index, addresses = config["task"]["index"], config["cluster"]["worker"]
def tell(text):
  os.write(2, f"{text}\\n".encode())  # Whole lines: others write there, too.
def told(signum, frame):
  tell(f"got {signum}")
  sys.exit(128 + signum)
for signum in (signal.SIGINT, signal.SIGTERM):
  signal.signal(signum, told)
"""


def can_enter_own_network():
  code = "import launch_local; launch_local.enter_own_network()"
  process = subprocess.run(
    [sys.executable, "-c", code],
    cwd=pathlib.Path(launch_local.__file__).parent,
    capture_output=True,
  )
  return process.returncode == 0


needs_own_network = pytest.mark.skipif(
  not can_enter_own_network(), reason="this system gives no network of its own"
)


@pytest.fixture
def launch(tmp_path):
  """A function: starts launch_local.py where ptb_word_lm.py does `body`."""
  (tmp_path / "scripts").mkdir()
  script = tmp_path / "scripts" / "launch_local.py"
  code = pathlib.Path(launch_local.__file__).read_text()

  @contextlib.contextmanager
  def start(body, *args, patient=True):
    (tmp_path / "ptb_word_lm.py").write_text(WORKER + body)
    seconds = "SECONDS_TO_END = 45"
    assert seconds in code
    script.write_text(
      code if patient else code.replace(seconds, "SECONDS_TO_END = 0.5")
    )
    process = subprocess.Popen(
      [sys.executable, script, *args],
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
print(json.dumps([config, sys.argv[1:]]))
tell(f"{index} of {len(addresses)}")
"""
  flags = ["--data_path=x y", "--model", "small"]
  with launch(body, "-n", "3", "--open_ports", *flags) as process:
    out, err = process.communicate(timeout=60)
  assert process.returncode == 0
  config, found = json.loads(out)  # Nobody but the first prints.
  assert found == flags
  assert config["task"] == {"type": "worker", "index": 0}
  addresses = config["cluster"]["worker"]
  assert len(set(addresses)) == 3
  assert all(address.startswith("127.0.0.1:") for address in addresses)
  assert sorted(err.splitlines()) == [
    "0 of 3",
    "worker 1: 1 of 3",
    "worker 2: 2 of 3",
  ]


def test_the_last_that_a_worker_tells_is_printed(launch):
  body = "if index:\n  print('word\\n' * 5000, end='', file=sys.stderr)\n"
  with launch(body, "-n", "2", "--open_ports") as process:
    time.sleep(1)  # What it prints does not fit into the pipe.
    _, err = process.communicate(timeout=60)
  assert process.returncode == 0
  assert err == "worker 1: word\n" * 5000


@needs_own_network
def test_nobody_else_reaches_the_workers(launch):
  body = """
port = int(addresses[index].split(":")[1])
server = socket.create_server(("0.0.0.0", port))
print(port, flush=True)
for address in addresses:  # All of them reach each other.
  host, _, other = address.partition(":")
  while True:
    try:
      socket.create_connection((host, int(other))).close()
      break
    except ConnectionRefusedError:
      time.sleep(0.01)
print("met", flush=True)
time.sleep(60)
"""
  with launch(body, "-n", "2") as process:
    port = int(process.stdout.readline())
    assert process.stdout.readline() == "met\n"
    with pytest.raises(ConnectionRefusedError):
      socket.create_connection(("127.0.0.1", port))
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
  body = "tell('ready')\ntime.sleep(60)\n"
  for workers_up in (1, 2):
    with launch(body, "-n", "4", "--open_ports") as process:
      children = f"/proc/{process.pid}/task/{process.pid}/children"
      while len(pathlib.Path(children).read_text().split()) < workers_up:
        time.sleep(0.001)
      process.send_signal(signal.SIGTERM)
      out, err = process.communicate(timeout=30)
    assert process.returncode == 143
    assert out == "" and "Traceback" not in err


def test_far_too_many_workers(launch):
  cores = len(os.sched_getaffinity(0))
  with launch("", "-n", str(4 * cores + 1)) as process:
    _, err = process.communicate(timeout=30)
  assert process.returncode == 2
  assert f"-n may be {4 * cores} at most." in err


def test_one_that_fails_ends_all(launch):
  body = "sys.exit(3) if index else time.sleep(60)\n"
  with launch(body, "-n", "2", "--open_ports", patient=False) as process:
    assert process.wait(30) == 3


def test_a_killed_worker_is_a_failure(launch):
  body = "os.kill(os.getpid(), signal.SIGKILL) if index else time.sleep(1)\n"
  with launch(body, "-n", "2", "--open_ports") as process:
    assert process.wait(30) == 137


def test_workers_do_not_outlive_it(launch):
  body = """
print(os.getpid(), flush=True, file=sys.stderr)
time.sleep(60)
"""
  with launch(body, "-n", "2", "--open_ports") as process:
    lines = [process.stderr.readline() for _ in range(2)]
    process.kill()
  pids = [int(line.split()[-1]) for line in lines]
  end = time.monotonic() + 20
  while any(pathlib.Path(f"/proc/{pid}").exists() for pid in pids):
    assert time.monotonic() < end
    time.sleep(0.01)


def test_without_a_network_of_their_own_nothing_starts(monkeypatch, capsys):
  def refuse(what):
    launch_local.ctypes.set_errno(errno.EPERM)
    return False

  monkeypatch.setattr(launch_local, "_unshare", refuse)
  assert launch_local.main(["-n", "2"]) == 1
  assert capsys.readouterr().err == (
    "launch_local.py: This system gives the workers no network of their own "
    "(Operation not permitted). If nobody can reach this machine who should "
    "not, add --open_ports.\n"
  )


@pytest.mark.parametrize("args", [[], ["-n", "0"], ["-n", "two"]])
def test_how_many_must_be_said(args, capsys):
  with pytest.raises(SystemExit) as raised:
    launch_local.main(args)
  assert raised.value.code == 2
  assert "-n" in capsys.readouterr().err


def test_fewer_gpus_than_workers(monkeypatch, capsys):
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
  with pytest.raises(SystemExit) as raised:
    launch_local.main(["-n", "2", "--gpus"])
  assert raised.value.code == 2
  assert "CUDA_VISIBLE_DEVICES=3 are fewer GPUs than -n" in (
    capsys.readouterr().err
  )


def test_cores_and_gpus_are_shared_out(monkeypatch):
  monkeypatch.setattr(
    launch_local.os, "sched_getaffinity", lambda pid: {1, 3, 5, 7, 9}
  )
  cores = [launch_local.cores_of(index, 2) for index in range(2)]
  assert cores == [[1, 3], [5, 7, 9]]
  assert launch_local.cores_of(0, 6) == [1, 3, 5, 7, 9]
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
  assert launch_local.gpu_names(2) == ["4", "6"]
  monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
  assert launch_local.gpu_names(2) == ["0", "1"]


@needs_own_network
def test_it_trains(tmp_path):
  script = pathlib.Path(launch_local.__file__).with_name("launch_local.sh")
  process = subprocess.run(
    [
      script,
      "-n",
      "2",
      f"--data_path={TINY}",
      "--model=test",
      "--hparams=num_steps=20",
      f"--save_path={tmp_path}",
    ],
    capture_output=True,
    text=True,
    timeout=100,
  )
  assert process.returncode == 0
  lines = process.stdout.splitlines()
  assert [line.startswith("Test Perplexity: ") for line in lines[-2:]] == [0, 1]
  result = json.loads((tmp_path / "result.json").read_text())
  assert f"Test Perplexity: {result['test_perplexity']:.3f}" == lines[-1]
