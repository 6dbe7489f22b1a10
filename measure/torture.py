#!/usr/bin/env python3
"""Kills a training over and over, and compares it with an untouched one.

  .venv/bin/python scripts/torture.py [--kills=100] [--seed=1]

A model is trained once in peace. The same command is then started again
and again, with a checkpoint after each step, and killed (SIGKILL, which no
process can catch) at random moments: while it starts, trains, validates, and,
most of the time, while it writes. Now and then the disk gets full instead, for
which a limit on the size of files stands in. Every third time something is
damaged: a checkpoint, epochs.jsonl, the vocabulary; or the clock is set back.
When the run has come to its end, the weights, the LSTM's state and the
perplexities of all epochs and of the test must be those of the untouched run,
bit for bit. Exit status 1 if they are not.
"""

import argparse
import contextlib
import json
import os
import pathlib
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
HPARAMS = (
  "hidden_size=200,num_steps=5,keep_prob=0.8,learning_rate=2,init_scale=0.3,"
  "max_epoch=3,max_max_epoch={}"
)
TIMES = ("wps", "train_seconds")  # The numbers that may differ.


def command(folder, epochs, *flags):
  """Returns the command that trains in a folder."""
  return [
    sys.executable,
    str(ROOT / "ptb_word_lm.py"),
    f"--data_path={ROOT / 'lm' / 'testdata' / 'tf1_tiny'}",
    f"--hparams={HPARAMS.format(epochs)}",
    f"--save_path={folder}",
    *flags,
  ]


def damage(folder, draw, last):
  """Damages something in the folder of a run.

  Args:
    folder: of the run.
    draw: a random.Random.
    last: the step of the last checkpoint that was damaged; the one before it
      must be whole, so the next is damaged only when two have come after.

  Returns:
    (what was done, in words, the new `last`).
  """
  folder = pathlib.Path(folder)
  steps = sorted(int(p.stem[11:]) for p in folder.glob("model.ckpt-*.index"))
  ways = ["vocabulary.txt", "the clock"]
  if (folder / "epochs.jsonl").exists():
    ways.append("epochs.jsonl")
  if len(steps) > 1 and steps[-2] > last:
    ways += ["data", "index"] * 2
  way = draw.choice(ways)
  if way == "the clock":
    for path in folder.iterdir():
      os.utime(path, (2e9, 2e9))  # In 2033: all to come will be older.
    return "set the clock back by years", last
  if way == "vocabulary.txt":
    (folder / way).unlink(missing_ok=True)
    return "removed vocabulary.txt", last
  path = folder / "epochs.jsonl"
  if way in ("data", "index"):
    (path,) = folder.glob(f"model.ckpt-{steps[-1]}.{way}*")
    last = steps[-1]
  content = bytearray(path.read_bytes())
  place = draw.randrange(len(content) or 1)
  if draw.random() < 0.5 or not content:
    path.write_bytes(content[:place])
    return f"cut {path.name} off at byte {place} of {len(content)}", last
  content[place] ^= 1 << draw.randrange(8)
  path.write_bytes(content)
  return f"flipped a bit in byte {place} of {path.name}", last


def kill_once(folder, epochs, draw, is_disk_full=False):
  """Starts the run and kills it at a random moment.

  Args:
    folder: of the run.
    epochs: of the run.
    draw: a random.Random.
    is_disk_full: whether the disk is full after that moment, and the process
      left to end by itself.

  Returns:
    What happened, in words; None if the run came to its end first.

  Raises:
    RuntimeError: if it ended with an error of its own.
  """
  minutes = draw.choice([0, 0, 0, 0.005])  # Mostly after each step.
  args = command(folder, epochs, f"--checkpoint_minutes={minutes}")
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
      if is_disk_full:
        with contextlib.suppress(ProcessLookupError):
          resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (5000, 5000))
        process.communicate(timeout=600)
    finally:
      process.kill()
    _, errors = process.communicate()
  if process.returncode == 0:
    return None
  expected = 1 if is_disk_full else -9
  if process.returncode != expected or "Traceback" in errors:
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
    ("the disk was full " if is_disk_full else "killed ")
    + f"{limit:.2f} s {when}; checkpoints of steps {sorted(steps)}"
    + (f"; in the middle of {len(halves)} file(s)" if halves else "")
    + (f"; it had said: {' '.join(told)}" if told else "")
  )


def finish(folder, epochs):
  """Trains to the end.

  Raises:
    RuntimeError: if it ended with an error.
  """
  process = subprocess.run(
    command(folder, epochs), capture_output=True, text=True
  )
  if process.returncode:
    raise RuntimeError(f"{folder}: {process.stderr}")


def outcome(folder):
  """Returns all that a finished run reached, without times."""
  sys.path.insert(0, str(ROOT))
  from lm import checkpoints, tf1

  folder = pathlib.Path(folder)
  values = {}
  texts = [*(folder / "epochs.jsonl").read_text().splitlines()]
  texts.append((folder / "result.json").read_text())
  for number, text in enumerate(texts, 1):
    line = json.loads(text)
    for name in TIMES:
      del line[name]
    values[f"line {number}"] = line
  last = checkpoints.find(str(folder), "last")
  for which in ("best", "last"):
    path = pathlib.Path(checkpoints.find(str(folder), which))
    state = "best_checkpoint" if which == "best" else "checkpoint"
    values[which] = (path.name, (folder / state).read_text())
  reader = tf1.train.load_checkpoint(last)
  for name in reader.get_variable_to_shape_map():
    if name != "progress/json":  # It has times, and the lines above.
      values[name] = reader.get_tensor(name).tobytes()
  return values


def main(argv=None):
  """Tortures as the arguments say; returns the exit status."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--kills", type=int, default=100, help="how many")
  parser.add_argument("--epochs", type=int, default=30, help="of 128 steps")
  parser.add_argument("--seed", type=int, default=1, help="of the moments")
  args = parser.parse_args(argv)
  if min(args.kills, args.epochs) < 1:
    parser.error("--kills and --epochs must be at least 1.")
  folder = tempfile.mkdtemp()
  try:
    differing = torture(folder, args.kills, args.epochs, args.seed)
  except (OSError, ValueError, RuntimeError) as error:
    print(f"It failed: {error}")
    differing = 1
  if differing:
    print(f"What there is to see is left in {folder}.")
    return 1
  shutil.rmtree(folder)
  return 0


def torture(folder, most_kills, epochs, seed):
  """Does what the top of this file says; returns how many runs differ."""
  draw = random.Random(seed)
  untouched = f"{folder}/untouched"
  finish(untouched, epochs)
  expected = outcome(untouched)
  print(f"An untouched run reached {expected[f'line {epochs}']}.", flush=True)
  kills, runs, differing = 0, 0, 0
  while kills < most_kills:
    runs += 1
    tortured = f"{folder}/tortured-{runs}"
    last = 0
    while kills < most_kills:
      happened = kill_once(tortured, epochs, draw, kills % 9 == 8)
      if happened is None:
        break
      kills += 1
      if kills % 3 == 0 and os.path.isdir(tortured):
        done, last = damage(tortured, draw, last)
        happened += f"; then the script {done}"
      print(f"{kills}, run {runs}: {happened}", flush=True)
    finish(tortured, epochs)
    found = outcome(tortured)
    wrong = [n for n in expected if found.get(n) != expected[n]]
    wrong += [n for n in found if n not in expected]
    differing += bool(wrong)
    told = f"differs in {', '.join(wrong)}" if wrong else "is equal"
    print(f"Run {runs} {told}, after {kills} kills in all.", flush=True)
  print(f"{kills} kills, {runs} runs, of which {differing} differ.")
  return differing


if __name__ == "__main__":
  sys.exit(main())
