"""Types the blocks of tutorial.md in order, and compares what they print."""

import code
import contextlib
import io
import os
import pathlib
import re
import shutil
import subprocess
import sys

import exercises
import pytest

import configs

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "tutorial.md").read_text()
# A block, and the block after it with its output. If that is marked "text", it
# is only an example.
BLOCK = re.compile(
  r"```(python|sh)\n(.*?)```(?:\n```(text)?\n(.*?)```)?", re.DOTALL
)
NUMBER = re.compile(r"\b\d[\d,]*(?:\.\d+)?")
SPEED = re.compile(r"speed: .* wps")
# Of numbers with a point, before and after the page has trained its model:
# processors round differently, and on one with AVX2, epoch 3 was 11% off. Other
# numbers must be the same.
UNTRAINED, TRAINED = 1e-3, 0.2


class Console(code.InteractiveConsole):
  """Runs lines as Python's prompt does, but raises errors."""

  def showtraceback(self):
    raise

  def showsyntaxerror(self, *args, **kwargs):
    raise


def type_in(lines, console):
  out = io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
    for line in [*lines.split("\n"), ""]:
      is_open = console.push(line)
  assert not is_open
  return out.getvalue()


def run_sh(command, folder):
  result = subprocess.run(
    ["bash", "-ec", command],
    cwd=folder,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  assert result.returncode == 0, result.stdout
  return result.stdout


def alike(expected, printed, tolerance):
  """Returns whether two lines have the same text and similar numbers."""
  expected, printed = (
    SPEED.sub("", line.rstrip()) for line in (expected, printed)
  )
  if NUMBER.split(expected) != NUMBER.split(printed):
    return False
  return all(
    float(b.replace(",", "")) == pytest.approx(float(a.replace(",", "")), rel)
    for a, b in zip(
      NUMBER.findall(expected), NUMBER.findall(printed), strict=True
    )
    for rel in [tolerance if "." in a else 0]
  )


def check_output(expected, printed, tolerance=TRAINED):
  """Compares lines; a line of three dots stands for any lines."""
  lines, begin, is_anywhere = printed.splitlines(), 0, False
  for line in expected.splitlines():
    if line == "...":
      is_anywhere = True
      continue
    places = range(begin, len(lines))[: None if is_anywhere else 1]
    place = next((i for i in places if alike(line, lines[i], tolerance)), None)
    assert place is not None, f"{line!r} is not in\n{printed}"
    begin, is_anywhere = place + 1, False
  assert is_anywhere or begin == len(lines), printed


def test_comparison():
  check_output("a\n...\nb 1.00 2\n", "a\nx\nb 1.02 2\n")
  for expected, printed in (
    ("b 1.00\n", "b 1.22\n"),
    ("b 100\n", "b 101\n"),
    ("b 1.0\n", "c 1.0\n"),
    ("a\n", "a\nb\n"),
    ("a\nb\n", "a\n"),
    ("a\n...\nb\n", "b\na\n"),
  ):
    with pytest.raises(AssertionError):
      check_output(expected, printed)


def make_folder(folder):
  """Makes a folder in which the commands of the page work."""
  for path in ROOT.iterdir():
    if path.suffix == ".py" or path.name in ("lm", "scripts", "LICENSE"):
      (folder / path.name).symlink_to(path)
  python = folder / ".venv" / "bin" / "python"
  python.parent.mkdir(parents=True)
  python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
  python.chmod(0o755)


def test_page(tmp_path, monkeypatch):
  make_folder(tmp_path)
  monkeypatch.chdir(tmp_path)
  console = Console({})
  course, _, _ = PAGE.partition("\n## 12. Exercises")
  outputs, tolerance = 0, UNTRAINED
  for kind, lines, is_example, expected in BLOCK.findall(course):
    if "-m venv" in lines:  # The tests run in one.
      continue
    if "train_epoch(" in lines:
      tolerance = TRAINED
    run = run_sh if kind == "sh" else type_in
    printed = run(lines, tmp_path if kind == "sh" else console)
    if not is_example:
      check_output(expected, printed, tolerance)
    outputs += bool(expected)
  console.locals["session"].close()
  assert outputs > 15


def test_exercises_fit_the_code(tmp_path):
  all_exercises = exercises.read_exercises(PAGE)
  assert [e.number for e in all_exercises] == [
    str(n) for n in range(len(all_exercises))
  ]
  changes = [exercise for exercise in all_exercises if exercise.diff]
  assert len(all_exercises) > 5
  assert len(changes) == PAGE.count("```diff\n") > 2
  for exercise in changes:
    name = re.match(r"--- a/(\S+)", exercise.diff)[1]
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / name, path)
    exercise.apply(tmp_path)
    assert path.read_text() != (ROOT / name).read_text()
    compile(path.read_text(), name, "exec")
  for exercise in all_exercises:
    for hparams in re.findall("--hparams=(.*)", exercise.commands):
      configs.override(configs.SmallConfig(), hparams)


def test_links():
  for target in re.findall(r"\]\((?!http)([^)#]*)(?:#[^)]*)?\)", PAGE):
    assert not target or os.path.exists(ROOT / "docs" / target), target
