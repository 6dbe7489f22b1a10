"""Tests of benchmark_workers.py, on a model so small that it takes seconds."""

import json
import subprocess
import sys

import benchmark_workers
import pytest


def test_workers_are_measured():
  done = subprocess.run(
    [
      *(sys.executable, benchmark_workers.__file__, "--model=test"),
      *("--workers=2", "--batch_size=200", "--steps=50"),
    ],
    capture_output=True,
    text=True,
  )
  if "no network of their own" in done.stderr:
    pytest.skip(done.stderr)
  assert done.returncode == 0 and not done.stderr
  found = json.loads(done.stdout)
  assert (found["model"], found["workers"]) == ("test", 2)
  # Of two workers each sends half of its gradient and half of the sum. Nearly
  # all of it is that of the softmax layer, 3 * 10,000 numbers.
  assert 0.12 < found["mbytes"] < 0.2
