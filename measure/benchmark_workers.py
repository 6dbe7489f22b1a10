#!/usr/bin/env python3
"""Measures what it costs several workers to train together.

  .venv/bin/python measure/benchmark_workers.py --workers=1 --workers=2

For each model and number of workers it trains twice with ptb_word_lm.py, on a
short text and on a longer one. The difference between the two runs is what the
additional steps cost, without start, validation and end. For each it prints a
line of JSON:

  ms        time of a step; with --workers=1 there is no exchange in it
  mbytes    what each worker sends in a step, on average, counted by the kernel

All workers run on this machine, in a network of their own (see launch_local.py)
where nothing else is counted. The texts' words are drawn at random.
"""

import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile

import psutil

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from lm.base import imports

if __name__ == "__main__":
  imports.quietly()

import launch_local
from absl import flags

import configs
from lm.base import command
from lm.base.command import InputError


def write_texts(folder, config, steps):
  """Writes a text of all words and so many batches, to train on."""
  # Not before this process has its own network: numpy starts threads, and the
  # system may refuse a network to a process that has some.
  from benchmark_worker import draw_ids

  texts = {"train": [*range(config.vocab_size), *draw_ids(config, steps)]}
  texts["valid"] = draw_ids(config, steps=1)
  texts["test"] = texts["valid"][: config.num_steps]
  for part, ids in texts.items():
    words = ["\n" if id_ == 0 else f"word{id_}" for id_ in ids]
    pathlib.Path(folder, f"ptb.{part}.txt").write_text(" ".join(words))


def train(config, args, model, workers, steps):
  """Trains an epoch; returns its steps, its seconds and all bytes sent."""
  with tempfile.TemporaryDirectory() as folder:
    write_texts(folder, config, steps)
    before = bytes_sent()
    process = subprocess.run(
      [
        *(sys.executable, launch_local.__file__, "-n", str(workers)),
        "--open_ports",  # They are open in this process's own network only.
        *(f"--data_path={folder}", f"--save_path={folder}/run"),
        f"--model={model}",
        f"--hparams=max_max_epoch=1,batch_size={config.batch_size}",
        *["--exchange_fp16"] * args.exchange_fp16,
      ],
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
    )
    if process.returncode:
      raise InputError(f"{workers} workers failed: {process.stderr}")
    epoch = json.loads(pathlib.Path(folder, "run/epochs.jsonl").read_text())
  return epoch["global_step"], epoch["train_seconds"], bytes_sent() - before


def bytes_sent():
  """Returns how many bytes this network's loopback has carried."""
  return psutil.net_io_counters(pernic=True)["lo"].bytes_sent


def define_flags():
  """Defines the command line's flags."""
  models = list(configs.CONFIGS)
  flags.DEFINE_multi_enum("model", ["small"], models, "Repeat it for several.")
  flags.DEFINE_multi_integer("workers", [1, 2], "How many.", lower_bound=1)
  flags.DEFINE_integer("batch_size", 20, "Of all workers.", 1)
  flags.DEFINE_integer("steps", 50, "How many to measure.", 1)
  flags.DEFINE_boolean("exchange_fp16", False, "See ptb_word_lm.py.")


@command.entry_point("benchmark_workers.py")
def main(args):
  """Measures as the flags say; returns the exit status."""
  launch_local.enter_own_network()  # In it, nothing else is counted.
  for model in args.model:
    config = configs.CONFIGS[model]()
    config = dataclasses.replace(config, batch_size=args.batch_size)
    for workers in args.workers:
      short = train(config, args, model, workers, 1)
      long = train(config, args, model, workers, 1 + args.steps)
      steps, seconds, sent = (b - a for a, b in zip(short, long, strict=True))
      result = {"model": model, "workers": workers}
      result["batch_size"] = args.batch_size
      result["exchange"] = "bfloat16" if args.exchange_fp16 else "float32"
      result["ms"] = round(1e3 * seconds / steps, 2)
      result["mbytes"] = round(sent / steps / workers / 1e6, 3)
      print(json.dumps(result), flush=True)
  return 0


if __name__ == "__main__":
  command.start(main, define_flags)
