"""Measures the speed of training, beside what bounds it and what else there is.

  python scripts/benchmark.py [--model=small] [--rnn_mode=block] [--peers]

For each model, rnn_mode and type it prints the words per second, the share of
the floor, and the peak of memory. The floor is the time of a step's matrix
products, each computed alone in its best arrangement: no step in TensorFlow can
be faster. With --peers also the same model in PyTorch (nn.LSTM), for which
requirements-bench.txt has to be installed.

All is measured in turn, for some rounds, and each ratio is taken within a round
and is the median of the rounds: a machine's speed changes from minute to
minute. Nothing else should run meanwhile. Words are drawn at random, as
frequent as in a text; no data is needed.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

from absl import app, flags

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORKER = pathlib.Path(__file__).with_name("benchmark_worker.py")
sys.path.insert(0, str(ROOT))
import configs  # noqa: E402

MODELS = ("small", "medium", "large")
DTYPES = ("float32", "bfloat16")
# What --scaling changes in the small model, one at a time.
SCALES = {
  "hidden_size": (100, 200, 400, 800),
  "num_steps": (10, 20, 40, 80),
  "batch_size": (10, 20, 40, 80),
  "vocab_size": (2500, 5000, 10000, 20000, 40000),
}


class Worker:
  """A process of benchmark_worker.py and what it measured, round by round."""

  def __init__(self, name, kind, **options):
    self.name, self.options, self.results = name, options, []
    self._process = subprocess.Popen(
      [sys.executable, WORKER, kind, json.dumps(options)],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      text=True,
      # As tf1.py has it, for older checkouts too.
      env={"TF_ENABLE_ONEDNN_OPTS": "1", **os.environ},
    )

  def measure(self):
    """Waits for one more result, unless the last one was an error."""
    if self.results and "error" in self.results[-1]:
      return
    result = ""
    with contextlib.suppress(BrokenPipeError):
      self._process.stdin.write("\n")
      self._process.stdin.flush()
      result = self._process.stdout.readline()
    ended = '{"error": "its process ended: is there enough memory?"}'
    self.results.append(json.loads(result or ended))

  def close(self):
    """Ends the process."""
    self._process.kill()
    self._process.communicate()

  @property
  def error(self):
    """The error that it met, or None."""
    return self.results[-1].get("error")

  def seconds(self):
    """Returns the seconds of a step, the median of the rounds."""
    return statistics.median(result["seconds"] for result in self.results)

  def peak_mib(self):
    """Returns the peak of memory in MiB."""
    return max(result["peak_mib"] for result in self.results)

  def speed_over(self, other):
    """Returns how many times faster it is than another worker, or None."""
    if other is None or other.error or self.error:
      return None
    return statistics.median(
      theirs["seconds"] / ours["seconds"]
      for ours, theirs in zip(self.results, other.results, strict=True)
    )


def words_of(config):
  """Returns the words of a step."""
  return config.batch_size * config.num_steps


def operations_of(config):
  """Returns the floating-point operations of a step's matrix products."""
  size = config.hidden_size
  weights = config.num_layers * 8 * size**2 + size * config.vocab_size
  return 6 * words_of(config) * weights


@contextlib.contextmanager
def workers_of(specifications):
  """Starts a worker for each (name, kind, options); ends them at last."""
  workers = []
  try:
    for name, kind, options in specifications:
      workers.append(Worker(name, kind, **options))
    yield workers
  finally:
    for worker in workers:
      worker.close()


def compare(model, modes, dtypes, rounds, peers, old):
  """Measures a model in all ways; returns rows for the table, dictionaries."""
  specifications = []
  for dtype in dtypes:
    options = {"model": model, "hparams": {}, "dtype": dtype}
    specifications.append((f"floor {dtype}", "floor", options))
    if peers:
      specifications.append((f"PyTorch {dtype}", "pytorch", options))
    for mode in modes:
      ours = {**options, "hparams": {"rnn_mode": mode}, "root": str(ROOT)}
      specifications.append((f"{mode} {dtype}", "train", ours))
  if old:
    options = {"model": model, "hparams": {}, "dtype": "float32", "root": old}
    specifications.append(("old float32", "train", options))
  with workers_of(specifications) as workers:
    for i in range(rounds + 1):
      for worker in workers:
        tell(f"{model}: round {i} of {rounds}, {worker.name}")
        worker.measure()
        if i == 0 and not worker.error:
          worker.results.clear()  # Of the first round, which warms up.
  by_name = {worker.name: worker for worker in workers}
  config = configs.CONFIGS[model]()
  rows = []
  for worker in workers:
    row = {"model": model, "what": worker.name}
    rows.append(row)
    if worker.error:
      row["error"] = worker.error
      continue
    dtype = worker.options["dtype"]
    seconds = worker.seconds()
    row["ms"] = 1000 * seconds
    row["wps"] = words_of(config) / seconds
    row["gflops"] = operations_of(config) / seconds / 1e9
    row["of_floor"] = worker.speed_over(by_name[f"floor {dtype}"])
    row["over_pytorch"] = worker.speed_over(by_name.get(f"PyTorch {dtype}"))
    row["over_old"] = worker.speed_over(by_name.get("old float32"))
    row["peak_mib"] = worker.peak_mib()
    row["rounds_ms"] = [1000 * result["seconds"] for result in worker.results]
  return rows


def scale(mode, rounds):
  """Measures the small model with one hyper-parameter changed at a time."""
  rows = []
  for name, values in SCALES.items():
    specifications = [
      (
        f"{name} {value}",
        "train",
        {
          "model": "small",
          "hparams": {"rnn_mode": mode, name: value},
          "dtype": "float32",
          "root": str(ROOT),
        },
      )
      for value in values
    ]
    with workers_of(specifications) as workers:
      for i in range(rounds):
        for worker in workers:
          tell(f"round {i + 1} of {rounds}, {worker.name}")
          worker.measure()
    for worker, value in zip(workers, values, strict=True):
      config = dataclasses.replace(configs.SmallConfig(), **{name: value})
      row = {"model": "small", "what": worker.name}
      rows.append(row)
      if worker.error:
        row["error"] = worker.error
        continue
      operations = operations_of(config)
      row["ms"] = 1000 * worker.seconds()
      row["gflop"] = operations / 1e9
      row["gflops"] = operations / worker.seconds() / 1e9
      row["peak_mib"] = worker.peak_mib()
  return rows


COLUMNS = {  # The heading and the format of each number of a row.
  "wps": ("words/s", "{:,.0f}"),
  "ms": ("ms a step", "{:.1f}"),
  "gflop": ("GFLOP a step", "{:.2f}"),
  "gflops": ("GFLOP/s", "{:.0f}"),
  "of_floor": ("of floor", "{:.0%}"),
  "over_pytorch": ("/ PyTorch", "{:.2f}x"),
  "over_old": ("/ old", "{:.2f}x"),
  "peak_mib": ("peak MiB", "{:,}"),
}


def print_table(rows):
  """Prints a Markdown table, with the columns that have a number."""
  keys = [
    key for key in COLUMNS if any(row.get(key) is not None for row in rows)
  ]
  print("| model | |", " | ".join(COLUMNS[key][0] for key in keys), "|")
  print("| --- | --- |", " | ".join("---:" for _ in keys), "|")
  for row in rows:
    cells = [
      "" if row.get(key) is None else COLUMNS[key][1].format(row[key])
      for key in keys
    ]
    if "error" in row:
      cells[0] = f"not possible here: {row['error']}"
    print(f"| {row['model']} | {row['what']} |", " | ".join(cells), "|")


def about():
  """Says on what machine and with what versions this was measured."""
  from importlib import metadata

  versions = {}
  for package in ("tensorflow", "tf-keras", "numpy", "torch"):
    with contextlib.suppress(metadata.PackageNotFoundError):
      versions[package] = metadata.version(package)
  processor = platform.processor() or platform.machine()
  with contextlib.suppress(OSError), open("/proc/cpuinfo") as f:
    names = [line.split(":")[1] for line in f if line.startswith("model name")]
    processor = names[0].strip() if names else processor
  commit = subprocess.run(
    ["git", "-C", ROOT, "describe", "--always", "--dirty"],
    capture_output=True,
    text=True,
    check=False,
  ).stdout.strip()
  return {
    "date": time.strftime("%Y-%m-%d"),
    "commit": commit,
    "processor": processor,
    "cores": os.cpu_count(),
    "python": platform.python_version(),
    **versions,
  }


def tell(what):
  """Shows on a terminal what is being done."""
  if sys.stderr.isatty():
    print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)


def fail(sentence):
  """Says what is wrong; returns the exit status."""
  print(f"benchmark.py: {sentence}", file=sys.stderr)
  return 1


def define_flags():
  """Defines the command line's flags."""
  flags.DEFINE_multi_enum("model", MODELS, MODELS, "Repeat it for several.")
  flags.DEFINE_multi_enum(
    "rnn_mode", configs.RNN_MODES, configs.RNN_MODES, "Repeat it for both."
  )
  flags.DEFINE_multi_enum("dtype", DTYPES, DTYPES, "Repeat it for both.")
  flags.DEFINE_boolean("peers", False, "Measure PyTorch beside it.")
  flags.DEFINE_boolean(
    "scaling",
    False,
    "Measure instead how the cost of the small model grows with its size.",
  )
  flags.DEFINE_string(
    "old", None, "The folder of an older checkout to measure beside it."
  )
  flags.DEFINE_integer("rounds", 5, "How often to measure.", lower_bound=1)
  flags.DEFINE_string("json", None, "The file to write all numbers to.")


def main(argv):
  """Measures as the flags say; returns the exit status."""
  args = flags.FLAGS
  if len(argv) > 1:
    fail(f"'{argv[1]}' is not a flag; --help lists them.")
    return 2
  if args.old and not os.path.isfile(os.path.join(args.old, "ptb_word_lm.py")):
    return fail(
      f"--old={args.old} has no ptb_word_lm.py; name the folder of a checkout."
    )
  with contextlib.ExitStack() as stack:
    f = None
    if args.json:  # Before all the work, lest it be lost.
      try:
        f = stack.enter_context(open(args.json, "w"))
      except OSError as error:
        return fail(f"cannot write --json={args.json}: {error.strerror}.")
    rows = []
    if args.scaling:
      rows = scale(args.rnn_mode[0], args.rounds)
    else:
      for model in args.model:
        rows += compare(
          model, args.rnn_mode, args.dtype, args.rounds, args.peers, args.old
        )
    tell("")
    facts = about()
    print(", ".join(f"{key} {value}" for key, value in facts.items()) + "\n")
    print_table(rows)
    if f:
      json.dump({"about": facts, "rows": rows}, f, indent=2)
      f.write("\n")
  return 0


if __name__ == "__main__":
  define_flags()
  app.run(main)
