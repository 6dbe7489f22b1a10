"""Tests of benchmark_workers.py, on a model so small that it takes seconds."""

import json

import processes
import pytest


def test_workers_are_measured():
  args = "--model=test", "--workers=2", "--batch_size=200", "--steps=1"
  with processes.start("measure/benchmark_workers.py", *args) as process:
    out, err = process.communicate()
  if "no network of their own" in err:
    pytest.skip(err)
  assert process.returncode == 0 and not err
  result = json.loads(out)
  assert (result["model"], result["workers"]) == ("test", 2)
  # Each of two workers sends half of its gradient and half of the sum. Nearly
  # all of it is for the softmax layer, 3 * 10,000 numbers.
  assert 0.12 < result["mbytes"] < 0.2
