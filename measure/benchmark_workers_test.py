"""Tests of benchmark_workers.py, on a model so small that it takes seconds."""

import json
import shutil
import socket
import subprocess
import sys
import time

import benchmark_workers
import pytest
from launch_local_test import needs_own_network


@needs_own_network
def test_workers_are_measured():
  args = ["--models=test", "--batches=2", "--workers=2", "--steps=4"]
  if shutil.which("tc"):
    args.append("--gbits=1")
  done = subprocess.run(
    [sys.executable, benchmark_workers.__file__, *args, "--delays=2"],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0 and "Traceback" not in done.stderr
  found = json.loads(done.stdout)
  assert (found["workers"], found["delay_ms"]) == (2, 2)
  assert found["compute_ms"] > 0 and found["ms"] > 4  # There and back.
  # Of two workers each sends half of its gradient, and half of the sum.
  assert found["mbytes"] == pytest.approx(found["gradient_mbytes"], rel=0.1)


def test_a_worker_fails():
  task = {"model": "test", "batch_size": 1, "steps": 1, "exchanges": False}
  with pytest.raises(SystemExit, match="A worker failed"):
    benchmark_workers.together(2, {**task, "fp16": False}, 0)


def test_a_relay_delays_both_ways():
  with socket.create_server(("127.0.0.1", 0)) as server:
    host, port = server.getsockname()
    near = benchmark_workers.relay(f"{host}:{port}", 0.05).split(":")
    with socket.create_connection((near[0], int(near[1]))) as client:
      other, _ = server.accept()
      start = time.monotonic()
      client.sendall(b"there")
      assert other.recv(5) == b"there"
      other.sendall(b"back")
      assert client.recv(4) == b"back"
      assert time.monotonic() - start >= 0.1
      other.close()
      assert client.recv(1) == b""


@pytest.mark.parametrize(
  ("args", "told"),
  [
    (["--models=tiny"], "--models=tiny is none of small, medium, large, test."),
    (["--workers=0"], "--workers must be 1 or more, and no more than"),
    (["--workers=3", "--batches=2"], "and no more than --batches has rows."),
    (["--steps=0"], "--steps 1 or more."),
    (["--delays=-1"], "--gbits and --delays must be 0 or more"),
  ],
)
def test_what_cannot_be_measured(args, told, capsys):
  with pytest.raises(SystemExit) as error:
    benchmark_workers.main(args)
  assert error.value.code == 2
  assert told in capsys.readouterr().err


def test_without_tc(monkeypatch, capsys):
  monkeypatch.setenv("PATH", "")
  with pytest.raises(SystemExit) as error:
    benchmark_workers.main(["--gbits=1"])
  assert error.value.code == 2
  assert "--gbits needs the command tc" in capsys.readouterr().err


def test_without_a_network_of_its_own(monkeypatch):
  def refuse():
    raise PermissionError(1, "Operation not permitted")

  monkeypatch.setattr(
    benchmark_workers.launch_local, "enter_own_network", refuse
  )
  with pytest.raises(SystemExit, match=r"own \(Operation not permitted\)"):
    benchmark_workers.main([])
