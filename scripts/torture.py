#!/usr/bin/env python3
"""Kills a training over and over, and compares it with an untouched one.

  .venv/bin/python scripts/torture.py [--kills=100] [--seed=1]

A small model is trained once in peace. The same command is then started again
and again, with a checkpoint after each step, and killed (SIGKILL, which no
process can catch) at random moments: while it starts, trains, validates, and,
most of the time, while it writes. When it has come to its end, the weights, the
LSTM's state and the perplexities of all epochs and of the test must be those of
the untouched run, bit for bit. Exit status 1 if they are not.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
HPARAMS = (
  "hidden_size=8,num_steps=5,keep_prob=0.8,learning_rate=2,init_scale=0.3,"
  "max_epoch=3,max_max_epoch={}"
)
TIMES = ("wps", "train_seconds")  # The numbers that may differ.


def command(folder, epochs, *flags):
  """Returns the command that trains in a folder."""
  return [
    sys.executable,
    str(ROOT / "ptb_word_lm.py"),
    f"--data_path={ROOT / 'testdata' / 'tf1_tiny'}",
    f"--hparams={HPARAMS.format(epochs)}",
    f"--save_path={folder}",
    *flags,
  ]


def kill_once(folder, epochs, draw):
  """Starts the run and kills it at a random moment.

  Args:
    folder: of the run.
    epochs: of the run.
    draw: a random.Random.

  Returns:
    What happened, in words; None if the run came to its end first.

  Raises:
    RuntimeError: if it ended with an error of its own.
  """
  args = command(folder, epochs, "--checkpoint_minutes=0")
  with subprocess.Popen(
    args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  ) as process:
    try:
      when = "while it started"
      limit = draw.uniform(0, 4)
      if draw.random() < 0.9:  # Else it may not even have loaded TensorFlow.
        process.stdout.readline()  # "Epoch: 1 Learning rate: 1.000"
        when = "after its start"
        limit = draw.uniform(0, 2)
      time.sleep(limit)
    finally:
      process.kill()
    _, errors = process.communicate()
  if process.returncode == 0:
    return None
  if process.returncode != -9:
    raise RuntimeError(f"it ended with {process.returncode}: {errors}")
  names = [path.name for path in pathlib.Path(folder).glob("*")]
  steps = [int(n[11:-6]) for n in names if n.endswith(".index")]
  halves = [n for n in names if ".tempstate" in n or n.endswith(".tmp")]
  told = [
    line.rstrip()
    for line in errors.splitlines()
    if not line.startswith(("Training the", "Going on"))
  ]
  return (
    f"{limit:.2f} s {when}; checkpoints of steps {sorted(steps)}"
    + (f"; in the middle of {len(halves)} file(s)" if halves else "")
    + (f"; it had said: {' '.join(told)}" if told else "")
  )


def outcome(folder):
  """Returns all that a finished run reached, without times."""
  sys.path.insert(0, str(ROOT))
  import tf1

  folder = pathlib.Path(folder)
  values = {}
  texts = [*(folder / "epochs.jsonl").read_text().splitlines()]
  texts.append((folder / "result.json").read_text())
  for number, text in enumerate(texts, 1):
    line = json.loads(text)
    for name in TIMES:
      del line[name]
    values[f"line {number}"] = line
  reader = tf1.train.load_checkpoint(str(folder))
  for name in reader.get_variable_to_shape_map():
    if name != "progress/rest":  # It has times, and the lines above.
      values[name] = reader.get_tensor(name).tobytes()
  return values


def main(argv=None):
  """Tortures as the arguments say; returns the exit status."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--kills", type=int, default=100, help="how many")
  parser.add_argument("--epochs", type=int, default=30, help="of 128 steps")
  parser.add_argument("--seed", type=int, default=1, help="of the moments")
  args = parser.parse_args(argv)
  draw = random.Random(args.seed)
  with tempfile.TemporaryDirectory() as folder:
    untouched = f"{folder}/untouched"
    subprocess.run(
      command(untouched, args.epochs), check=True, capture_output=True
    )
    expected = outcome(untouched)
    print(f"An untouched run reached {expected[f'line {args.epochs}']}.")
    kills, runs, differing = 0, 0, 0
    while kills < args.kills:
      runs += 1
      tortured = f"{folder}/tortured-{runs}"
      while kills < args.kills:
        happened = kill_once(tortured, args.epochs, draw)
        if happened is None:
          break
        kills += 1
        print(f"kill {kills}, run {runs}: {happened}", flush=True)
      subprocess.run(
        command(tortured, args.epochs), check=True, capture_output=True
      )
      found = outcome(tortured)
      wrong = [n for n in expected if found.get(n) != expected[n]]
      wrong += [n for n in found if n not in expected]
      differing += bool(wrong)
      told = f"differs in {', '.join(wrong)}" if wrong else "is equal"
      print(f"Run {runs} {told}, after {kills} kills in all.", flush=True)
  print(f"{kills} kills, {runs} runs, of which {differing} differ.")
  return int(differing > 0)


if __name__ == "__main__":
  sys.exit(main())
