"""Does the exercises of docs/tutorial.md, and prints what each reaches.

  .venv/bin/python measure/exercises.py [NUMBER...]

Trains on the sample corpus, or on the texts in the folder --data_path, in a
copy of the project. Without a NUMBER, it does all exercises.
"""

import dataclasses
import pathlib
import re
import shutil
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lm.base import imports

if __name__ == "__main__":
  imports.explain_missing()

import processes

from lm.base import command
from lm.text import sample_corpus

PAGE = ROOT / "docs" / "tutorial.md"


@dataclasses.dataclass(frozen=True)
class Exercise:
  """What to change, and the command to start."""

  number: str
  title: str
  file: str  # The path of the file to change, or "".
  change: str  # Its lines begin with a space, "-" or "+".
  command: str  # Or several, each on a line.

  def apply(self, text):
    """Returns a text with the change; ValueError unless it has one place."""
    lines = self.change.splitlines(keepends=True)
    old = "".join(line[1:] for line in lines if line[0] in " -")
    new = "".join(line[1:] for line in lines if line[0] in " +")
    if text.count(old) != 1:
      raise ValueError(f"exercise {self.number}: not one place has\n{old}")
    return text.replace(old, new)


def read(page):
  """Returns the exercises of the tutorial's text."""
  pattern = r"### (\d+)\. (.*)\n((?s:.*?))```sh\n((?s:.*?))```"
  found = []
  for number, title, text, lines in re.findall(pattern, page):
    diff = re.search(r"(?s)```diff\n--- a/(\S+)\n\+\+\+ \S+\n(.*?)```", text)
    file, change = diff.groups() if diff else ("", "")
    found.append(Exercise(number, title, file, change, lines))
  return found


def choose(numbers):
  """Returns the page's exercises with these numbers; all if there are none.

  Raises InputError for a number that is not the number of an exercise.
  """
  found = {exercise.number: exercise for exercise in read(PAGE.read_text())}
  for number in numbers:
    if number not in found:
      raise command.InputError(
        f"{PAGE.name} has no exercise {number}, but {', '.join(found)}."
      )
  return [found[number] for number in numbers or found]


def do(exercise, data_path):
  """Trains as an exercise says; prints a line for each of its commands."""
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    shutil.copytree(ROOT / "lm", folder / "lm")
    for path in ROOT.glob("*.py"):
      shutil.copy(path, folder)
    if exercise.file:
      path = folder / exercise.file
      path.write_text(exercise.apply(path.read_text()))
    for line in exercise.command.splitlines():
      _, script, *args = line.split()
      texts = args.index("--data_path=sample-corpus")
      args[texts] = f"--data_path={data_path}"
      start = time.perf_counter()
      out = processes.run(folder / script, *args)
      seconds = time.perf_counter() - start
      found = dict(re.findall(r"(?m)(\w+) Perplexity: ([\d.]+)$", out))
      numbers = ", ".join(f"{k.lower()} {v}" for k, v in found.items())
      print(
        f"{line.partition(' ')[2]}\n  {numbers}; {seconds:.0f} s", flush=True
      )


def define_flags(define):
  """Defines the command line's flags."""
  define.string("data_path", None, "The texts; None: the sample corpus.")


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
