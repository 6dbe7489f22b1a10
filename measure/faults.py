#!/usr/bin/env python3
"""Tries faults that people meet on all commands, and judges their answers.

  .venv/bin/python measure/faults.py [--cases=400] [--seed=1] [--only=TEXT]

A case is a command that works, and one thing wrong with it: a flag's value, a
damaged file of a run or of the texts, the environment, a limit, or a signal at
a random moment. It is answered well if the command

* ends, within a minute, with the exit status 0 or 1, or by the signal;
* prints one sentence if the status is not 0;
* prints no traceback;
* with the status 0, prints the numbers of the undamaged run, or warns;
* changes no input, and leaves no half-made file or folder.

Cases are drawn at random from some hundred more. Each that is not answered well
is printed, then their number. The exit status is 1 if there are any.
"""

import concurrent.futures
import dataclasses
import functools
import hashlib
import importlib
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from lm.base import imports

if __name__ == "__main__":
  imports.explain_missing()

import processes
from absl import flags

from lm.base import command

SECONDS = 60  # Until a command counts as one that hangs.
TRAIN = "ptb_word_lm.py --data_path=text --model=test"
COMMANDS = {  # Each in a folder of its own with text/ and run/.
  "train": f"{TRAIN} --hparams=max_max_epoch=3 --save_path=run",
  "start": f"{TRAIN} --save_path=new",
  "init": f"{TRAIN} --init_from=run",
  "evaluate": "ptb_word_lm.py --data_path=text --evaluate --save_path=run",
  "score": "score.py --run=run --file=text/ptb.test.txt",
  "generate": "generate.py --run=run --num_words=5",
  "export": "export.py --run=run --export_dir=out",
  "prepare": "scripts/prepare_text.py --text=text/ptb.train.txt --output=out",
  "sample": "scripts/make_sample_corpus.py out --train_words=300",
  "plot": "scripts/plot_run.py run",
  "download": "scripts/download_ptb.py out",
  "workers": "scripts/launch_local.py -n 2 --data_path=text --model=test",
}
TRAINING = ("train", "start", "init", "workers")
VALUES = {  # Wrong values by the type of a flag.
  "int": ["", "x", "-1", "1e9"],
  "float": ["", "x", "-1", "nan", "inf"],
  "boolean": ["", "x"],
}
OTHER_VALUES = ["", "nonesuch", "run,run", "a*", "s3://x"]
OTHER_FLAGS = ["--nonesuch", "--flagfile=none", "--verbosity=x", "surplus"]
ENVIRONMENTS = [
  {"TF_CONFIG": "{"},
  {"TF_CONFIG": '{"cluster": 3}'},
  {"TF_CONFIG": '{"cluster": {"worker": ["a:1", "b:2"]}}'},
  {"PTB_URL": "http://127.0.0.1:1/"},
  {"PTB_URL": f"file://{ROOT}/README.md"},
  {"TF_ENABLE_ONEDNN_OPTS": "0"},
  {"CUDA_VISIBLE_DEVICES": "0"},
  {"PYTHONIOENCODING": "ascii"},
  {"MPLBACKEND": "TkAgg"},
  {"HOME": "/nonesuch"},
  {"TMPDIR": "/nonesuch"},
  {"LC_ALL": "C"},
]
SHELL = [  # How a shell starts it. A file can have so many KiB.
  *(f'ulimit -f {number}; "$@"' for number in (0, 8, 50)),
  'ulimit -n 20; "$@"',
  'mkdir gone; cd gone; rmdir ../gone; "$@"',
  '"$@" >/dev/full',
  '"$@" >&-',
  '"$@" | true',
]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DAMAGES = {  # What becomes of a file's bytes; None: it is removed.
  "is missing": lambda text: None,
  "is empty": lambda text: b"",
  "is cut off": lambda text: text[: len(text) // 2],
  "lacks its first line": lambda text: text.partition(b"\n")[2],
  "has Windows' line ends": lambda text: text.replace(b"\n", b"\r\n"),
  "is UTF-16": lambda text: text.decode("latin-1").encode("utf-16"),
  "has a wrong bit": lambda text: bytes(
    byte ^ (index == len(text) // 3) for index, byte in enumerate(text)
  ),
}
USERS = {  # Which commands read a folder.
  "run": ("train", "init", "evaluate", "score", "generate", "export", "plot"),
  "text": ("start", "evaluate", "prepare"),
}


@dataclasses.dataclass
class Case:
  """A command, and what is wrong."""

  name: str  # The command's in COMMANDS.
  what: str = ""  # In words, for a file with its name first.
  args: list = ()
  environment: dict = dataclasses.field(default_factory=dict)
  shell: str = 'exec "$@"'
  signal: int = 0
  moment: float = 0.0  # Of the signal, as a share of the usual seconds.
  damage: object = None  # A function of the folder.

  def __str__(self):
    return f"{self.name}, {self.what}"


@dataclasses.dataclass
class Answer:
  """How a command ended."""

  status: int | None  # None if it did not end.
  out: str
  err: str
  seconds: float
  before: dict  # What contents_of the folder were.
  after: dict


def answer_to(case, base, usual_seconds=0):
  """Tries a case in a copy of the folder `base`; returns its Answer."""
  script, *args = COMMANDS[case.name].split()
  argv = processes.command_line(script, *args, *case.args)
  with tempfile.TemporaryDirectory() as copy:
    folder = pathlib.Path(shutil.copytree(base, f"{copy}/folder"))
    if case.damage:
      case.damage(folder)
    before = contents_of(folder)
    start = time.perf_counter()
    with subprocess.Popen(
      ["bash", "-c", case.shell, "bash", *argv],
      cwd=folder,
      env={**os.environ, "PTB_URL": "file:///none", **case.environment},
      stdin=subprocess.DEVNULL,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      errors="replace",
      start_new_session=True,
    ) as process:
      if case.signal:
        time.sleep(case.moment * usual_seconds)
        process.send_signal(case.signal)
      try:
        output = process.communicate(timeout=SECONDS)
        status = process.returncode
      except subprocess.TimeoutExpired:
        status = None
        os.killpg(process.pid, signal.SIGKILL)
        output = process.communicate()
    seconds = time.perf_counter() - start
    return Answer(status, *output, seconds, before, contents_of(folder))


def contents_of(folder):
  """Returns {name: checksum} of the files in a folder and below."""
  return {
    str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).digest()
    for path in folder.rglob("*")
    if path.is_file() and path.name != ".lock"
  }


def numbers_in(name, out):
  """Returns the part of a command's output that must always be the same."""
  if name in TRAINING:
    return re.findall("^Test Perplexity: .*", out, re.MULTILINE)
  return out if name in ("evaluate", "score", "generate") else None


def faults_of(case, answer, usual):
  """Yields what is wrong with an answer; `usual` is that without the fault."""
  status, err, after = answer.status, answer.err, answer.after
  if status not in (0, 1, 2, -case.signal, 128 + case.signal):
    yield "it hangs" if status is None else f"its exit status {status}"
  if re.search("Traceback|Fatal Python|Exception ignored|dumped", err):
    yield "a traceback"
  said = [line for line in err.splitlines() if line.strip()]
  if status and not case.signal:
    if not said or said[-1].rstrip()[-1:] not in tuple(".?)"):
      yield "no sentence"
    elif len(said) > (12 if case.name == "workers" else 6):
      yield "too many lines"
  if status == 0 and not said and case.what.startswith("run/"):
    numbers, wanted = (numbers_in(case.name, a.out) for a in (answer, usual))
    if numbers != wanted:
      yield "other numbers, and no warning"
  halves = [n for n in after if re.search(r"\.tmp|\.making|tempstate", n)]
  if halves:
    yield f"it leaves {min(halves)}"
  made, wanted = (
    {name for name in found if name.startswith("out/")}
    for found in (after, usual.after)
  )
  if status and made and made != wanted:
    yield "it leaves an incomplete folder"
  if case.name not in TRAINING:
    before = answer.before.items()
    lost = {name for name, content in before if after.get(name) != content}
    if lost - {"run/perplexity.svg"}:
      yield f"it changes {min(lost)}"
  elif has_checkpoint(answer.before) and not has_checkpoint(after):
    yield "it loses all checkpoints"


def has_checkpoint(contents):
  """Says whether there is a checkpoint among what contents_of returned."""
  return any(name.endswith(".index") for name in contents)


def cases(draw, base):
  """Returns all cases, in a random order."""
  found = []
  for name in ("train", "score", "generate", "export", "prepare", "sample"):
    for flag, kind in flags_of(name):
      for value in VALUES.get(kind, OTHER_VALUES):
        found.append(Case(name, f"--{flag}={value}", [f"--{flag}={value}"]))
  for name in COMMANDS:
    found += [Case(name, flag, [flag]) for flag in OTHER_FLAGS]
    found += [Case(name, str(e), environment=e) for e in ENVIRONMENTS]
    found += [Case(name, shell, shell=shell) for shell in SHELL]
    for each in 2 * SIGNALS:
      moment = draw.uniform(0.02, 1)
      what = f"{each.name} at {moment:.3f} of its time"
      found.append(Case(name, what, signal=each, moment=moment))
  for folder, users in USERS.items():
    for path in sorted(base.glob(f"{folder}/*")):
      file = f"{folder}/{path.name}"
      for how, change in DAMAGES.items():
        damage = functools.partial(damage_file, file, change)
        what = f"{file} {how}"
        found += [Case(name, what, damage=damage) for name in users]
  draw.shuffle(found)
  return found


def damage_file(name, change, folder):
  """Changes a file in a folder as one of DAMAGES says."""
  path = folder / name
  content = change(path.read_bytes())
  if content is None:
    path.unlink()
  else:
    path.write_bytes(content)


def flags_of(name):
  """Returns pairs of a command's flags and their types."""
  script = pathlib.Path(COMMANDS[name].split()[0])
  values = flags.FlagValues()
  importlib.import_module(script.stem).define_flags(command.Define(values))
  return [(flag, values[flag].flag_type()) for flag in sorted(values)]


def make_base(folder):
  """Makes a text and a run on it, for all cases to start from a copy."""
  corpus = "scripts/make_sample_corpus.py", "text", "--train_words=3000"
  processes.run(*corpus, cwd=folder)
  train = *TRAIN.split(), "--hparams=max_max_epoch=2", "--save_path=run"
  processes.run(*train, cwd=folder)
  (folder / "run" / ".lock").unlink()


def define_flags(define):
  """Defines the command line's flags."""
  define.integer("cases", 400, "How many to draw.", 1)
  define.integer("seed", 1, "Of the random cases and moments.")
  define.string("only", "", "Only cases with this in their description.")


@command.entry_point("faults.py", define_flags)
def main(args):
  """Does what the top of this file says; returns the exit status."""
  draw = random.Random(args.seed)
  with (
    tempfile.TemporaryDirectory() as base,
    concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
  ):
    base = pathlib.Path(base)
    make_base(base)
    answers = pool.map(lambda name: answer_to(Case(name), base), COMMANDS)
    usual = dict(zip(COMMANDS, answers, strict=True))
    for name, answer in usual.items():
      if answer.status != (name == "download"):
        raise command.InputError(f"{name} does not work: {answer.err}")
    chosen = [case for case in cases(draw, base) if args.only in str(case)]
    chosen, bad = chosen[: args.cases], 0
    tried = pool.map(
      lambda case: answer_to(case, base, usual[case.name].seconds), chosen
    )
    for case, answer in zip(chosen, tried, strict=True):
      faults = [*faults_of(case, answer, usual[case.name])]
      if faults:
        bad += 1
        said = " / ".join(answer.err.split("\n"))[-600:]
        print(f"{case}: {'; '.join(faults)}")
        print(f"  status {answer.status}: {said}", flush=True)
  print(f"{len(chosen)} cases, of which {bad} were not answered well.")
  return int(bad > 0)


if __name__ == "__main__":
  sys.exit(main())
