"""Does the exercises of docs/tutorial.md, and prints what each reaches.

  .venv/bin/python measure/exercises.py [NUMBER...]

Trains on the sample corpus, or on the texts in the folder --data_path, in a
copy of the project. Without a NUMBER, it does all exercises.
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
  imports.quietly()

from absl import flags

from lm.base import command
from lm.text import sample_corpus

PAGE = ROOT / "docs" / "tutorial.md"
CHANGED = "ptb_word_lm.py"  # The file that the changes are for.


@dataclasses.dataclass(frozen=True)
class Exercise:
  """What to change, and the command to start."""

  number: str
  title: str
  change: str  # Lines that begin with a space, "-" or "+"; or "".
  command: str

  def apply(self, text):
    """Returns a text with the change; ValueError unless it has one place."""
    lines = self.change.splitlines(keepends=True)
    old = "".join(line[1:] for line in lines if line[0] in " -")
    new = "".join(line[1:] for line in lines if line[0] in " +")
    if lines and text.count(old) != 1:
      raise ValueError(f"exercise {self.number}: not one place has\n{old}")
    return text.replace(old, new) if lines else text


def read(page):
  """Returns the exercises of the tutorial's text."""
  pattern = r"### (\d+)\. (.*)\n((?s:.*?))```sh\n((?s:.*?))```"
  return [
    Exercise(
      number, title, "".join(re.findall("(?s)```diff\n(.*?)```", text)), lines
    )
    for number, title, text, lines in re.findall(pattern, page)
  ]


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
    shutil.copytree(ROOT / "lm", f"{folder}/lm")
    for path in ROOT.glob("*.py"):
      shutil.copy(path, folder)
    changed = pathlib.Path(folder) / CHANGED
    changed.write_text(exercise.apply(changed.read_text()))
    for line in exercise.command.splitlines():
      _, *arguments = line.split()
      given = ["--data_path=sample-corpus", f"--data_path={data_path}"]
      arguments[arguments.index(given[0])] = given[1]
      start = time.perf_counter()
      result = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
      )
      seconds = time.perf_counter() - start
      if result.returncode:
        raise command.InputError(result.stderr.strip().splitlines()[-1])
      found = dict(
        re.findall(r"(?m)^.*?(\w+) Perplexity: ([\d.]+)$", result.stdout)
      )
      numbers = ", ".join(f"{k.lower()} {found[k]}" for k in found)
      print(
        f"{line.partition(' ')[2]}\n  {numbers}; {seconds:.0f} s", flush=True
      )


def define_flags():
  """Defines the command line's flags."""
  flags.DEFINE_string("data_path", None, "The texts; None: the sample corpus.")


@command.entry_point("exercises.py", arguments=99)
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
  command.start(main, define_flags)
