#!/usr/bin/env python3
"""Kills a training repeatedly, and compares it with an undisturbed one.

  .venv/bin/python measure/torture.py [--kills=100] [--epochs=30] [--seed=1]

A model is trained once without disturbance. The same command is then started
repeatedly, with a checkpoint after nearly every step, and killed (by SIGKILL,
which no process can catch) at random moments. Every ninth time the disk is full
instead, simulated by a limit on the size of files. Every third time something
is damaged: a checkpoint, epochs.jsonl or the vocabulary; or all files are dated
years ahead. When the run has ended, its weights, the LSTM's state and the
perplexities of all epochs and of the test must equal those of the undisturbed
run, bit for bit. The exit status is 1 if they do not.
"""

import contextlib
import os
import pathlib
import random
import resource
import shutil
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from lm.base import imports

if __name__ == "__main__":
  imports.report_failures()

import plot_run
import processes

from lm.base import command, tf1
from lm.base.command import InputError

HPARAMS = (
  "hidden_size=200,num_steps=5,keep_prob=0.8,learning_rate=2,init_scale=0.3,"
  "max_epoch=3"
)


class Run:
  """A training in a folder that is started repeatedly."""

  def __init__(self, folder, epochs, draw=None):
    self.folder, self._epochs, self._draw = folder, epochs, draw
    self._damaged = 0  # The step of the newest checkpoint that was damaged.

  def _command_line(self, checkpoint_minutes):
    """Returns the arguments of processes.start for the training."""
    return [
      "ptb_word_lm.py",
      f"--save_path={self.folder}",
      f"--data_path={ROOT}/lm/testdata/tf1_tiny",
      f"--hparams={HPARAMS},max_max_epoch={self._epochs}",
      f"--checkpoint_minutes={checkpoint_minutes}",
    ]

  def finish(self):
    """Trains to the end; returns all results of the run except times."""
    processes.run(*self._command_line(checkpoint_minutes=10))
    lines = plot_run.read_json(self.folder / "epochs.jsonl")
    lines.append(plot_run.read_json(self.folder / "result.json"))
    results = {f"line {n}": line for n, line in enumerate(lines, 1)}
    for numbers in lines:
      del numbers["wps"], numbers["train_seconds"]
    for name in ("checkpoint", "best_checkpoint"):
      results[name] = (self.folder / name).read_text()
    last = tf1.train.latest_checkpoint(str(self.folder))
    reader = tf1.train.load_checkpoint(last)
    for name in reader.get_variable_to_shape_map():
      if name != "progress/json":  # It has times, and the lines above.
        results[name] = reader.get_tensor(name).tobytes()
    return results

  def disturb(self, is_disk_full):
    """Starts the training; at a random moment, kills it or fills the disk.

    Returns a description; None if the training ended before that moment.
    """
    draw = self._draw
    command_line = self._command_line(draw.choice([0, 0, 0, 0.005]))
    with processes.start(*command_line) as process:
      try:
        is_started = draw.random() < 0.9
        if is_started:
          process.stdout.readline()  # "Epoch: 1 Learning rate: 2.000"
        seconds = draw.uniform(0, 2 if is_started else 4)
        time.sleep(seconds)
        if is_disk_full:
          with contextlib.suppress(ProcessLookupError):
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (5000, 5000))
          process.communicate(timeout=600)
      finally:
        process.kill()
      _, errors = process.communicate()
    status = process.returncode
    if status == 0:
      return None
    if status != (1 if is_disk_full else -9) or "Traceback" in errors:
      raise InputError(f"A training ended with status {status}: {errors}")
    event = "the disk was full" if is_disk_full else "killed"
    moment = f"{seconds:.2f} s {'after' if is_started else 'into'} its start"
    errors = " ".join(errors.split())
    return f"{event} {moment}; checkpoints {self._steps()}; stderr: {errors}"

  def _steps(self):
    """Returns the global steps of the checkpoints, the newest last."""
    return sorted(int(p.stem[11:]) for p in self.folder.glob("model*.index"))

  def damage(self):
    """Damages something in the folder; returns a description."""
    draw, steps = self._draw, self._steps()
    names = ["the clock", "vocabulary.txt", "epochs.jsonl"]
    # The checkpoint before a damaged one must be intact.
    if len(steps) > 1 and steps[-2] > self._damaged:
      newest = f"model.ckpt-{steps[-1]}"
      names += [f"{newest}.index", f"{newest}.data-00000-of-00001"] * 2
    path = self.folder / draw.choice(names)
    content = bytearray(path.read_bytes() if path.exists() else b"")
    if not content:
      for each in self.folder.iterdir():
        os.utime(each, (2e9, 2e9))  # In 2033: all new files will be older.
      return "dated all files years ahead"
    if path.name == "vocabulary.txt":
      path.unlink()
      return "removed vocabulary.txt"
    if path.name != "epochs.jsonl":
      self._damaged = steps[-1]
    place = draw.randrange(len(content))
    if draw.random() < 0.5:
      path.write_bytes(content[:place])
      return f"cut {path.name} off at byte {place} of {len(content)}"
    content[place] ^= 1 << draw.randrange(8)
    path.write_bytes(content)
    return f"flipped a bit in byte {place} of {path.name}"


def define_flags(define):
  """Defines the command line's flags."""
  define.integer("kills", 100, "The number of kills.", 1)
  help_text = "The number of epochs to train, each of 128 steps."
  define.integer("epochs", 30, help_text, 1)
  define.integer("seed", 1, "The seed of the random moments and the damage.")


@command.entry_point("torture.py", define_flags)
def main(args):
  """Trains, kills and compares; returns the exit status."""
  folder, draw = pathlib.Path(tempfile.mkdtemp()), random.Random(args.seed)
  command.tell(f"The runs are in {folder}, which is removed if all are equal.")
  expected = Run(folder / "untouched", args.epochs).finish()
  last = expected[f"line {args.epochs}"]
  print(f"An untouched run reached {last}.", flush=True)
  kills = runs = differing = 0
  while kills < args.kills:
    runs += 1
    run = Run(folder / f"tortured-{runs}", args.epochs, draw)
    while kills < args.kills and (event := run.disturb(kills % 9 == 8)):
      kills += 1
      if kills % 3 == 0 and run.folder.exists():
        event += f"; then this script {run.damage()}"
      print(f"{kills}, run {runs}: {event}", flush=True)
    results = run.finish()
    names = expected.keys() | results.keys()
    wrong = sorted(n for n in names if results.get(n) != expected.get(n))
    differing += bool(wrong)
    result = f"differs in {', '.join(wrong)}" if wrong else "is equal"
    print(f"Run {runs} {result}, after {kills} kills in all.", flush=True)
  print(f"{kills} kills, {runs} runs, of which {differing} differ.")
  if not differing:
    shutil.rmtree(folder)
  return int(differing > 0)


if __name__ == "__main__":
  sys.exit(main())
