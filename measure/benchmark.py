"""Measures the time of a training step, its lower bound, and PyTorch's time.

  python measure/benchmark.py [--model=small] [--rnn_mode=block] [--peers]

For each model, rnn_mode and type it prints the words per second, the share of
the floor and the process's peak of memory. The floor is the sum of a step's
matrix products, each timed alone in its best arrangement. On a GPU, it is the
time of their operations at the speed of a large product. --peers adds the same
model in PyTorch (nn.LSTM), which measure/requirements.txt installs.

A machine's speed changes from minute to minute. So the script measures
everything in turn, round after round, each in a process of its own. A ratio is
the median of the ratios within the rounds. The column "rounds" shows the
fastest and the slowest round. Nothing else should run meanwhile. No data is
needed: words are drawn at random, with frequencies as in a text.
"""

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lm.base import imports

if __name__ == "__main__":
  imports.report_failures()

import processes
import tqdm

import configs
from lm.base import command, files
from lm.base.command import InputError
from lm.model.rnn_modes import NEED_GPU

MODELS = ["small", "medium", "large"]  # By default.
DTYPES = ("float32", "bfloat16", "float16", "tf32")


def measure_once(row, kind, dtype, mode, root, seconds):
  """Measures in a process of its own, and adds the result to the row.

  `kind` is one of benchmark_worker.KINDS, `mode` an rnn_mode or "" for the
  model's own, `root` the checkout's folder, `seconds` how long to measure.
  """
  worker_args = kind, row["model"], mode, dtype, seconds, root
  env = {  # As lm/base/tf1.py sets them, also for older checkouts.
    "TF_ENABLE_ONEDNN_OPTS": "1",
    "NVIDIA_TF32_OVERRIDE": "1" if dtype == "tf32" else "0",
    **os.environ,
  }
  try:
    out = processes.run("measure/benchmark_worker.py", *worker_args, env=env)
    result = json.loads(out)
  except InputError as error:  # It was killed, or the like.
    result = {"error": str(error)}
  if "error" in result:
    row["error"] = result["error"]
    return
  row["rounds_ms"].append(1000 * result["seconds"])
  if kind != "floor":  # Its process trains no model.
    row["peak_mib"] = max(row.get("peak_mib", 0), result["peak_mib"])


def compare(model, args):
  """Measures all subjects of a model in turn; returns the rows of its table."""
  subjects = {}  # The arguments of measure_once by name.
  for dtype in args.dtype:
    subjects[f"floor {dtype}"] = "floor", dtype, "", ROOT
    if args.peers:
      subjects[f"PyTorch {dtype}"] = "pytorch", dtype, "", ROOT
    for mode in args.rnn_mode:
      subjects[f"{mode} {dtype}"] = "train", dtype, mode, ROOT
    if args.old:
      subjects[f"old {dtype}"] = "train", dtype, "", args.old
  rows = {n: {"model": model, "what": n, "rounds_ms": []} for n in subjects}
  for _ in tqdm.trange(args.rounds, desc=model, disable=None, leave=False):
    for name, subject in subjects.items():
      if "error" not in rows[name]:
        measure_once(rows[name], *subject, args.seconds)
  config = configs.CONFIGS[model]()
  for name, row in rows.items():
    if "error" in row:
      continue
    rounds, dtype = row["rounds_ms"], subjects[name][1]
    row["ms"] = statistics.median(rounds)
    row["range_ms"] = f"{min(rounds):.1f} to {max(rounds):.1f}"
    row["wps"] = 1000 * config.batch_size * config.num_steps / row["ms"]
    row["of_floor"] = ratio(row, rows.get(f"floor {dtype}"))
    row["over_pytorch"] = ratio(row, rows.get(f"PyTorch {dtype}"))
    row["over_old"] = ratio(row, rows.get(f"old {dtype}"))
  return list(rows.values())


def ratio(ours, theirs):
  """Returns the speed of one row divided by another's; None if unknown."""
  if theirs is None or "error" in theirs:
    return None
  rounds = zip(ours["rounds_ms"], theirs["rounds_ms"], strict=True)
  return statistics.median(their_ms / our_ms for our_ms, their_ms in rounds)


COLUMNS = {  # The heading and the format of each value of a row.
  "wps": ("words/s", "{:,.0f}"),
  "ms": ("ms a step", "{:.1f}"),
  "range_ms": ("rounds", "{}"),
  "of_floor": ("of its type's floor", "{:.0%}"),
  "over_pytorch": ("/ PyTorch", "{:.2f}x"),
  "over_old": ("/ old", "{:.2f}x"),
  "peak_mib": ("process MiB", "{:,}"),
}


def print_table(rows):
  """Prints a Markdown table without the columns that are empty."""
  keys = [key for key in COLUMNS if any(row.get(key) for row in rows)]
  print("|", " | ".join(["model", ""] + [COLUMNS[key][0] for key in keys]), "|")
  print("| --- | --- |" + " ---: |" * len(keys))
  for row in rows:
    cells = [row["model"], row["what"]]
    if "error" in row:
      cells[1] += f": not possible here ({row['error']})"
    for key in keys:
      value = row.get(key)
      cells.append("" if value is None else COLUMNS[key][1].format(value))
    print("|", " | ".join(cells), "|")
  print(flush=True)


def describe_machine():
  """Returns the machine and the versions that are measured, a dictionary."""
  facts = {"date": time.strftime("%Y-%m-%d")}
  with contextlib.suppress(OSError):  # Without git, or not on Linux.
    git = ["git", "-C", ROOT, "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout
    facts["commit"] = commit.strip() or "unknown"
    cpu = pathlib.Path("/proc/cpuinfo").read_text()
    names = re.findall(r"model name\s*: (.*)", cpu) or [platform.machine()]
    facts["processor"] = names[0]
  if shutil.which("nvidia-smi"):
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    gpus = subprocess.run(query, capture_output=True, text=True).stdout
    facts["GPU"] = ", ".join(gpus.splitlines()) or "unknown"
  facts["cores"] = len(os.sched_getaffinity(0))
  facts["load before"] = round(os.getloadavg()[0], 1)  # 0: nothing else runs.
  facts["python"] = platform.python_version()
  for package in ("tensorflow", "tf-keras", "numpy", "torch"):
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      facts[package] = importlib.metadata.version(package)
  return facts


def is_for_here(rnn_mode):
  """Returns whether to measure a mode by default: cudnn only with a GPU."""
  return rnn_mode not in NEED_GPU or shutil.which("nvidia-smi")


def define_flags(define):
  """Defines the command line's flags."""
  help_text = "The model to measure."
  define.multi_enum("model", MODELS, list(configs.CONFIGS), help_text)
  help_text = "The mode to measure."
  modes = [mode for mode in configs.RNN_MODES if is_for_here(mode)]
  define.multi_enum("rnn_mode", modes, configs.RNN_MODES, help_text)
  help_text = "The type of the matrix products to measure."
  dtypes = ["float32", "bfloat16"]
  define.multi_enum("dtype", dtypes, DTYPES, help_text)
  define.boolean("peers", False, "Also measure PyTorch.")
  help_text = "The folder of another checkout to measure as well."
  define.path("old", None, help_text)
  define.integer("rounds", 5, "How many times to measure everything.", 1)
  help_text = "The least number of seconds to train in a round."
  define.float("seconds", 3.0, help_text, 0, 3600)
  define.path("json", None, "The file to write all numbers to.")


@command.entry_point("benchmark.py", define_flags)
def main(args):
  """Measures as the flags say; returns 1 if nothing could be measured."""
  if args.old and not os.path.isfile(os.path.join(args.old, "ptb_word_lm.py")):
    raise InputError(
      f"--old={args.old} has no ptb_word_lm.py: give the folder of a checkout."
    )
  if args.peers and importlib.util.find_spec("torch") is None:
    raise InputError("--peers needs PyTorch: install measure/requirements.txt.")
  report = {"about": describe_machine(), "rows": []}

  def write():
    if args.json:
      files.write_file(args.json, json.dumps(report, indent=2) + "\n")

  write()  # Before hours of measuring: can it be written?
  facts = ", ".join(f"{k} {v}" for k, v in report["about"].items())
  print(facts + "\n", flush=True)
  for model in args.model:
    rows = compare(model, args)
    print_table(rows)
    report["rows"] += rows
    write()  # Each time: a later table cannot lose it.
  return int(all("error" in row for row in report["rows"]))


if __name__ == "__main__":
  sys.exit(main())
