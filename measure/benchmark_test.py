"""Tests of benchmark.py and benchmark_worker.py; none asserts a time."""

import importlib
import json
import math

import benchmark
import benchmark_worker
import processes
import pytest
from benchmark import ROOT

import configs
import ptb_word_lm
from lm.base import command, tf1

TOY = configs.SmallConfig(hidden_size=8, num_steps=3, vocab_size=100)


@pytest.fixture
def graph(monkeypatch):
  """A default graph to measure in, as in a process of its own."""
  monkeypatch.setattr(tf1, "disable_eager_execution", lambda: None, False)
  with tf1.Graph().as_default() as graph:
    yield graph


@pytest.mark.parametrize("dtype", benchmark.DTYPES)
def test_training_is_measured_in_that_type(graph, some_gpu, dtype):
  assert benchmark_worker.train(TOY, dtype, 0.0) > 0
  operations = graph.get_operations()
  assert any("GradientDescent" in op.type for op in operations)
  products = [op.outputs[0] for op in operations if op.type == "MatMul"]
  result = {product.dtype.name for product in products}
  assert result == {"float32" if dtype == "tf32" else dtype}


def test_a_tick_of_an_older_checkout_is_after_several_steps(graph, monkeypatch):
  monkeypatch.setattr(ptb_word_lm, "steps_per_look", lambda: 10, raising=False)
  monkeypatch.setattr(benchmark_worker.Clock, "median", lambda self: 10.0)
  assert benchmark_worker.train(TOY, "float32", 0.0) == 1.0


@pytest.mark.parametrize("name", ["lm.base.tf1", "lm.tf1", "tf1"])
def test_older_checkouts_have_tf1_elsewhere(monkeypatch, name):
  def import_module(tried):
    if tried != name:
      raise ImportError
    return name

  monkeypatch.setattr(importlib, "import_module", import_module)
  assert benchmark_worker.import_tf1() == name


def test_the_floor_of_a_gpu_is_its_operations(graph, monkeypatch, some_gpu):
  def repeat(*_, repeat, number):  # As if ten products took a second.
    return [1.0] * repeat

  monkeypatch.setattr(benchmark_worker.timeit, "repeat", repeat)
  result = benchmark_worker.floor_of_gpu(
    configs.SmallConfig(), benchmark_worker.Products("tf32"), size=64
  )
  operations = 15.84e6 * 400  # See test_products_are_those_of_a_step.
  assert result == pytest.approx(operations / (10 * 2 * 64**3))


def test_pytorch_is_measured():
  pytest.importorskip("torch")
  assert benchmark_worker.pytorch(TOY, "float32", 0.0) > 0


def test_the_floor_is_the_sum_of_its_products(graph, monkeypatch):
  def repeat(*_, repeat, number):  # As if two products took two seconds.
    return [2.0 * number] * repeat

  monkeypatch.setattr(benchmark_worker.timeit, "repeat", repeat)
  counts = [times for times, _ in benchmark_worker.products(TOY)]
  products_of = benchmark_worker.Products("float32")
  assert benchmark_worker.floor_of_cpu(TOY, products_of, 0.0) == sum(counts)


@pytest.mark.parametrize(
  ("model", "million"), [("small", 15.84), ("medium", 79.56), ("large", 306.0)]
)
def test_products_are_those_of_a_step(model, million):
  config = configs.CONFIGS[model]()
  sizes = benchmark_worker.sizes_of(config)
  result = 0
  for times, ways in benchmark_worker.products(config):
    (letters,) = {frozenset(way) - {","} for way in ways}  # The same work.
    result += 2 * times * math.prod(sizes[letter] for letter in letters)
  words = config.batch_size * config.num_steps
  assert result / words == pytest.approx(1e6 * million)


@pytest.fixture
def measured(monkeypatch):
  """What the processes measure: lists of seconds by (kind, dtype, root)."""
  measured = {}

  def run(script, kind, model, mode, dtype, seconds, root, **_):
    if not measured[kind, dtype, root]:
      raise command.InputError(f"{script} was killed.")
    result = measured[kind, dtype, root].pop(0)
    return json.dumps({"seconds": result, "peak_mib": 1234})

  monkeypatch.setattr(processes, "run", run)
  monkeypatch.setattr(benchmark, "describe_machine", dict)
  return measured


def test_ratios_are_medians_within_rounds(measured, call_command, tmp_path):
  (tmp_path / "ptb_word_lm.py").touch()
  measured |= {
    ("floor", "float32", ROOT): [1.0, 2.0, 3.0],
    ("train", "float32", ROOT): [2.0, 2.5, 3.0],
    ("train", "float32", str(tmp_path)): [4.0, 10.0, 6.0],
    ("floor", "bfloat16", ROOT): [],  # It fails.
    ("train", "bfloat16", ROOT): [1.0, 1.0, 1.0],
    ("train", "bfloat16", str(tmp_path)): [2.0, 3.0, 4.0],
  }
  args = ["--model=small", "--rnn_mode=block", "--rounds=3"]
  status, out, err = call_command("benchmark", *args, f"--old={tmp_path}")
  assert status == 0 and not err
  ours = "160 | 2500.0 | 2000.0 to 3000.0 | 80% | 2.00x | 1,234"
  assert f"\n| small | block float32 | {ours} |\n" in out
  half = "400 | 1000.0 | 1000.0 to 1000.0 |  | 3.00x | 1,234"
  assert f"\n| small | block bfloat16 | {half} |\n" in out
  error = "not possible here (measure/benchmark_worker.py was killed.)"
  assert f"\n| small | floor bfloat16: {error} | " in out


def test_a_process_is_measured():
  row = {"model": "test", "rounds_ms": []}
  benchmark.measure_once(row, "train", "float32", "basic", ROOT, 0.0)
  assert "error" not in row
  assert row["rounds_ms"][0] > 0 and row["peak_mib"] > 100


@pytest.mark.parametrize(
  ("args", "sentence"),
  [
    (["--old=/nowhere"], "--old=/nowhere has no ptb_word_lm.py: give the fol"),
    (["--json=/no/x"], "/no/x"),
  ],
)
def test_bad_input_gets_one_sentence(call_command, args, sentence):
  status, out, err = call_command("benchmark", *args)
  assert (status, out, err.count("\n")) == (1, "", 1)
  assert err.startswith(f"benchmark.py: {sentence}")
