"""Tests of report.py, dissect.py, reproduce.sh and scripts/plot_run.py."""

import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys

import dissect
import download_ptb
import plot_run
import pytest
import report

from conftest import TF1_CHECKPOINT, TINY

ABOUT = (
  "commit: aaaaaaa\nstarted: 2026-01-02 03:04 UTC\nseconds: 3000\n"
  "commit: bbbbbbb\nstarted: 2026-01-03 03:04 UTC\nseconds: 900\n"
  "commit: bbbbbbb\nstarted: 2026-01-04 03:04 UTC\n"
)
BEST = "Valid Perplexity: 122.000\nTest Perplexity: 90.125\n"


def words_with(*perplexities):
  return [("aN"[i % 2], -math.log(p)) for i, p in enumerate(perplexities)]


def make_run(folder, seed=1, is_finished=True):
  """Writes the files of a run of medium with two epochs."""
  folder.mkdir(parents=True)
  sizes = {"max_max_epoch": 2, "batch_size": 2, "num_steps": 2}
  config = {"model": "medium", "seed": seed, "dtype": "float32"}
  config |= {"config": sizes, "data_sha256": download_ptb.HASHES}
  epochs = [
    {
      "epoch": epoch,
      "train_perplexity": 100.0 + seed - epoch,
      "valid_perplexity": 120.0 + seed + epoch,
      "wps": 1000.0 * epoch,
      "train_seconds": 60.0,
    }
    for epoch in (1, 2)
  ]
  # Of these words a batch predicts the first two of each half.
  valid = dissect.dissect(words_with(*[246.0, 61.5, 246.0, 123.0] * 2), 2, 2)
  test = dissect.dissect(words_with(*[181.0 + seed, 45.0 + seed] * 4), 2, 2)
  files = {
    "config.json": json.dumps(config),
    "epochs.jsonl": "".join(f"{json.dumps(epoch)}\n" for epoch in epochs),
    "about.txt": ABOUT,
    "best.txt": BEST,
    "valid.json": json.dumps(valid),
    "test.json": json.dumps(test),
  }
  if is_finished:
    result = {**epochs[-1], "test_perplexity": 90.0 + seed}
    files["result.json"] = json.dumps(result)
  for name, text in files.items():
    (folder / name).write_text(text)


@pytest.mark.parametrize("name", ["README.md", "results/README.md"])
def test_the_readmes_show_what_the_files_say(name):
  text = (report.ROOT / name).read_text()
  assert text.count("<!-- table ") == text.count("<!-- end -->") > 0
  assert report.fill(text, report.ROOT / "results") == text


def test_the_tables_of_a_run(tmp_path):
  make_run(tmp_path / "medium" / "seed1")
  tables = {name: report.table(name, tmp_path) for name in report.TABLES}
  assert (
    "|  | **this project**, float32, seed 1 | **99.00** | **123.00** | "
    "**91.00** |\n" in tables["results"]
  )
  assert tables["runs"].splitlines()[2:] == [
    "| [medium/seed1](medium/seed1/log.txt) | float32 | 99.00 | 123.00 | 91.00 "
    "| 2 of 2 | 0 h 2 min | over 1 h 5 min | 1,500 | aaaaaaa, bbbbbbb "
    "| 2026-01-02 |"
  ]
  assert tables["valid"].splitlines()[1:] == [
    "| --- | ---: | ---: | ---: | ---: |",
    "| medium/seed1 | 123.00 | 123.00 | 146.27 | 4 |",
  ]
  assert tables["best"].splitlines()[2:] == [
    "| medium/seed1 | 1 | 122.00 | 90.12 | 2 | 123.00 | 91.00 |"
  ]
  assert tables["kinds"].splitlines()[2:] == [
    "| medium, seed 1 | `<unk>` | 0.0% |  | 0.000 |",
    "| medium, seed 1 | `N` | 50.0% | 46.00 | 1.914 |",
    "| medium, seed 1 | `<eos>` | 0.0% |  | 0.000 |",
    "| medium, seed 1 | the rest | 50.0% | 182.00 | 2.602 |",
  ]


def test_the_tables_of_several_runs(tmp_path):
  for seed in (1, 2):
    make_run(tmp_path / "medium" / f"seed{seed}", seed)
  make_run(tmp_path / "large" / "seed1", is_finished=False)
  (tmp_path / "small").mkdir()
  (tmp_path / "small/mean_of_2_test.json").write_text('{"perplexity": 95.2}')
  results = report.table("results", tmp_path)
  means = (f"**{mean}** ± 0.71" for mean in ("99.50", "123.50", "91.50"))
  assert f"float32, 2 seeds | {' | '.join(means)} |\n" in results
  assert "seeds 1 to 2 |  | not run | **95.20** |\n" in results
  for state in ("not run", "not finished"):  # Small, large.
    cells = " | ".join(["**this project**", *[state] * 3])
    assert f"|  | {cells} |\n" in results
  kinds = report.table("kinds", tmp_path)
  assert "| medium, 2 seeds | `N` | 50.0% | 46.50 ± 0.71 | 1.920 |\n" in kinds


def test_report_prints_tables_and_draws(tmp_path, capsys):
  make_run(tmp_path / "medium" / "seed1")
  assert report.main(["", str(tmp_path)]) == 0
  assert "| medium, seed 1 | `N` | 50.0%" in capsys.readouterr().out
  picture = (tmp_path / "learning_curves.svg").read_text()
  assert "medium valid 123.0" in picture and picture.endswith("</svg>\n")
  assert "small" not in picture


@pytest.mark.parametrize(
  ("name", "text", "message"),
  [
    ("epochs.jsonl", "{", "seed1/epochs.jsonl is damaged: Expecting"),
    ("result.json", '{"epoch": 2}', "result.json is damaged: it has no 'tr"),
    ("valid.json", '{"in_batches": {}}', "valid.json is damaged: it has no"),
    ("best.txt", "Valid Perplexity: 5.000\n", "seed1/best.txt is damaged"),
    ("config.json", None, "seed1/config.json: No such file"),
    ("epochs.jsonl", "", "has no run with a finished epoch"),
  ],
)
def test_report_names_a_damaged_file(name, text, message, tmp_path, capsys):
  make_run(run := tmp_path / "medium" / "seed1")
  (run / name).unlink() if text is None else (run / name).write_text(text)
  assert report.main(["", str(tmp_path)]) == 1
  out, err = capsys.readouterr()
  assert out == "" and message in err and err.count("\n") == 1


def test_plot_run(tmp_path, capsys):
  make_run(run := tmp_path / "run")
  assert plot_run.main(["", str(run)]) == 0
  assert capsys.readouterr().out == f"{run}/perplexity.svg\n"
  picture = (run / "perplexity.svg").read_text()
  for label in ("valid, epoch 2: 123.00", "valid, Zaremba et al.: 86.2"):
    assert label in picture
  config = (run / "config.json").read_text()  # The published texts no longer:
  (run / "config.json").write_text(config.replace("fcea", "0000"))
  assert "Zaremba" not in plot_run.draw(run).read_text()
  (run / "epochs.jsonl").write_text("")
  for folder, message in (
    (run, "no finished epoch"),
    (tmp_path, "No such file"),
  ):
    assert plot_run.main(["", str(folder)]) == 1
    assert message in capsys.readouterr().err


def test_dissect():
  # Of 11 words in two pieces of 5, two at a time, each piece has 4 that are
  # predicted: the 2nd to the 5th, and the 7th to the 10th.
  names = ["N", "a", "<unk>", "b", "<eos>", "N", "<unk>", "a", "a", "<eos>"]
  found = dissect.dissect([(name, -i) for i, name in enumerate(names)], 2, 2)
  assert (found["words"], found["in_batches"]["words"]) == (10, 8)
  assert math.isclose(found["perplexity"], math.exp(4.5))
  assert math.isclose(found["in_batches"]["perplexity"], math.exp(32 / 8))
  kinds = found["by_kind"]
  assert [kind["words"] for kind in kinds.values()] == [2, 2, 2, 4]
  assert math.isclose(kinds["<eos>"]["perplexity"], math.exp((4 + 9) / 2))
  assert math.isclose(sum(kind["nats"] for kind in kinds.values()), 4.5)


def test_dissect_reads_what_score_prints(call_command, tmp_path):
  config = {"config": {"batch_size": 20, "num_steps": 5}}
  (tmp_path / "config.json").write_text(json.dumps(config))
  flags = ("--carry_state", "--json", "--per_word")
  _, scores, _ = call_command(
    "score", *TF1_CHECKPOINT, *flags, f"--file={TINY}/ptb.valid.txt"
  )
  for text, message in (
    (scores, ""),
    (scores.replace("null", "-1.0"), "call score.py with --carry_state"),
    ("Line 1", "is not what score.py --json --per_word prints"),
  ):
    done = subprocess.run(
      [sys.executable, dissect.__file__, tmp_path],
      input=text,
      capture_output=True,
      text=True,
    )
    assert message in done.stderr and done.returncode == bool(message)
    if not message:
      found, total = json.loads(done.stdout), json.loads(text.split("\n")[-2])
      assert found["words"] == total["num_words"]
      assert math.isclose(found["perplexity"], total["perplexity"])


# Of the fake training, seed 2 waits for a signal, the first two times.
TRAINING = """
import pathlib, shutil, signal, sys
run, = (arg[12:] for arg in sys.argv if arg.startswith("--save_path="))
run = pathlib.Path(run)
print(sys.argv[1], *sys.argv[3:], flush=True)
if "--evaluate" in sys.argv:
  sys.exit(print("Test Perplexity: 91.0"))
def stop(signum, frame):
  (run / f"stopped_by_{signum}").touch()
  sys.exit(128 + signum)
if run.name == "seed2" and len(list(run.glob("stopped_by_*"))) < 2:
  for signum in (signal.SIGINT, signal.SIGTERM):
    signal.signal(signum, stop)
  print("waiting", flush=True)
  signal.pause()
for name in ("config.json", "epochs.jsonl", "result.json"):
  shutil.copy(run.parents[2] / "a run" / name, run)
"""
SCORE = """
import json, sys
first, word = ({"word": "N", "log_prob": p} for p in (None, -1.0))
print(json.dumps({"words": [first, *[word] * 9]}))
print(json.dumps({"perplexity": len(sys.argv[1].split(","))}))
"""


@pytest.fixture
def reproduce(tmp_path):
  """A function that starts reproduce.sh in a project with fake programs."""
  root, data = tmp_path / "a project", tmp_path / "the data"
  for folder in ("lm", "measure", "scripts"):
    unneeded = shutil.ignore_patterns("testdata", "*_test.py", "__pycache__")
    shutil.copytree(report.ROOT / folder, root / folder, ignore=unneeded)
  make_run(root / "runs" / "a run")
  data.mkdir()
  hashes = {"ptb.valid.txt": hashlib.sha256(b"a text\n").hexdigest()}
  (data / "ptb.valid.txt").write_text("a text\n")
  with open(root / "scripts" / "download_ptb.py", "a") as script:
    script.write(f"\nHASHES = {hashes}\n")
  python = f'#!/bin/sh\n[ "$2" = pip ] || exec "{sys.executable}" "$@"\n'
  for name, text in {
    "ptb_word_lm.py": TRAINING,
    "score.py": SCORE,
    ".venv/bin/python": python,
    "scripts/setup_venv.sh": "#!/bin/sh\n",
  }.items():
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)
    (root / name).chmod(0o755)

  def start(*args):
    return subprocess.Popen(
      [root / "measure" / "reproduce.sh", *args],
      env={**os.environ, "PTB_DATA": str(data)},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )

  start.folder, start.data = root / "runs" / "reproduced", data
  return start


def test_reproduce_stops_and_resumes(reproduce):
  for signum in (signal.SIGINT, signal.SIGTERM):
    with reproduce("ensemble") as process:
      while process.stdout.readline() != "waiting\n":
        assert process.poll() is None
      process.send_signal(signum)
      assert process.wait() == 128 + signum
  with reproduce("ensemble") as process:
    out, err = process.communicate()
  assert process.returncode == 0, err
  small = reproduce.folder / "small"
  for seed in range(1, 6):
    run = small / f"seed{seed}"
    log = f"--data_path={reproduce.data} --model=small --seed={seed}\n"
    stops = 2 * (seed == 2)
    expected = f"{log}waiting\n" * stops + log
    assert (run / "log.txt").read_text() == expected
    about = (run / "about.txt").read_text()
    assert f"RUN --model=small --seed={seed}\ncommit: " in about
    assert about.count("\nseconds: ") == 1 + stops
    assert "--checkpoint=best\nTest" in (run / "best.txt").read_text()
    for part in ("valid", "test"):
      assert json.loads((run / f"{part}.json").read_text())["words"] == 9
  for number in (2, 5):
    mean = json.loads((small / f"mean_of_{number}_test.json").read_text())
    assert mean == {"perplexity": number}
  assert "float32, 5 seeds" in out and not list(small.glob("*/*.part"))


def test_reproduce_refuses(reproduce):
  for args in ([], ["tiny"], ["small", "large"]):
    with reproduce(*args) as process:
      assert "Usage: measure/reproduce.sh small|" in process.communicate()[1]
    assert process.returncode == 2
  (reproduce.data / "ptb.valid.txt").write_text("another text\n")
  with reproduce("small") as process:
    assert "the Penn Treebank's texts. Name" in process.communicate()[1]
  assert process.returncode == 1 and not reproduce.folder.exists()
