"""Tests of report.py, reproduce.sh and scripts/plot_run.py."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import download_ptb
import plot_run
import pytest
import report

ABOUT = (
  "commit: aaaaaaa\nstarted: 2026-01-02 03:04 UTC\nseconds: 3000\n"
  "commit: bbbbbbb\nstarted: 2026-01-03 03:04 UTC\nseconds: 900\n"
  "commit: bbbbbbb\nstarted: 2026-01-04 03:04 UTC\n"
)


def make_run(folder, seed=1):
  """Writes the files of a run of medium with two epochs."""
  folder.mkdir(parents=True)
  sizes = {"max_max_epoch": 2, "batch_size": 2, "num_steps": 2}
  config = {"model": "medium", "seed": seed, "dtype": "float32"}
  config |= {"config": sizes, "data_sha256": download_ptb.HASHES}
  epoch = '{"epoch": %d, "train_perplexity": %f, "valid_perplexity": %f, '
  epoch += '"wps": %f, "train_seconds": 60.0}'
  epochs = [
    epoch % (i, 100 + seed - i, 120 + seed + i, 1e3 * i) for i in (1, 2)
  ]
  result = {**json.loads(epochs[1]), "test_perplexity": 90.0 + seed}
  for name, text in {
    "config.json": json.dumps(config),
    "epochs.jsonl": "".join(f"{epoch}\n" for epoch in epochs),
    "result.json": json.dumps(result),
    "about.txt": ABOUT,
  }.items():
    (folder / name).write_text(text)


def test_the_readmes_show_what_the_files_say():
  folder = report.ROOT / "results"
  text = (folder / "README.md").read_text()
  assert text.count("<!-- table ") == text.count("<!-- end -->") > 0
  assert report.fill(text, folder, report.read_runs(folder)) == text
  summary = (report.ROOT / "README.md").read_text().partition("## Results")[2]
  numbers = re.findall(r"\*\*[\d.]+\*\*(?: ± [\d.]+)?", summary)
  assert len(numbers) == 5
  for number in numbers:
    assert f" | {number} |\n" in text


def report_on(folder, capsys):
  assert report.main(["", str(folder)]) == 0
  return capsys.readouterr().out.splitlines()


def test_a_run(tmp_path, capsys):
  make_run(tmp_path / "medium" / "seed1")
  lines = report_on(tmp_path, capsys)
  for line in (
    "|  | **this project** | not run | not run | not run |",  # Small, large.
    "|  | **this project**, float32, seed 1 | **99.00** | **123.00** | "
    "**91.00** |",
    "| [medium/seed1](medium/seed1/log.txt) | float32 | 99.00 | 123.00 | 91.00 "
    "| 2 of 2 | 0 h 2 min | over 1 h 5 min | 1,500 | aaaaaaa, bbbbbbb "
    "| 2026-01-02 |",
  ):
    assert line in lines
  picture = (tmp_path / "learning_curves.svg").read_text()
  assert "medium valid 123.0" in picture and picture.endswith("</svg>\n")
  assert "small" not in picture


def test_several_runs(tmp_path, capsys):
  for seed in (1, 2):
    make_run(tmp_path / "medium" / f"seed{seed}", seed)
  (tmp_path / "small").mkdir()
  (tmp_path / "small/mean_of_2_test.json").write_text('{"perplexity": 95.2}')
  for seed in (1, 2):
    (tmp_path / "small_ten" / f"seed{seed}").mkdir(parents=True)
    (tmp_path / "small_ten" / f"seed{seed}" / "adapted.txt").write_text(
      f"Valid Perplexity: 10{seed}.5\nTest Perplexity: 9{seed}.25\n"
    )
  lines = report_on(tmp_path, capsys)
  means = " | ".join(f"**{x}** ± 0.71" for x in ("99.50", "123.50", "91.50"))
  for line in (
    f"|  | **this project**, float32, 2 seeds | {means} |",
    "|  | **this project**, seeds 1 to 2 |  | not run | **95.20** |",
    "|  | **this project**, adapted, 2 seeds |  | **102.00** ± 0.71 | "
    "**91.75** ± 0.71 |",
  ):
    assert line in lines
  assert sum(line.startswith("| [medium/seed") for line in lines) == 2


@pytest.mark.parametrize(
  ("name", "text", "message"),
  [
    ("epochs.jsonl", "{", "seed1/epochs.jsonl is damaged or was not"),
    ("result.json", None, "has no finished run"),
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
  assert "valid, epoch 2: 123.00" in picture
  for source in plot_run.LINES:
    assert f"valid, {source}: 86." in picture
  # With another text, the published results are not drawn.
  config = (run / "config.json").read_text()
  (run / "config.json").write_text(config.replace("fcea", "0000"))
  assert plot_run.main(["", str(run)]) == 0
  assert "Zaremba" not in (run / "perplexity.svg").read_text()
  (run / "epochs.jsonl").write_text("")
  for args, message in (
    ([str(run)], "no finished epoch"),
    ([str(tmp_path)], "No such file"),
    ([], "FOLDER is missing: give the folder of a run."),
  ):
    assert plot_run.main(["", *args]) == 1
    assert message in capsys.readouterr().err


# Of the fake training, seed 2 waits for a signal, the first two times.
TRAINING = """
import pathlib, shutil, signal, sys
run, = (arg[12:] for arg in sys.argv if arg.startswith("--save_path="))
run = pathlib.Path(run)
print(sys.argv[1], *sys.argv[3:], flush=True)
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
(runs,) = (arg for arg in sys.argv if arg.startswith("--run="))
print("{}")
print(json.dumps({"perplexity": len(runs.split(","))}))
"""
# Without the real pip, which is slow.
PYTHON = f'#!/bin/sh\n[ "$2" = pip ] || exec "{sys.executable}" "$@"\n'


@pytest.fixture
def reproduce(tmp_path):
  """A function that starts reproduce.sh in a project with fake programs."""
  root, data = tmp_path / "a project", tmp_path / "the data"
  for folder in ("lm", "measure", "scripts", "results"):
    unneeded = shutil.ignore_patterns("testdata", "*_test.py", "seed*")
    shutil.copytree(report.ROOT / folder, root / folder, ignore=unneeded)
  make_run(root / "runs" / "a run")
  sha256 = hashlib.sha256(b"a text\n").hexdigest()
  data.mkdir()
  (root / ".venv/bin").mkdir(parents=True)
  for path, text in {
    root / "ptb_word_lm.py": TRAINING,
    root / "score.py": SCORE,
    root / "scripts/ptb.sha256": f"{sha256}  ptb.valid.txt\n",
    root / "scripts/setup_venv.sh": "#!/bin/sh\n",
    root / ".venv/bin/python": PYTHON,
    data / "ptb.valid.txt": "a text\n",
  }.items():
    path.write_text(text)
    path.chmod(0o755)

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
  for seed in range(1, 11):
    run = small / f"seed{seed}"
    log = f"--data_path={reproduce.data} --model=small --seed={seed}\n"
    stops = 2 * (seed == 2)
    assert (run / "log.txt").read_text() == f"{log}waiting\n" * stops + log
    about = (run / "about.txt").read_text()
    assert f"RUN --model=small --seed={seed}\ncommit: " in about
    assert about.count("\nseconds: ") == 1 + stops
  for number in (2, 5, 10):
    mean = json.loads((small / f"mean_of_{number}_test.json").read_text())
    assert mean == {"perplexity": number}
  assert "float32, 10 seeds" in out


def test_reproduce_refuses(reproduce):
  (reproduce.data / "ptb.valid.txt").write_text("another text\n")
  for args, status, message in (
    ([], 2, "Usage: measure/reproduce.sh small|"),
    (["small", "large"], 2, "Usage: measure/reproduce.sh small|"),
    (["small"], 1, "does not have the Penn Treebank's texts. Set PTB_DATA"),
  ):
    with reproduce(*args) as process:
      assert message in process.communicate()[1]
    assert process.returncode == status and not reproduce.folder.exists()
