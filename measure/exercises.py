"""Does the exercises of docs/tutorial.md, and prints their perplexities.

  .venv/bin/python measure/exercises.py [NUMBER...]

Each exercise trains in a copy of the project, on the sample corpus or on the
texts in the folder --data_path. Without a NUMBER, it does all exercises.
"""

import dataclasses
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lm.base import imports

if __name__ == "__main__":
  imports.report_failures()

import processes

from lm.base import command
from lm.text import sample_corpus

PAGE = ROOT / "docs" / "tutorial.md"


@dataclasses.dataclass(frozen=True)
class Exercise:
  """A change of the program, and the commands to run."""

  number: str
  title: str
  diff: str  # What to change; "" for nothing.
  commands: str  # One on each line.

  def apply(self, folder):
    """Changes the code in a folder, a copy of the project."""
    subprocess.run(
      ["git", "apply", "-"], input=self.diff, text=True, cwd=folder, check=True
    )


def read_exercises(page):
  """Returns the exercises in the tutorial's text, a list."""
  pattern = r"### (\d+)\. (.*)\n((?s:.*?))```sh\n((?s:.*?))```"
  exercises = []
  for number, title, text, commands in re.findall(pattern, page):
    diff = re.search(r"(?s)```diff\n(.*?)```", text)
    diff = diff[1] if diff else ""
    exercises.append(Exercise(number, title, diff, commands))
  return exercises


def choose(numbers):
  """Returns the page's exercises with these numbers; all without numbers.

  Raises InputError if the page has no exercise of a number.
  """
  exercises = {e.number: e for e in read_exercises(PAGE.read_text())}
  for number in numbers:
    if number not in exercises:
      raise command.InputError(
        f"{PAGE.name} has no exercise {number}. Choose from "
        f"{', '.join(exercises)}."
      )
  return [exercises[number] for number in numbers or exercises]


def do(exercise, data_path):
  """Runs the commands of an exercise; prints what each reaches."""
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    shutil.copytree(ROOT / "lm", folder / "lm")
    for path in ROOT.glob("*.py"):
      shutil.copy(path, folder)
    if exercise.diff:
      exercise.apply(folder)
    for line in exercise.commands.splitlines():
      _, script, *args = line.split()
      texts = args.index("--data_path=sample-corpus")
      args[texts] = f"--data_path={data_path}"
      print(line.partition(" ")[2], flush=True)
      start = time.perf_counter()
      try:
        out = processes.run(folder / script, *args)
      except command.InputError as e:
        if "not a finite number" not in str(e):
          raise
        print(f"  {e}", flush=True)  # It diverged, which is a result.
        continue
      seconds = time.perf_counter() - start
      last = dict(re.findall(r"(?m)(\w+) Perplexity: ([\d.]+)$", out))
      numbers = ", ".join(f"{k.lower()} {v}" for k, v in last.items())
      print(f"  {numbers}; {seconds:.0f} s", flush=True)


def define_flags(define):
  """Defines the command line's flags."""
  help_text = "The folder with the texts, instead of the sample corpus."
  define.path("data_path", None, help_text)


@command.entry_point("exercises.py", define_flags, arguments=99)
def main(args, *numbers):
  """Does the exercises with these numbers; returns the exit status."""
  chosen = choose(numbers)
  with tempfile.TemporaryDirectory() as folder:
    data_path = args.data_path and pathlib.Path(args.data_path).resolve()
    if not data_path:
      data_path = pathlib.Path(folder) / "sample-corpus"
      sample_corpus.write_corpus(data_path)
    for exercise in chosen:
      print(f"Exercise {exercise.number}: {exercise.title}", flush=True)
      do(exercise, data_path)
  return 0


if __name__ == "__main__":
  sys.exit(main())
