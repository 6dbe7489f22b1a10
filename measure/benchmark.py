"""Measures the speed of training, beside what bounds it and what else there is.

  python scripts/benchmark.py [--model=small] [--rnn_mode=block] [--peers]

For each model, rnn_mode and type it prints the words per second, the share of
the floor, and the process's peak of memory. The floor is the sum of a step's
matrix products, each timed alone in its best arrangement. With --peers also the
same model in PyTorch (nn.LSTM), for which requirements-bench.txt has to be
installed.

All is measured in turn, for some rounds, and each ratio is taken within a round
and is the median of the rounds: a machine's speed changes from minute to
minute. By how much is seen in the column "rounds", from the fastest to the
slowest. Nothing else should run meanwhile, and all processes of a model must
fit into memory together (large with --peers: 10 GB, with --old 6 GB more).
Words are drawn at random, as frequent as in a text; no data is needed.
"""

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import signal
import statistics
import subprocess
import sys
import time

from absl import app, flags

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORKER = pathlib.Path(__file__).with_name("benchmark_worker.py")
sys.path.insert(0, str(ROOT))
import configs

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

  def __init__(self, name, kind, root=ROOT, **options):
    self.name, self.kind, self.options = name, kind, options
    self.results = []
    self._process = subprocess.Popen(
      [sys.executable, WORKER, kind, json.dumps(options), root],
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
    line = ""
    with contextlib.suppress(BrokenPipeError):
      self._process.stdin.write("\n")
      self._process.stdin.flush()
      line = self._process.stdout.readline()
    if line:
      self.results.append(json.loads(line))
    else:
      status = self._process.wait()
      error = f"its process ended with status {status}"
      error += " (is there enough memory?)" if status == -9 else ""
      self.results.append({"error": error})

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


def measured(specifications, rounds, title):
  """Starts workers and measures them in turn; the first round warms up.

  Args:
    specifications: (name, kind, options) of each worker, as Worker takes them.
    rounds: how often to measure each.
    title: of all, to show on a terminal.

  Returns:
    The Workers, their processes ended.
  """
  workers = []
  try:
    for name, kind, options in specifications:
      workers.append(Worker(name, kind, **options))
    for i in range(rounds + 1):
      first = i % len(workers)  # So that none always comes after the same.
      for worker in workers[first:] + workers[:first]:
        tell(f"{title}: round {i} of {rounds}, {worker.name}")
        worker.measure()
        if i == 0 and not worker.error:
          worker.results.clear()
  finally:
    for worker in workers:
      worker.close()
    tell("")
  return workers


def compare(model, modes, dtypes, rounds, seconds, peers, old):
  """Measures a model in all ways; returns rows for the table, dictionaries."""
  specifications = []
  for dtype in dtypes:
    options = {
      "model": model,
      "hparams": {},
      "dtype": dtype,
      "seconds": seconds,
    }
    specifications.append((f"floor {dtype}", "floor", options))
    if peers:
      specifications.append((f"PyTorch {dtype}", "pytorch", options))
    for mode in modes:
      ours = {**options, "hparams": {"rnn_mode": mode}}
      specifications.append((f"{mode} {dtype}", "train", ours))
    if old and dtype == "float32":
      theirs = {**options, "root": old}
      specifications.append(("old float32", "train", theirs))
  workers = measured(specifications, rounds, model)
  by_name = {worker.name: worker for worker in workers}
  config = configs.CONFIGS[model]()
  rows = []
  for worker in workers:
    row = {"model": model, **row_of(worker, config)}
    rows.append(row)
    if "error" not in row:
      dtype = worker.options["dtype"]
      row["of_floor"] = worker.speed_over(by_name[f"floor {dtype}"])
      row["over_pytorch"] = worker.speed_over(by_name.get(f"PyTorch {dtype}"))
      row["over_old"] = worker.speed_over(by_name.get("old float32"))
  return rows


def scale(mode, rounds, seconds):
  """Measures the small model with one hyper-parameter changed at a time."""
  rows = []
  for field, values in SCALES.items():
    specifications = []
    for value in values:
      options = {
        "model": "small",
        "hparams": {"rnn_mode": mode, field: value},
        "dtype": "float32",
        "seconds": seconds,
      }
      name = f"{mode} float32, {field} {value:,}"
      specifications.append((name, "train", options))
    for worker in measured(specifications, rounds, f"{mode} {field}"):
      hparams = worker.options["hparams"]
      config = dataclasses.replace(configs.SmallConfig(), **hparams)
      row = {"model": "small", **row_of(worker, config)}
      row["gflop"] = operations_of(config) / 1e9
      rows.append(row)
  return rows


def row_of(worker, config):
  """Returns what a worker measured by itself, for a row of the table."""
  if worker.error:
    return {"what": worker.name, "error": worker.error}
  seconds = worker.seconds()
  rounds = [1000 * result["seconds"] for result in worker.results]
  note = worker.results[-1].get("note")
  row = {
    "what": f"{worker.name} ({note})" if note else worker.name,
    "wps": words_of(config) / seconds,
    "ms": 1000 * seconds,
    "range_ms": (min(rounds), max(rounds)),
    "rounds_ms": rounds,
    "gflops": operations_of(config) / seconds / 1e9,
  }
  if worker.kind != "floor":  # Whose process is not that of a model.
    row["peak_mib"] = worker.peak_mib()
  return row


COLUMNS = {  # The heading and the format of each number of a row.
  "wps": ("words/s", "{:,.0f}"),
  "ms": ("ms a step", "{:.1f}"),
  "range_ms": ("rounds", "{:.1f} to {:.1f}"),
  "gflop": ("GFLOP a step", "{:.2f}"),
  "gflops": ("GFLOP/s", "{:.0f}"),
  "of_floor": ("of its type's floor", "{:.0%}"),
  "over_pytorch": ("/ PyTorch", "{:.2f}x"),
  "over_old": ("/ old", "{:.2f}x"),
  "peak_mib": ("process MiB", "{:,}"),
}


def print_table(rows):
  """Prints a Markdown table, with the columns that have a number."""
  keys = [
    key for key in COLUMNS if any(row.get(key) is not None for row in rows)
  ]
  headings = ["model", "", *(COLUMNS[key][0] for key in keys)]
  print("|", " | ".join(headings), "|")
  print("| --- | --- |" + " ---: |" * len(keys))
  for row in rows:
    cells = [row["model"], row["what"]]
    for key in keys:
      number = row.get(key)
      numbers = number if isinstance(number, tuple) else (number,)
      cells.append("" if number is None else COLUMNS[key][1].format(*numbers))
    if "error" in row:
      cells[1] += f": not possible here ({row['error']})"
    print("|", " | ".join(cells), "|")
  print(flush=True)


def about():
  """Says on what machine and with what versions this was measured."""
  versions = {}
  for package in ("tensorflow", "tf-keras", "numpy", "torch"):
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      versions[package] = importlib.metadata.version(package)
  processor = platform.processor() or platform.machine()
  with contextlib.suppress(OSError), open("/proc/cpuinfo") as f:
    names = [line.split(":")[1] for line in f if line.startswith("model name")]
    processor = names[0].strip() if names else processor
  commit = "unknown"
  with contextlib.suppress(OSError, subprocess.CalledProcessError):
    commit = subprocess.check_output(
      ["git", "-C", ROOT, "describe", "--always", "--dirty"],
      stderr=subprocess.DEVNULL,
      text=True,
    ).strip()
  return {
    "date": time.strftime("%Y-%m-%d"),
    "commit": commit,
    "processor": processor,
    "cores": len(os.sched_getaffinity(0)),
    "load before": round(os.getloadavg()[0], 1),  # 0: nothing else runs.
    "python": platform.python_version(),
    **versions,
  }


def tell(what):
  """Shows on a terminal what is being done, in place of what was."""
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
    "Measure instead how the cost of the small model grows with its size. Of "
    "the other flags it heeds --rnn_mode, --rounds, --seconds and --json.",
  )
  flags.DEFINE_string(
    "old", None, "The folder of an older checkout to measure beside it."
  )
  flags.DEFINE_integer("rounds", 5, "How often to measure.", lower_bound=1)
  flags.DEFINE_float("seconds", 3.0, "How long to train in a round, at least.")
  flags.register_validator(
    "seconds",
    lambda seconds: 0 <= seconds <= 3600,  # And no NaN.
    "--seconds must be 0 to 3600.",
  )
  flags.DEFINE_string("json", None, "The file to write all numbers to.")


def check(args):
  """Returns what is wrong with the flags, a sentence, or None."""
  if args.scaling:
    for name in ("model", "dtype", "peers", "old"):
      if args[name].present:
        return f"--{name} does not go together with --scaling; leave it out."
  if args.old is not None:
    if not os.path.isfile(os.path.join(args.old, "ptb_word_lm.py")):
      return (
        f"--old={args.old} has no ptb_word_lm.py; name the folder of a "
        "checkout."
      )
    if "float32" not in args.dtype:
      return "--old is measured in float32 only; leave it or --dtype out."
  if args.peers and importlib.util.find_spec("torch") is None:
    return "--peers needs PyTorch; install requirements-bench.txt."
  if args.json is not None:
    try:
      write_json(args.json, None)
    except OSError as error:
      return f"cannot write --json={args.json}: {error.strerror}."
  return None


def write_json(path, report):
  """Writes a file as a whole or not at all; None: only tries whether it can.

  Raises:
    OSError: if it cannot.
  """
  path = os.path.realpath(path)  # What a link points to, not the link.
  if not os.path.isfile(path) and os.path.exists(path):
    raise OSError(0, "it is there, and not a regular file")
  try:
    with open(path + ".tmp", "w") as f:
      json.dump(report, f, indent=2)
      f.write("\n")
    if report is not None:
      os.replace(path + ".tmp", path)
  finally:
    with contextlib.suppress(OSError):
      os.remove(path + ".tmp")


def reports(args):
  """Yields the rows of one table after the other."""
  if args.scaling:
    for mode in dict.fromkeys(args.rnn_mode):
      yield scale(mode, args.rounds, args.seconds)
    return
  old = args.old and os.path.abspath(args.old)
  for model in dict.fromkeys(args.model):
    yield compare(
      model,
      list(dict.fromkeys(args.rnn_mode)),
      list(dict.fromkeys(args.dtype)),
      args.rounds,
      args.seconds,
      args.peers,
      old,
    )


def main(argv):
  """Measures as the flags say; returns the exit status."""
  args = flags.FLAGS
  if len(argv) > 1:
    fail(f"'{argv[1]}' is not a flag; --help lists them.")
    return 2
  if wrong := check(args):
    return fail(wrong)
  for signum in (signal.SIGTERM, signal.SIGHUP):  # So that no worker is left.
    signal.signal(signum, lambda signum, frame: sys.exit(128 + signum))
  facts, all_rows = about(), []
  try:
    print(", ".join(f"{k} {v}" for k, v in facts.items()), end="\n\n")
    sys.stdout.flush()
    for rows in reports(args):
      print_table(rows)
      all_rows += rows
      if args.json is not None:  # Each time: a later table cannot lose it.
        try:
          write_json(args.json, {"about": facts, "rows": all_rows})
        except OSError as error:
          return fail(f"cannot write --json={args.json}: {error.strerror}.")
  except KeyboardInterrupt:
    fail("Interrupted.")
    return 128 + signal.SIGINT
  except OSError as error:
    if not isinstance(error, BrokenPipeError):  # As "| head": nobody reads on.
      fail(f"cannot go on: {error.strerror}.")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
  return int(all("error" in row for row in all_rows))


if __name__ == "__main__":
  define_flags()
  app.run(main)
