"""Tests of benchmark.py, on models so small that it takes seconds."""

import importlib.util
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

import configs
import ptb_word_lm
from lm import tf1

SCRIPTS = pathlib.Path(__file__).parent
TOY = {"hidden_size": 8, "vocab_size": 50, "num_steps": 3}


def load(name):
  """Imports a script."""
  spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


benchmark, worker = load("benchmark"), load("benchmark_worker")


def work(kind, **options):
  """Returns what a worker measures, once."""
  options["seconds"] = 0.1
  (it,) = benchmark.measured([("it", kind, options)], 1, "test")
  return it.results[0]


def run(*args):
  """Runs the command to its end."""
  return subprocess.run(
    [sys.executable, SCRIPTS / "benchmark.py", *args],
    capture_output=True,
    text=True,
    cwd="/",
    check=False,
  )


@pytest.mark.parametrize("rnn_mode", configs.RNN_MODES)
def test_training_is_measured(rnn_mode):
  hparams = {**TOY, "rnn_mode": rnn_mode}
  result = work("train", model="small", hparams=hparams, dtype="bfloat16")
  assert 0 < result["seconds"] < 3.0
  assert result["peak_mib"] > 100


@pytest.mark.parametrize("dtype", benchmark.DTYPES)
def test_it_is_training_in_that_type(monkeypatch, dtype):
  models, epochs = [], []

  class Model(ptb_word_lm.PTBModel):
    def __init__(self, *args, **kwargs):
      super().__init__(*args, **kwargs)
      models.append(self)

  def run_epoch(session, model, eval_op, **kwargs):
    epochs.append(real_run_epoch(session, model, eval_op, **kwargs))
    assert (model, eval_op) == (models[0], models[0].train_op)
    assert session.run(model.global_step) >= 3

  real_run_epoch = ptb_word_lm.run_epoch
  monkeypatch.setattr(ptb_word_lm, "PTBModel", Model)
  monkeypatch.setattr(ptb_word_lm, "run_epoch", run_epoch)
  monkeypatch.setattr(tf1, "disable_eager_execution", lambda: None, False)
  with tf1.Graph().as_default() as graph:
    measure = worker.train("small", TOY, dtype, 0.1)
    assert measure()["seconds"] > 0 and epochs
    products = [op for op in graph.get_operations() if op.type == "MatMul"]
  types = {op.outputs[0].dtype.name for op in products}
  assert (dtype == "bfloat16") == ("bfloat16" in types)


def test_pytorch_is_measured():
  pytest.importorskip("torch")
  result = work("pytorch", model="small", hparams=TOY, dtype="float32")
  assert 0 < result["seconds"] < 3.0


def test_the_floor_is_the_sum_of_its_products():
  result = work("floor", model="small", hparams=TOY, dtype="float32")
  counts = [n for n, _ in worker.products(worker.read_config("small", TOY))]
  total = sum(n * s for n, s in zip(counts, result["each"], strict=True))
  assert result["seconds"] == pytest.approx(total) and min(result["each"]) > 0


@pytest.mark.parametrize("model", benchmark.MODELS)
def test_products_are_those_of_a_step(model):
  config = configs.CONFIGS[model]()
  found = 0
  for times, ways in worker.products(config):
    operations = set()
    for a, b, transpose_a, transpose_b in ways:
      assert a[0 if transpose_a else 1] == b[1 if transpose_b else 0]
      operations.add(2 * math.prod(a) * b[0 if transpose_b else 1])
    assert len(operations) == 1  # The same work, however it is arranged.
    found += times * operations.pop()
  assert found == benchmark.operations_of(config)
  million = {"small": 15.84, "medium": 79.56, "large": 306.0}[model]
  assert found / benchmark.words_of(config) == pytest.approx(1e6 * million)


def test_a_worker_tells_what_went_wrong():
  result = work("floor", model="huge", hparams={}, dtype="float32")
  assert result["error"] == "KeyError: 'huge'"


def test_ratios_are_medians_of_the_rounds():
  rows = []
  for seconds in ([1, 2, 3], [2, 2, 9]):
    it = benchmark.Worker.__new__(benchmark.Worker)
    it.results = [{"seconds": s, "peak_mib": s} for s in seconds]
    rows.append(it)
  assert rows[0].speed_over(rows[1]) == 2
  assert rows[0].seconds() == 2 and rows[0].peak_mib() == 3
  rows[1].results = [{"error": "no"}]
  assert rows[0].speed_over(rows[1]) is None
  assert rows[0].speed_over(None) is None


def test_each_ratio_is_of_the_same_type_and_round(monkeypatch):
  def measured(specifications, rounds, title):
    workers = []
    for name, kind, options in specifications:
      it = benchmark.Worker.__new__(benchmark.Worker)
      it.name, it.kind, it.options = name, kind, options
      it.results = [{"seconds": s, "peak_mib": 9} for s in seconds[name]]
      workers.append(it)
    return workers

  monkeypatch.setattr(benchmark, "measured", measured)
  seconds = {
    "floor float32": [1.0, 2.0, 3.0],
    "PyTorch float32": [8.0, 5.0, 6.0],
    "block float32": [2.0, 2.5, 3.0],
    "old float32": [4.0, 10.0, 6.0],
    "floor bfloat16": [0.5, 0.5, 0.5],
    "PyTorch bfloat16": [3.0, 3.0, 3.0],
    "block bfloat16": [1.0, 1.0, 1.0],
  }
  rows = benchmark.compare(
    "small", ["block"], ["float32", "bfloat16"], 3, 1.0, True, "/old"
  )
  rows = {row["what"]: row for row in rows}
  assert set(rows) == set(seconds)
  assert rows["block float32"]["of_floor"] == pytest.approx(0.8)
  assert rows["block float32"]["over_pytorch"] == pytest.approx(2.0)
  assert rows["block float32"]["over_old"] == pytest.approx(2.0)
  assert rows["block float32"]["range_ms"] == (2000.0, 3000.0)
  assert rows["block float32"]["rounds_ms"] == [2000.0, 2500.0, 3000.0]
  assert rows["block float32"]["wps"] == 400 / 2.5
  assert rows["block bfloat16"]["of_floor"] == pytest.approx(0.5)
  assert rows["block bfloat16"]["over_pytorch"] == pytest.approx(3.0)


def test_table_and_json(tmp_path):
  process = run(
    "--model=small",
    "--rnn_mode=block",
    "--dtype=float32",
    "--rounds=1",
    "--seconds=0.1",
    f"--json={tmp_path / 'it.json'}",
  )
  assert process.returncode == 0 and not process.stderr
  report = json.loads((tmp_path / "it.json").read_text())
  assert report["about"]["tensorflow"].startswith("2.")
  rows = {row["what"]: row for row in report["rows"]}
  assert set(rows) == {"floor float32", "block float32"}
  share = rows["block float32"]["of_floor"]
  floor_ms, block_ms = (rows[f"{n} float32"]["ms"] for n in ("floor", "block"))
  assert share == pytest.approx(floor_ms / block_ms)
  assert f"| {share:.0%} |" in process.stdout


def test_scaling(monkeypatch):
  monkeypatch.setattr(benchmark, "SCALES", {"num_steps": (2, 4)})
  rows = benchmark.scale("block", 1, 0.1)
  assert [row["what"] for row in rows] == [
    "block float32, num_steps 2",
    "block float32, num_steps 4",
  ]
  assert rows[1]["gflop"] == 2 * rows[0]["gflop"] > 0


def test_a_table_of_errors_only(capsys):
  benchmark.print_table([{"model": "small", "what": "it", "error": "no"}])
  assert "| small | it: not possible here (no) |" in capsys.readouterr().out


@pytest.mark.parametrize(
  ("signum", "told", "status"),
  [
    (signal.SIGINT, "benchmark.py: Interrupted.\n", 130),
    (signal.SIGTERM, "", 143),
  ],
)
def test_a_signal_ends_it_and_its_processes(signum, told, status):
  process = subprocess.Popen(
    [sys.executable, SCRIPTS / "benchmark.py", "--model=small"],
    stderr=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
    start_new_session=True,
  )
  assert process.stdout.readline().startswith("date ")
  time.sleep(1)
  process.send_signal(signum)
  assert process.communicate()[1] == told
  assert process.returncode == status
  for _ in range(100):  # One that was just starting has got the signal too.
    time.sleep(0.1)
    try:
      os.killpg(process.pid, 0)
    except ProcessLookupError:
      return
  pytest.fail("a process is left")


@pytest.mark.parametrize(
  ("args", "status", "message"),
  [
    (["small"], 2, "'small' is not a flag; --help lists them"),
    (["--old=/nowhere"], 1, "--old=/nowhere has no ptb_word_lm.py; name the"),
    (["--old=ROOT", "--dtype=bfloat16"], 1, "--old is measured in float32 onl"),
    (["--json=/no/x"], 1, "cannot write --json=/no/x: No such file or dir"),
    (["--json=/"], 1, "cannot write --json=/: it is there, and not a regular"),
    (["--json="], 1, "cannot write --json=: it is there, and not a regular"),
    (["--json=/dev/null"], 1, "cannot write --json=/dev/null: it is there, an"),
    (["--scaling", "--peers"], 1, "--peers does not go together with --scal"),
  ],
)
def test_bad_input_gets_one_sentence(args, status, message):
  process = run(*(arg.replace("ROOT", str(SCRIPTS.parent)) for arg in args))
  assert process.returncode == status
  assert process.stderr.startswith(f"benchmark.py: {message}")
  assert process.stderr.count("\n") == 1 and not process.stdout


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "x"])
def test_seconds_are_a_number(seconds):
  process = run(f"--seconds={seconds}")
  assert process.returncode == 1 and "--seconds" in process.stderr
  assert "Traceback" not in process.stderr and not process.stdout


@pytest.mark.parametrize(
  ("reads", "told"),
  [
    (False, "benchmark.py: cannot go on: No space left on device.\n"),
    (True, ""),
  ],
)
def test_what_cannot_be_printed(reads, told):
  with open("/dev/full", "w") as full:
    process = subprocess.Popen(
      [
        sys.executable,
        SCRIPTS / "benchmark.py",
        "--model=small",
        "--seconds=0",
      ],
      stdout=subprocess.PIPE if reads else full,
      stderr=subprocess.PIPE,
      text=True,
    )
  if reads:
    process.stdout.close()
  assert process.communicate()[1] == told
  assert process.returncode == 1


def test_a_link_and_an_old_file(tmp_path):
  (tmp_path / "old.json").write_text("old")
  (tmp_path / "link.json").symlink_to("old.json")
  benchmark.write_json(str(tmp_path / "link.json"), None)
  assert (tmp_path / "old.json").read_text() == "old"
  benchmark.write_json(str(tmp_path / "link.json"), {"a": 1})
  assert (tmp_path / "link.json").is_symlink()
  assert json.loads((tmp_path / "old.json").read_text()) == {"a": 1}
  assert len(list(tmp_path.iterdir())) == 2
