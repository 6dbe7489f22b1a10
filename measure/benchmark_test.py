"""Tests of benchmark.py and benchmark_worker.py; none asserts a time."""

import json
import math
import sys
import types

import benchmark
import benchmark_worker
import pytest
from absl import flags

import configs
from lm import tf1

TOY = configs.override(configs.SmallConfig(), "hidden_size=8,num_steps=3")


@pytest.fixture
def graph(monkeypatch):
  """A default graph to measure in, as in a process of its own."""
  monkeypatch.setattr(tf1, "disable_eager_execution", lambda: None, False)
  with tf1.Graph().as_default() as graph:
    yield graph


@pytest.mark.parametrize("dtype", benchmark.DTYPES)
def test_training_is_measured_in_that_type(graph, dtype):
  assert benchmark_worker.train(TOY, dtype, 0.0) > 0
  operations = graph.get_operations()
  assert any("GradientDescent" in op.type for op in operations)
  products = [op.outputs[0] for op in operations if op.type == "MatMul"]
  assert (dtype == "bfloat16") == (tf1.bfloat16 in [p.dtype for p in products])


def test_pytorch_is_measured():
  pytest.importorskip("torch")
  assert benchmark_worker.pytorch(TOY, "float32", 0.0) > 0


def test_the_floor_is_the_sum_of_its_products(graph, monkeypatch):
  two_seconds = [2.0, 2.0, 2.0]  # For a chain of two products.
  monkeypatch.setattr(
    benchmark_worker.timeit, "repeat", lambda *_, **__: two_seconds
  )
  counts = [times for times, _ in benchmark_worker.products(TOY)]
  assert benchmark_worker.floor(TOY, "float32", 0.0) == sum(counts)


@pytest.mark.parametrize(
  ("model", "million"), [("small", 15.84), ("medium", 79.56), ("large", 306.0)]
)
def test_products_are_those_of_a_step(model, million):
  config = configs.CONFIGS[model]()
  sizes = benchmark_worker.sizes_of(config)
  found = 0
  for times, ways in benchmark_worker.products(config):
    # All arrangements are the same work.
    (letters,) = {frozenset(way) - {","} for way in ways}
    found += 2 * times * math.prod(sizes[letter] for letter in letters)
  assert found == benchmark.operations_of(config)
  words = config.batch_size * config.num_steps
  assert found / words == pytest.approx(1e6 * million)


def test_a_worker_reports_what_went_wrong(monkeypatch, capsys):
  monkeypatch.setattr(sys, "path", [*sys.path])
  benchmark_worker.main("train", "huge", "{}", "float32", "1", ".")
  assert json.loads(capsys.readouterr().out) == {"error": "KeyError: 'huge'"}


@pytest.fixture
def measured(monkeypatch):
  """What the processes measure: lists of seconds by (kind, dtype, root)."""
  measured = {}

  def run(command, **_):
    kind, _, _, dtype, _, root = command[2:]
    seconds = measured[kind, dtype, root]
    if not seconds:
      return types.SimpleNamespace(returncode=-9)
    result = {"seconds": seconds.pop(0), "peak_mib": 1234}
    return types.SimpleNamespace(returncode=0, stdout=json.dumps(result))

  monkeypatch.setattr(benchmark.subprocess, "run", run)
  monkeypatch.setattr(benchmark, "about", lambda: {"date": "today"})
  return measured


def test_ratios_are_medians_within_rounds_of_one_type(
  measured, call_command, tmp_path
):
  (tmp_path / "ptb_word_lm.py").touch()
  measured |= {
    ("floor", "float32", benchmark.ROOT): [1.0, 2.0, 3.0],
    ("train", "float32", benchmark.ROOT): [2.0, 2.5, 3.0],
    ("train", "float32", str(tmp_path)): [4.0, 10.0, 6.0],
    ("floor", "bfloat16", benchmark.ROOT): [],  # It fails.
    ("train", "bfloat16", benchmark.ROOT): [1.0, 1.0, 1.0],
  }
  args = [
    "--model=small",
    "--rnn_mode=block",
    "--rounds=3",
    f"--old={tmp_path}",
  ]
  status, out, err = call_command("benchmark", *args)
  assert status == 0 and not err
  ours = "160 | 2500.0 | 2000.0 to 3000.0 | 3 | 80% | 2.00x | 1,234"
  assert f"\n| small | block float32 | {ours} |\n" in out
  error = "not possible here (its process ended with status -9)"
  assert f"\n| small | floor bfloat16: {error} | " in out


def test_scaling(measured, monkeypatch, call_command, tmp_path):
  monkeypatch.setattr(benchmark, "SCALES", {"num_steps": (2, 4)})
  measured["train", "float32", benchmark.ROOT] = [1.0, 2.0]
  path = tmp_path / "it.json"
  args = ["--scaling", "--rnn_mode=block", "--rounds=1", f"--json={path}"]
  status, out, err = call_command("benchmark", *args)
  assert status == 0 and not err and "GFLOP a step" in out
  rows = json.loads(path.read_text())["rows"]
  names = ["block float32, num_steps 2", "block float32, num_steps 4"]
  assert [row["what"] for row in rows] == names
  assert rows[1]["gflop"] == 2 * rows[0]["gflop"] > 0


def test_processes_are_measured(call_command):
  args = ["--model=small", "--rnn_mode=block", "--dtype=float32"]
  args += ["--rounds=1", "--seconds=0"]
  status, out, err = call_command("benchmark", *args)
  assert status == 0 and not err
  assert "| small | block float32 | " in out and "not possible" not in out


@pytest.mark.parametrize(
  ("args", "sentence"),
  [
    (["--old=/nowhere"], "--old=/nowhere has no ptb_word_lm.py; name the fol"),
    (["--json=/no/x"], "/no/x"),
    (["--scaling", "--peers"], "--peers has no effect with --scaling: leave"),
  ],
)
def test_bad_input_gets_one_sentence(call_command, args, sentence):
  status, out, err = call_command("benchmark", *args)
  assert (status, out, err.count("\n")) == (1, "", 1)
  assert err.startswith(f"benchmark.py: {sentence}")


def test_seconds_are_a_number(call_command):
  with pytest.raises(flags.IllegalFlagValueError, match="must be 0 to 3600"):
    call_command("benchmark", "--seconds=nan")
