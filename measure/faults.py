#!/usr/bin/env python3
"""Tries bad input and faults on all commands, and judges their answers.

  .venv/bin/python measure/faults.py [--cases=400] [--seed=1] [--only=TEXT]

A case is a command that works, and one thing wrong with it: a flag's value, a
damaged file of a run or of the texts, the environment, a limit, or a signal at
a random moment. It is answered well if the command

* ends, within a minute, with the exit status 0, 1 or 2, or by the signal;
* prints one sentence, or a short report of absl's, if the status is not 0;
* prints no traceback;
* with the status 0, prints the numbers of the undamaged input, or warns;
* changes no input, and leaves no half-made file or folder.

Cases are drawn at random from some hundred more. Each that is not answered well
is printed, then their number. The exit status is 1 if there are any.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import hashlib
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
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lm.base import imports

if __name__ == "__main__":
  imports.quietly()

from absl import flags

from lm.base import command

SECONDS = 60  # Until a command counts as one that hangs.
TRAIN = "ptb_word_lm.py --data_path=text --model=test"
COMMANDS = {  # Each in a folder of its own with text/ and run/.
  "train": f"{TRAIN} --hparams=max_max_epoch=3 --save_path=run",
  "start": f"{TRAIN} --hparams=max_max_epoch=1 --save_path=new",
  "init": f"{TRAIN} --init_from=run --hparams=max_max_epoch=1",
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
# They print what they compute; train's last line is enough.
NUMBERS = ("train", "init", "evaluate", "score", "generate")
VALUES = {  # Wrong values by the type of a flag.
  "int": ["", "x", "-1", "nan", "1e9", "9" * 400, "0x", " "],
  "float": ["", "x", "-1", "nan", "inf", "1e999", "9" * 400],
  "string": ["", "a\nb", "*", "s3://x", "\udcff", "x" * 5000, "/dev/zero"],
  "boolean": ["", "x", "2"],
}
OTHER_VALUES = ["", "run,run", "run,", "a\nb", "*", "\udcff", "/dev/zero"]
DEEP = "[" * 100_000
DAMAGES = {  # What becomes of a file's path; it exists before.
  "is missing": lambda path: None,
  "is a folder": lambda path: path.mkdir(),
  "is a pipe": os.mkfifo,
  "is an endless device": lambda path: path.symlink_to("/dev/zero"),
  "is a link to nothing": lambda path: path.symlink_to("none"),
  "is empty": lambda path: path.write_bytes(b""),
  "is UTF-16": lambda path: path.write_bytes("{}\n".encode("utf-16")),
  "is nested deeply": lambda path: path.write_text(DEEP),
  "is an empty object": lambda path: path.write_text("{}"),
  "is a terabyte": lambda path: path.touch() or os.truncate(path, 1 << 40),
}
EDITS = {  # What becomes of a file's bytes.
  "is cut off": lambda text: text[: len(text) // 2],
  "has Windows' line ends": lambda text: text.replace(b"\n", b"\r\n"),
  "has two lines swapped": lambda text: (
    b"\n".join(text.split(b"\n")[1::-1])
    + b"\n"
    + b"\n".join(text.split(b"\n")[2:])
  ),
  "lacks its first line": lambda text: text.partition(b"\n")[2],
  "has NaN for its numbers": lambda text: re.sub(rb"\d+\.\d+", b"NaN", text),
  "has long numbers": lambda text: re.sub(rb"\d+", b"9" * 401, text),
  "has texts for numbers": lambda text: re.sub(rb": [\d.]+", b': "x"', text),
  "has a wrong bit": lambda text: bytes(
    byte ^ (index == len(text) // 3) for index, byte in enumerate(text)
  ),
}
FILES = {
  "run": "config.json vocabulary.txt epochs.jsonl result.json checkpoint "
  "best_checkpoint model.ckpt-{last}.index "
  "model.ckpt-{last}.data-00000-of-00001 model.ckpt-{first}.index "
  "model.ckpt-99999.index .lock",
  "text": "ptb.train.txt ptb.valid.txt ptb.test.txt source.json "
  "preparation.json",
}
ENVIRONMENTS = [
  *({"TF_CONFIG": text} for text in ("{", DEEP, "[]", "\udcff", "3")),
  {"TF_CONFIG": '{"cluster": 3}'},
  {"TF_CONFIG": '{"cluster": {"worker": ["a:1", "b:2"]}}'},
  *({"PTB_URL": url} for url in ("x", "file:///none", "http://127.0.0.1:1/")),
  {"PTB_URL": f"file://{ROOT}/README.md"},
  *({"PYTHONOPTIMIZE": number} for number in "12"),
  {"TF_USE_LEGACY_KERAS": "0"},
  {"TF_ENABLE_ONEDNN_OPTS": "x"},
  {"TF_CPP_MIN_LOG_LEVEL": "x"},
  {"CUDA_VISIBLE_DEVICES": "x"},
  {"PYTHONIOENCODING": "ascii"},
  {"MPLBACKEND": "x"},
  {"HOME": "/dev/null"},
  {"TMPDIR": "/dev/null"},
  {"COLUMNS": "x"},
  {"LC_ALL": "C"},
  {"OMP_NUM_THREADS": "x"},
]
LIMITS = [
  *(f"ulimit -v {kilobytes};" for kilobytes in (3 * 10**5, 10**6, 15 * 10**5)),
  *(f"ulimit -v {kilobytes};" for kilobytes in (18 * 10**5, 22 * 10**5)),
  *(f"ulimit -f {blocks};" for blocks in (0, 1, 8, 50)),
  *(f"ulimit -n {files};" for files in (8, 20, 60)),
  "mkdir gone; cd gone; rmdir ../gone;",
]
STREAMS = [">/dev/full", ">&-", "<&-", "2>&-", "</dev/zero", "| true"]
ABSL = ["--stderrthreshold=x", "--logger_levels=a:b:c", "--v=x", "--nonesuch"]
ABSL += ["--verbosity=x", "--flagfile=none", "--flagfile=run", "surplus"]


@dataclasses.dataclass
class Case:
  """A command, and what is wrong."""

  kind: str
  name: str  # The command's in COMMANDS.
  what: str  # In words.
  args: tuple = ()
  change: object = None  # A function of the folder.
  environment: dict = dataclasses.field(default_factory=dict)
  limit: str = ""  # Commands for the shell, before this one.
  streams: str = ""  # Where the shell sends the output.
  signals: tuple = ()
  moment: float = 0.0  # Of the signals, as a share of the usual seconds.


@dataclasses.dataclass
class Answer:
  """How a command ended."""

  status: int | None  # None if it did not end.
  out: str
  err: str
  seconds: float


def run(case, folder):
  """Runs a case in a folder; returns its Answer."""
  script, *args = COMMANDS[case.name].split()
  argv = [sys.executable, str(ROOT / script), *args, *case.args]
  start = time.perf_counter()
  with subprocess.Popen(
    ["bash", "-c", f'{case.limit} "$@" {case.streams}', "bash", *argv]
    if case.limit or case.streams
    else argv,
    cwd=folder,
    env={**os.environ, "PTB_URL": "file:///none", **case.environment},
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    start_new_session=True,
  ) as process:
    if case.signals:
      time.sleep(case.moment)
      for signum in case.signals:
        process.send_signal(signum)
    try:
      output = process.communicate(timeout=SECONDS)
      status = process.returncode
    except subprocess.TimeoutExpired:
      status = None
      os.killpg(process.pid, signal.SIGKILL)
      output = process.communicate()
  out, err = (text.decode("utf-8", "replace") for text in output)
  return Answer(status, out, err, time.perf_counter() - start)


def numbers_in(name, out):
  """Returns the part of a command's output that must always be the same."""
  if name in TRAINING:
    return re.findall("^Test Perplexity: .*", out, re.MULTILINE)
  return out


def faults_of(case, answer, usual, before, after):
  """Returns what is wrong with an answer, a list of texts.

  `usual` is the Answer without the fault; `before` and `after` are the folder's
  contents.
  """
  faults = []
  allowed = {0, 1, 2}
  for signum in case.signals:
    allowed |= {-signum, 128 + signum}
  if answer.status not in allowed:
    faults.append("it hangs" if answer.status is None else "its exit status")
  if re.search("Traceback|Fatal Python|Exception ignored|dumped", answer.err):
    faults.append("a traceback")
  is_silent = case.signals or "2>" in case.streams or "|" in case.streams
  said = [line for line in answer.err.splitlines() if line.strip()]
  if answer.status and not is_silent:
    if not said or said[-1].rstrip()[-1:] not in tuple(".?)"):
      faults.append("no sentence")
    elif len(said) > (12 if case.name == "workers" else 6):
      faults.append("too many lines")
  if answer.status == 0 and case.kind == "run" and case.name in NUMBERS:
    expected, found = (numbers_in(case.name, a.out) for a in (usual, answer))
    if found != expected and not said:
      faults.append("other numbers, and no warning")
  halves = [n for n in after if re.search(r"\.tmp|\.making|tempstate", n)]
  if halves:
    faults.append(f"it leaves {min(halves)}")
  if answer.status and any(name.startswith("out/") for name in after):
    wanted = {n for n in usual.files if n.startswith("out/")}
    if {n for n in after if n.startswith("out/")} != wanted:
      faults.append("it leaves an incomplete folder")
  if case.name not in TRAINING:
    lost = [n for n, hashed in before.items() if after.get(n) != hashed]
    if lost and lost != ["run/perplexity.svg"]:
      faults.append(f"it changes {min(lost)}")
  elif not any(n.endswith(".index") for n in after) and any(
    n.endswith(".index") for n in before
  ):
    faults.append("it loses all checkpoints")
  return faults


def contents_of(folder):
  """Returns {name: checksum} of the files in a folder and below."""
  found = {}
  for path in folder.rglob("*"):
    if path.is_file() and path.stat().st_size < 1 << 30:
      hashed = hashlib.sha256(path.read_bytes()).hexdigest()
      found[str(path.relative_to(folder))] = hashed
  return found


def cases(draw, base):
  """Returns all cases, in a random order."""
  found = []
  for name in ("train", "score", "generate", "export", "prepare", "sample"):
    for flag, kind in flags_of(name):
      for value in draw.sample(VALUES.get(kind, OTHER_VALUES), 3):
        args = (f"--{flag}={value}",)
        found.append(Case("flag", name, f"--{flag}={value[:20]!a}", args))
  for name in COMMANDS:
    for flag in ABSL:
      found.append(Case("flag", name, flag, (flag,)))
    for environment in ENVIRONMENTS:
      what = str(environment)[:60]
      case = Case("environment", name, what, environment=environment)
      found.append(case)
    for limit in LIMITS:
      found.append(Case("limit", name, limit, limit=limit))
    for streams in STREAMS:
      found.append(Case("limit", name, streams, streams=streams))
    for both in (0, 1):
      for _ in range(4):
        first = draw.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
        sent = (first, *[signal.SIGTERM] * both)
        what = f"{' and '.join(s.name for s in sent)} at a random moment"
        moment = draw.uniform(0.02, 1)
        found.append(Case("signal", name, what, signals=sent, moment=moment))
  steps = sorted(
    int(path.stem.partition("-")[2]) for path in base.glob("run/*.index")
  )
  for folder, names in FILES.items():
    names = names.format(first=steps[0], last=steps[-1]).split()
    users = ["train", "init", "evaluate", "score", "generate", "export", "plot"]
    users = users if folder == "run" else ["start", "evaluate", "prepare"]
    for name in names:
      for what, damage in [*DAMAGES.items(), *EDITS.items()]:
        replace = what in DAMAGES
        change = functools.partial(
          damage_file, f"{folder}/{name}", damage, replace
        )
        for user in users:
          case = Case(folder, user, f"{folder}/{name} {what}", change=change)
          found.append(case)
  draw.shuffle(found)
  return found


def damage_file(name, damage, replace, folder):
  """Replaces a file by something else, or edits its bytes."""
  path = folder / name
  if replace:
    path.unlink(missing_ok=True)
    damage(path)
  else:
    path.write_bytes(damage(path.read_bytes() if path.exists() else b"x\ny\n"))


def flags_of(name):
  """Returns pairs of a command's own flags and their types."""
  script = ROOT / COMMANDS[name].split()[0]
  argv = [sys.executable, script, "--helpxml"]
  done = subprocess.run(argv, capture_output=True, check=False)
  root = xml.etree.ElementTree.fromstring(done.stdout)
  own = [flag for flag in root.iter("flag") if flag.findtext("key") == "yes"]
  return [(flag.findtext("name"), flag.findtext("type")) for flag in own]


def make_base(folder):
  """Makes a text and a run on it, for all cases to start from a copy."""
  for args in (
    ["scripts/make_sample_corpus.py", "text", "--train_words=3000"],
    [*TRAIN.split(), "--hparams=max_max_epoch=2", "--save_path=run"],
  ):
    argv = [sys.executable, str(ROOT / args[0]), *args[1:]]
    subprocess.run(argv, cwd=folder, check=True, capture_output=True)


def try_case(case, base, usual=None):
  """Tries a case in a copy of the folder; returns (Answer, faults)."""
  with tempfile.TemporaryDirectory() as copy:
    folder = pathlib.Path(shutil.copytree(base, f"{copy}/folder"))
    if case.change:
      case.change(folder)
    if usual:
      case.moment *= usual.seconds
    before = contents_of(folder)
    answer = run(case, folder)
    answer.files = after = contents_of(folder)
    before.pop("run/.lock", None)
    faults = faults_of(case, answer, usual, before, after) if usual else []
    return answer, faults


@command.entry_point("faults.py")
def main(args):
  """Does what the top of this file says; returns the exit status."""
  draw = random.Random(args.seed)
  with (
    tempfile.TemporaryDirectory() as base,
    concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
  ):
    base = pathlib.Path(base)
    make_base(base)
    undisturbed = [Case("", name, "") for name in COMMANDS]
    answers = pool.map(lambda case: try_case(case, base)[0], undisturbed)
    usual = dict(zip(COMMANDS, answers, strict=True))
    for name, answer in usual.items():
      if answer.status != (name == "download"):
        raise command.InputError(f"{name} does not work: {answer.err}")
    chosen = [c for c in cases(draw, base) if args.only in f"{c.name} {c.what}"]
    chosen = chosen[: args.cases]
    ends, bad = collections.Counter(), 0
    tried = pool.map(lambda c: try_case(c, base, usual[c.name]), chosen)
    for case, (answer, faults) in zip(chosen, tried, strict=True):
      bad += bool(faults)
      ends[case.kind, answer.status and "refused"] += 1
      if faults or args.verbose:
        what = f"{case.name}, {case.what}: {'; '.join(faults) or 'good'}"
        said = " / ".join(answer.err.split("\n"))[-600:]
        print(f"{what}\n  status {answer.status}: {said}", flush=True)
  for kind in sorted({case.kind for case in chosen}):
    number, ended = sum(c.kind == kind for c in chosen), ends[kind, 0]
    print(f"{kind}: {number}, of which {ended} did no harm (status 0)")
  print(f"{len(chosen)} cases, of which {bad} were not answered well.")
  return int(bad > 0)


def define_flags():
  """Defines the command line's flags."""
  flags.DEFINE_integer("cases", 400, "How many to draw.", 1)
  flags.DEFINE_integer("seed", 1, "Of the random cases and moments.")
  flags.DEFINE_string("only", "", "Only cases with this in their description.")
  flags.DEFINE_boolean("verbose", False, "Print the others, too.")


if __name__ == "__main__":
  command.start(main, define_flags)
