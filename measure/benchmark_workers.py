#!/usr/bin/env python3
"""Measures the cost of training with several workers.

  .venv/bin/python measure/benchmark_workers.py --workers=1 --workers=2

For each model and number of workers it trains two epochs with ptb_word_lm.py,
measures the second one, and prints a line of JSON:

  ms        time of a step; with --workers=1 there is no exchange in it
  mbytes    what each worker sends in a step, on average, counted by the kernel

All workers run on this machine, in a network of their own (see launch_local.py)
without other traffic. The words of the texts are drawn at random.
"""

import json
import pathlib
import sys
import tempfile

import psutil

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from lm.base import imports

if __name__ == "__main__":
  imports.report_failures()

import launch_local
import plot_run
import processes

from lm.base import command

MODELS = ("small", "medium", "large", "test")


def write_texts(folder, model, batch_size, steps):
  """Writes texts: to train on, all words and then `steps` random batches."""
  # Imported here, when this process has its own network: numpy starts threads,
  # and the system may refuse a network to a process with threads.
  from benchmark_worker import draw_ids

  import configs

  config = configs.CONFIGS[model](batch_size=batch_size)
  texts = {"train": [*range(config.vocab_size), *draw_ids(config, steps)]}
  texts["valid"] = draw_ids(config, steps=1)
  texts["test"] = texts["valid"][: config.num_steps]
  for part, ids in texts.items():
    words = ["\n" if id_ == 0 else f"word{id_}" for id_ in ids]
    pathlib.Path(folder, f"ptb.{part}.txt").write_text(" ".join(words))


def measure(args, model, workers):
  """Trains two epochs; returns the second's (seconds, bytes sent) of a step."""
  sent = {}  # At the lines "Epoch: 2 Learning rate" and "Epoch: 2 Train".
  with tempfile.TemporaryDirectory() as folder:
    write_texts(folder, model, args.batch_size, args.steps)
    with processes.start(
      *("scripts/launch_local.py", "-n", workers),
      "--open_ports",  # They are open in this process's own network only.
      *(f"--data_path={folder}", f"--save_path={folder}/run"),
      f"--model={model}",
      f"--hparams=max_max_epoch=2,batch_size={args.batch_size}",
      *["--exchange_fp16"] * args.exchange_fp16,
    ) as process:
      for line in process.stdout:
        if line.startswith(("Epoch: 2 Learning rate", "Epoch: 2 Train")):
          sent[line.split()[2]] = bytes_sent()
      processes.finish(process)
    first, second = plot_run.read_json(pathlib.Path(folder, "run/epochs.jsonl"))
  steps = second["global_step"] - first["global_step"]
  sent_in_epoch = sent["Train"] - sent["Learning"]
  return second["train_seconds"] / steps, sent_in_epoch / steps


def bytes_sent():
  """Returns the number of bytes that this network's loopback has carried."""
  return psutil.net_io_counters(pernic=True)["lo"].bytes_sent


def define_flags(define):
  """Defines the command line's flags."""
  define.multi_enum("model", ["small"], MODELS, "Repeat it for several.")
  help_text = "The number of workers. Repeat it for several."
  define.multi_integer("workers", [1, 2], help_text, lower_bound=1)
  define.integer("batch_size", 20, "The batch size of all workers together.", 1)
  define.integer("steps", 50, "The least number of steps to measure.", 1)
  define.boolean("exchange_fp16", False, "See ptb_word_lm.py.")


@command.entry_point("benchmark_workers.py", define_flags)
def main(args):
  """Measures as the flags say; returns the exit status."""
  launch_local.enter_own_network()  # It has no other traffic to count.
  for model in args.model:
    for workers in args.workers:
      seconds, sent = measure(args, model, workers)
      result = {
        "model": model,
        "workers": workers,
        "batch_size": args.batch_size,
        "exchange": "bfloat16" if args.exchange_fp16 else "float32",
        "ms": round(1e3 * seconds, 2),
        "mbytes": round(sent / workers / 1e6, 3),
      }
      print(json.dumps(result), flush=True)
  return 0


if __name__ == "__main__":
  sys.exit(main())
