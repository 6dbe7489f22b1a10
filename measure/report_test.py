"""Tests of report.py, dissect.py and reproduce.sh, and of README's tables."""

import json
import math
import os
import pathlib
import pty
import re
import shutil
import signal
import subprocess
import sys
import time

import dissect
import download_ptb
import plot_run
import pytest
import report
from scripts_test import HASHES, TEXTS, Project

from conftest import TF1_CHECKPOINT, TINY

RESULTS = report.ROOT / "results"


@pytest.mark.parametrize("name", ["README.md", "results/README.md"])
def test_the_tables_say_what_the_files_say(name):
  text = (report.ROOT / name).read_text()
  assert text.count("<!-- table ") == text.count("<!-- end -->") > 0
  assert report.filled(text, RESULTS) == text, "Run scripts/report.py."


def test_readme_tells_what_each_model_reaches():
  head = (report.ROOT / "README.md").read_text().split("##")[0]
  for model, seeds, told in (
    ("small", 5, "{} on the valid set and **{} on the test set**"),
    ("medium", 1, "medium {} and {}, where"),
    ("large", 1, "large {} and {}, where"),
  ):
    runs = report.runs_of(RESULTS, model)
    assert len(runs) == seeds
    valid, test = (
      f"{sum(run.perplexity(part) for run in runs) / seeds:.1f}"
      for part in ("valid", "test")
    )
    assert told.format(valid, test) in head


def test_each_run_says_how_it_was_made():
  for model in report.MODELS:
    for run in report.runs_of(RESULTS, model):
      for command in run.about["command"]:
        assert re.search(
          f"--model={model}.* --seed={run.config['seed']}", command
        )
        is_float32 = run.config["dtype"] == "float32"
        assert ("--use_fp16" in command) != is_float32
      for commit in run.about["commit"]:
        assert re.fullmatch("[0-9a-f]{7,}", commit)
      assert {"started", "hardware", "software"} <= set(run.about)
      picture = (run.folder / "perplexity.svg").read_text()
      valid = run.epochs[-1]["valid_perplexity"]
      assert f"valid, epoch {len(run.epochs)}: {valid:.2f}" in picture
      assert f"<!-- {len(run.epochs)} -->" in picture  # The last one's tick.
      assert picture.endswith("</svg>\n")
      assert run.epochs[-1]["epoch"] == len(run.epochs)
      log = (run.folder / "log.txt").read_text()
      for epoch in run.epochs:
        for part in ("train", "valid"):
          value = epoch[f"{part}_perplexity"]
          told = f"{part.capitalize()} Perplexity: {value:.3f}\n"
          assert f"Epoch: {epoch['epoch']} {told}" in log


def make_run(folder, seed=1, epochs=2, ends=True, dtype="float32"):
  """Writes a run's files."""
  folder.mkdir(parents=True)
  config = {"max_max_epoch": 2, "batch_size": 2, "num_steps": 2}
  about = {"model": "medium", "seed": seed, "dtype": dtype, "config": config}
  about["data_sha256"] = download_ptb.HASHES
  (folder / "config.json").write_text(json.dumps(about))
  lines = [
    {
      "epoch": epoch,
      "train_perplexity": 100.0 + seed - epoch,
      "valid_perplexity": 120.0 + seed + epoch,
      "wps": 1000.0 * epoch,
      "train_seconds": 60.0,
    }
    for epoch in range(1, epochs + 1)
  ]
  text = "".join(f"{json.dumps(line)}\n" for line in lines)
  (folder / "epochs.jsonl").write_text(text)
  if ends:
    result = {**lines[-1], "test_perplexity": 90.0 + seed}
    (folder / "result.json").write_text(json.dumps(result))


def rows(table, first):
  """Returns the cells of the rows from the one that starts so."""
  cells = [line.strip("| ").split(" | ") for line in table.splitlines()]
  return cells[[row[0] for row in cells].index(first) :]


@pytest.mark.parametrize(
  ("make", "expected"),
  [
    (lambda folder: None, "**this project** | not run | not run | not run"),
    (
      lambda folder: make_run(folder / "seed1", epochs=1, ends=False),
      "**this project**, float32, at epoch 1 of 2 | 100.00 | 122.00 | not yet",
    ),
    (
      lambda folder: [
        make_run(folder / f"seed{i}", i, epochs=i, ends=False) for i in (0, 1)
      ],
      "**this project**, float32, at epoch 1 of 2 | 100.00 | 122.00 | not yet",
    ),
    (
      lambda folder: make_run(folder / "seed1", epochs=0, ends=False),
      "**this project** | not run | not run | not run",
    ),
    (
      lambda folder: make_run(folder / "seed3", 3, dtype="bfloat16"),
      "**this project**, bfloat16, seed 3 | **101.00** | **125.00** | "
      "**93.00**",
    ),
    (
      lambda folder: [make_run(folder / f"seed{i}", i) for i in (1, 2, 3)],
      "**this project**, float32, 3 seeds | **100.00** ± 1.00 | "
      "**124.00** ± 1.00 | **92.00** ± 1.00",
    ),
  ],
)
def test_the_row_of_a_model(make, expected, tmp_path):
  make(tmp_path / "medium")
  assert rows(report.results_table(tmp_path), "medium")[3] == expected.split(
    " | "
  )


def test_the_row_of_a_mean(tmp_path):
  (tmp_path / "small").mkdir()
  for part, value in (("valid", 99.126), ("test", 95.2)):
    path = tmp_path / "small" / f"mean_of_2_{part}.json"
    path.write_text(json.dumps({"perplexity": value}))
  table = report.results_table(tmp_path)
  ours = "**this project**, seeds 1 to"
  assert f"| {ours} 2 |  | **99.13** | **95.20** |\n" in table
  assert f"| {ours} 5 |  | not run | not run |\n" in table


def test_the_row_of_a_mean_that_is_none(tmp_path, capsys):
  make_run(tmp_path / "small" / "seed1")
  edit("config.json", "medium", "small")(tmp_path / "small" / "seed1")
  path = tmp_path / "small" / "mean_of_5_valid.json"
  path.write_text('{"perplexity": -1.0}')
  assert report.main([str(tmp_path)]) == 1
  assert f"{path} has no perplexity" in capsys.readouterr().err


def test_the_tables_of_a_run(tmp_path):
  make_run(run := tmp_path / "medium" / "seed1")
  (run / "about.txt").write_text(
    "commit: aaaaaaa\nstarted: 2026-01-02 03:04 UTC\nseconds: 3000\n"
    "commit: bbbbbbb\nstarted: 2026-01-03 03:04 UTC\nseconds: 900\n"
    "commit: bbbbbbb\nstarted: 2026-01-04 03:04 UTC\n"
  )
  (run / "best.txt").write_text(
    "Valid Perplexity: 122.000\nTest Perplexity: 90.125\n"
  )
  # In batches, half of them are read; the valid text's are 123 on average.
  for part, perplexities in (
    ("valid", [246.0, 61.5, 246.0, 123.0]),
    ("test", [182.0, 45.5, 182.0, 45.5]),
  ):
    words = [
      ("aN"[i % 2], -math.log(value))
      for i, value in enumerate(perplexities * 2)
    ]
    found = dissect.dissect(words, 2, 2)
    (run / f"{part}.json").write_text(json.dumps(found))
  runs, valid, best, kinds = (
    report.TABLES[name](tmp_path).splitlines()[2:]
    for name in ("runs", "valid", "best", "kinds")
  )
  assert runs == [
    "| [medium/seed1](medium/seed1/log.txt) | float32 | 99.00 | 123.00 | 91.00 "
    "| 2 of 2 | 0 h 2 min | over 1 h 5 min | 1,500 | aaaaaaa, bbbbbbb "
    "| 2026-01-02 |"
  ]
  assert valid == ["| medium/seed1 | 123.00 | 123.00 | 146.27 | 4 |"]
  assert best == ["| medium/seed1 | 1 | 122.00 | 90.12 | 2 | 123.00 | 91.00 |"]
  assert kinds == [
    "| medium, seed 1 | `<unk>` | 0.0% |  | 0.000 |",
    "| medium, seed 1 | `N` | 50.0% | 45.50 | 1.909 |",
    "| medium, seed 1 | `<eos>` | 0.0% |  | 0.000 |",
    "| medium, seed 1 | the rest | 50.0% | 182.00 | 2.602 |",
  ]


def test_the_kinds_of_several_runs(tmp_path):
  for seed in (1, 2):
    make_run(run := tmp_path / "medium" / f"seed{seed}", seed)
    found = dissect.dissect([("N", -math.log(90.0 + seed))] * 8, 2, 2)
    (run / "test.json").write_text(json.dumps(found))
  assert rows(report.kinds_table(tmp_path), "medium, 2 seeds")[1] == [
    "medium, 2 seeds", "`N`", "100.0%", "91.50 ± 0.71", "4.516",
  ]  # fmt: skip
  assert len(report.valid_table(tmp_path).splitlines()) == 2


def test_what_report_is_given(tmp_path, capsys):
  for main in (report.main, plot_run.main, dissect.main):
    with pytest.raises(SystemExit) as end:
      main(["a", "b"])
    assert end.value.code == 2
  capsys.readouterr()
  make_run(tmp_path / "medium" / "seed1")
  assert report.main([str(tmp_path)]) == 0
  assert "float32, seed 1 |" in capsys.readouterr().out
  assert (tmp_path / "medium" / "seed1" / "perplexity.svg").exists()


def edit(name, pattern, new):
  """Returns what puts `new` for the pattern, in a file of the run it gets."""

  def change(run):
    text = (run / name).read_text()
    edited = re.sub(pattern, new, text)
    assert edited != text
    (run / name).write_text(edited)

  return change


@pytest.mark.parametrize(
  ("change", "told"),
  [
    (lambda run: shutil.rmtree(run), "has no run with a finished epoch"),
    (
      lambda run: (run / "epochs.jsonl").write_text("{"),
      "seed1/epochs.jsonl is damaged: ",
    ),
    (
      lambda run: (run / "about.txt").write_text("seconds: many"),
      "seed1/about.txt is damaged: ",
    ),
    (lambda run: (run / "config.json").unlink(), "seed1/config.json"),
    (lambda run: (run / "config.json").write_text("{}"), "lack something: '"),
    (lambda run: (run / "config.json").write_text("[]"), "not those of a run"),
    (lambda run: (run / "perplexity.svg").mkdir(), "seed1/perplexity.svg"),
    (lambda run: run.rename(run.parent / "seed2"), "has the run of seed 1"),
    (
      edit("config.json", "fcea", "0000"),
      "seed1 has a run on another text than the Penn Treebank",
    ),
    (
      lambda run: run.parent.rename(run.parent.parent / "small"),
      "small/seed1 has a run of medium",
    ),
    (
      edit("epochs.jsonl", r"\A.*\n", ""),
      "seed1/epochs.jsonl leaves out an epoch",
    ),
    (
      edit("epochs.jsonl", r"99\.0", "NaN"),
      "seed1/epochs.jsonl has no perplexity",
    ),
    (
      edit("epochs.jsonl", r"\n(.|\n)+", "\n"),
      "seed1/result.json is not of these epochs",
    ),
    (
      edit("result.json", r'("test_perplexity": )[\d.]+', r"\1NaN"),
      "seed1/result.json has no perplexity",
    ),
    (
      edit("epochs.jsonl", r'("train_seconds": )[\d.]+', r"\1Infinity"),
      "not those of a run",
    ),
    (
      lambda run: (run / "config.json").write_text("[" * 100_000),
      "seed1/config.json is damaged",
    ),
    (
      lambda run: (run / "test.json").write_text('{"perplexity": 91.1}'),
      "seed1/test.json is not of this run",
    ),
    (
      lambda run: (run / "valid.json").write_text(
        '{"in_batches": {"perplexity": NaN}}'
      ),
      "seed1/valid.json is not of this run",
    ),
    (
      lambda run: (run / "valid.json").write_text(
        '{"perplexity": NaN, "in_batches": {"perplexity": 123.0}}'
      ),
      "seed1/valid.json has no perplexity",
    ),
    (
      lambda run: (run / "best.txt").write_text("Valid Perplexity: 5.000\n"),
      "seed1/best.txt is damaged: it has no perplexity of valid and of test",
    ),
    (
      lambda run: (run / "best.txt").write_text(
        "Valid Perplexity: 122.100\nTest Perplexity: 90.000\n"
      ),
      "seed1/best.txt is not of this run",
    ),
    (
      lambda run: (run / "best.txt").write_text(
        "Valid Perplexity: 122.000\nTest Perplexity: 0.500\n"
      ),
      "seed1/best.txt has no perplexity",
    ),
    (lambda run: (run / "epochs.jsonl").write_text(""), "index out of range"),
    (lambda run: (run / "result.json").write_text("[1]"), "not those of a run"),
    (lambda run: (run / "epochs.jsonl").write_text("5"), "not those of a run"),
  ],
)
def test_report_is_given_something_else(change, told, tmp_path, capsys):
  make_run(run := tmp_path / "medium" / "seed1")
  change(run)
  assert report.main([str(tmp_path)]) == 1
  out, err = capsys.readouterr()
  assert out == "" and told in err and err.count("\n") == 1
  assert not (run / "perplexity.svg").is_file()


def test_what_report_prints_cannot_be_encoded(tmp_path):
  for seed in (1, 2):
    make_run(tmp_path / "medium" / f"seed{seed}", seed=seed)
  done = subprocess.run(
    [sys.executable, report.__file__, tmp_path],
    env={"PYTHONIOENCODING": "ascii"},
    capture_output=True,
    text=True,
  )
  assert (done.returncode, done.stdout) == (1, "")
  assert done.stderr == (
    "report.py: cannot print '\\xb1' in ascii: set PYTHONIOENCODING=utf-8.\n"
  )


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
  path = tmp_path / "README.md"
  path.write_text("old")
  with (
    pytest.raises(OSError) as failed,
    plot_run.written_whole(path) as part,
  ):
    part.write_text("half")
    raise OSError(28, "No space left on device")
  assert failed.value.filename == str(path)
  assert [path] == list(tmp_path.iterdir()) and path.read_text() == "old"
  with plot_run.written_whole(path) as part:
    part.write_text("new")
  assert [path] == list(tmp_path.iterdir()) and path.read_text() == "new"


def test_without_matplotlib(tmp_path, capsys, monkeypatch):
  monkeypatch.setitem(sys.modules, "matplotlib", None)
  make_run(tmp_path / "medium" / "seed1")
  assert report.main([str(tmp_path)]) == 1
  assert plot_run.main([str(tmp_path / "medium/seed1")]) == 1
  assert capsys.readouterr().err.count("pip install -r requirements-dev") == 2


@pytest.mark.parametrize(
  ("change", "status", "told"),
  [
    (lambda run: None, 0, "perplexity.svg"),
    (lambda run: (run / "epochs.jsonl").write_text(""), 1, "no epoch is"),
    (lambda run: (run / "epochs.jsonl").write_text("["), 1, "is damaged: "),
    (lambda run: (run / "config.json").write_text("5"), 1, "no run to draw"),
    (lambda run: (run / "epochs.jsonl").write_text("5"), 1, "no run to draw"),
    (
      edit("epochs.jsonl", r"99\.0", "NaN"),
      1,
      "run/epochs.jsonl has no perplexity",
    ),
    (lambda run: shutil.rmtree(run), 1, "config.json"),
  ],
)
def test_plot_run(change, status, told, tmp_path, capsys):
  make_run(tmp_path / "run")
  change(tmp_path / "run")
  assert plot_run.main([str(tmp_path / "run")]) == status
  assert told in "".join(capsys.readouterr())
  assert not (tmp_path / "run" / "perplexity.part").exists()


def test_published_numbers_are_not_drawn_beside_another_text(tmp_path):
  make_run(run := tmp_path / "medium" / "seed1")
  config, epochs = plot_run.read_run(run)
  assert "the paper's end" in plot_run.draw(run, config, epochs).read_text()
  config["data_sha256"] = {}
  assert "the paper's end" not in plot_run.draw(run, config, epochs).read_text()


def test_a_table_without_its_end_costs_no_text(tmp_path):
  lost = "<!-- table runs -->\nold\n\nprose\n"
  text = f"{lost}<!-- table best -->\nold\n<!-- end -->\nmore\n"
  table = report.best_table(tmp_path)
  expected = f"{lost}<!-- table best -->\n{table}<!-- end -->\nmore\n"
  assert report.filled(text, tmp_path) == expected


def test_dissect():
  # Of 11 words in two pieces of 5, two at a time, each piece has 4 that are
  # predicted: the 2nd to the 5th, and the 7th to the 10th.
  names = ["N", "a", "<unk>", "b", "<eos>", "N", "<unk>", "a", "a", "<eos>"]
  words = [(name, -float(i)) for i, name in enumerate(names)]
  found = dissect.dissect(words, 2, 2)
  mean = {"in_batches": (0 + 1 + 2 + 3 + 5 + 6 + 7 + 8) / 8, "whole": 4.5}
  assert found["in_batches"]["words"] == 8
  assert math.isclose(
    found["in_batches"]["perplexity"], math.exp(mean["in_batches"])
  )
  assert found["words"] == 10
  assert math.isclose(found["perplexity"], math.exp(mean["whole"]))
  kinds = found["by_kind"]
  assert [kinds[k]["words"] for k in ("<unk>", "N", "<eos>", "the rest")] == [
    2, 2, 2, 4,
  ]  # fmt: skip
  assert math.isclose(kinds["<eos>"]["perplexity"], math.exp((4 + 9) / 2))
  assert math.isclose(sum(kind["nats"] for kind in kinds.values()), 4.5)


def test_dissect_reads_what_score_prints(call_command, tmp_path):
  status, out, _ = call_command(
    "score", *TF1_CHECKPOINT, "--carry_state", "--json", "--per_word",
    f"--file={TINY}/ptb.valid.txt",
  )  # fmt: skip
  assert status == 0
  config = {"batch_size": 20, "num_steps": 5}
  (tmp_path / "config.json").write_text(json.dumps({"config": config}))
  done = subprocess.run(
    [sys.executable, dissect.__file__, tmp_path],
    input=out,
    capture_output=True,
    text=True,
  )
  assert (done.returncode, done.stderr) == (0, "")
  found, whole = json.loads(done.stdout), json.loads(out.splitlines()[-1])
  assert found["words"] == whole["num_words"]
  assert math.isclose(found["perplexity"], whole["perplexity"])
  # The same words read in batches, where each piece starts from zeros.
  hparams = "--hparams=num_steps=5"
  _, out, _ = call_command(
    "ptb_word_lm", "--evaluate", *TF1_CHECKPOINT, hparams
  )
  printed = float(re.search(r"Valid Perplexity: ([\d.]+)", out)[1])
  assert math.isclose(found["in_batches"]["perplexity"], printed, rel_tol=0.05)


def one_line(*log_probs):
  return json.dumps(
    {"words": [{"word": "a", "log_prob": p} for p in log_probs]}
  )


@pytest.mark.parametrize(
  ("text", "told"),
  [
    ("", "1 words are too few for 2 pieces of more than 3"),
    ("nonsense\n", "the input is not what score.py"),
    ("[1]", "the input is not what score.py"),
    ('{"words": 5}', "the input is not what score.py"),
    ("[" * 100_000, "the input is not what score.py"),
    (one_line(-1.0, -1.0), "--carry_state"),
    (f"{one_line(None, -1.0)}\n" * 2, "--carry_state"),
    (one_line(None, *[-1.0] * 6), "7 words are too few"),
    (one_line(None, *[-9999.0] * 9), "math range error"),
    (one_line(None, *[float("nan")] * 9), "not finite"),
    (one_line(None, *["x"] * 9), "could not convert"),
  ],
)
def test_dissect_is_given_something_else(text, told, tmp_path):
  config = {"config": {"batch_size": 2, "num_steps": 3}}
  (tmp_path / "config.json").write_text(json.dumps(config))
  done = subprocess.run(
    [sys.executable, dissect.__file__, tmp_path],
    input=text,
    capture_output=True,
    text=True,
  )
  assert (done.returncode, done.stdout) == (1, "")
  assert done.stderr.startswith("dissect.py: ") and told in done.stderr
  assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
  "text",
  [
    None,
    "[]",
    '{"config": {"batch_size": "x"}}',
    '{"config": {"batch_size": 1e999, "num_steps": 2}}',
  ],
)
def test_dissect_is_given_no_run(text, tmp_path, capsys):
  if text:
    (tmp_path / "config.json").write_text(text)
  assert dissect.main([str(tmp_path)]) == 1
  assert "config.json is not that of a run" in capsys.readouterr().err


TRAINING = """
import json, os, pathlib, signal, sys, time
flags = dict(each.partition("=")[::2] for each in sys.argv[1:])
run = pathlib.Path(flags["--save_path"])
print("ptb_word_lm.py", *sys.argv[1:], flush=True)
if "--evaluate" in flags:
  print("Valid Perplexity: 2.7183\\nTest Perplexity: 2.7183")
  sys.exit()
def told(signum, frame):
  signal.signal(signum, signal.SIG_DFL)
  time.sleep(float(os.environ.get("SAVE_SECONDS", 0)))
  sys.exit(128 + signum)
for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
  signal.signal(signum, told)
time.sleep(float(os.environ.get("TRAIN_SECONDS", 0)))
about = {"model": flags["--model"], "seed": int(flags["--seed"])}
about["dtype"] = "float32"
about["data_sha256"] = json.loads(os.environ["HASHES"])
about["config"] = {"batch_size": 2, "num_steps": 2, "max_max_epoch": 1}
run.joinpath("config.json").write_text(json.dumps(about))
numbers = {"train_perplexity": 3.0, "valid_perplexity": 2.7183, "wps": 1.0}
numbers.update(epoch=1, train_seconds=1.0)
run.joinpath("epochs.jsonl").write_text(json.dumps(numbers))
result = {**numbers, "test_perplexity": 2.7183}
run.joinpath("result.json").write_text(json.dumps(result))
"""
SCORE = """
import json, sys
first, word = ({"word": "N", "log_prob": p} for p in (None, -1.0))
print(json.dumps({"line": 1, "words": [first, *[word] * 9]}))
print(json.dumps({"perplexity": len(sys.argv[1].split(","))}))
"""


@pytest.fixture
def project(tmp_path):
  project = Project(tmp_path / "a project")
  (project.root / "ptb_word_lm.py").write_text(TRAINING)
  (project.root / "score.py").write_text(SCORE)
  for name in ("lm/command.py", "lm/tf1.py"):
    shutil.copy(report.ROOT / name, project.root)
  # The texts of this folder count as PTB's.
  data = tmp_path / "the data"
  data.mkdir()
  for name, text in TEXTS.items():
    (data / name).write_bytes(text)
  script = project.root / "scripts" / "download_ptb.py"
  script.write_text(
    script.read_text().replace("\nSOURCES =", f"\nHASHES = {HASHES}\nSOURCES =")
  )
  project.env.update(PTB_DATA=str(data), HASHES=json.dumps(HASHES))
  return project


def test_reproduce(project):
  status, out, err = project.run("reproduce.sh", "ensemble")
  assert status == 0, err
  folder = project.root / "runs" / "reproduced"
  for seed in range(1, 6):
    run = folder / "small" / f"seed{seed}"
    data = project.env["PTB_DATA"]
    command = f"ptb_word_lm.py --data_path={data} --save_path={run}"
    told = f"{command} --model=small --seed={seed}"
    assert told in out and (run / "log.txt").read_text() == f"{told}\n"
    best = (run / "best.txt").read_text()
    assert f"{command} --evaluate --checkpoint=best\n" in best
    about = report.about_of((run / "about.txt").read_text())
    ((command,), (software,)) = about["command"], about["software"]
    assert command.endswith(f"RUN --model=small --seed={seed}")
    assert software.startswith("Python 3.")
    assert len(about["seconds"]) == 1
    assert json.loads((run / "valid.json").read_text())["words"] == 9
  for number in (2, 5):
    mean = folder / "small" / f"mean_of_{number}_test.json"
    assert json.loads(mean.read_text()) == {"perplexity": number}
  assert any("5 seeds" in line for line in out)


def is_running(command):
  """Says whether there is a process with this in its command line."""
  found = subprocess.run(["pgrep", "-f", command], stdout=subprocess.DEVNULL)
  return found.returncode == 0


def start_training(project, what, seconds):
  """Starts reproduce.sh; returns its process, once the training has begun."""
  process = subprocess.Popen(
    [project.root / "scripts" / "reproduce.sh", what],
    env={**project.env, "TRAIN_SECONDS": str(seconds)},
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    text=True,
  )
  while "--seed=1" not in process.stdout.readline():
    pass
  return process


@pytest.mark.parametrize(
  "signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
)
def test_reproduce_is_stopped(project, signum):
  with start_training(project, "ensemble", 60) as process:
    time.sleep(0.2)  # It has printed, and then sleeps.
    process.send_signal(signum)
    rest = process.stdout.read()
  assert (process.returncode, rest) == (128 + signum, "")
  run = project.root / "runs" / "reproduced" / "small" / "seed1"
  assert (run / "about.txt").read_text().splitlines()[-1].startswith("seconds:")


def test_a_second_ctrl_c_ends_reproduce_at_once(project):
  ours, its = pty.openpty()
  with subprocess.Popen(
    ["setsid", "--ctty", project.root / "scripts" / "reproduce.sh", "small"],
    env={**project.env, "TRAIN_SECONDS": "60", "SAVE_SECONDS": "60"},
    stdin=its,
    stdout=its,
    stderr=its,
  ) as process:
    os.close(its)
    shown = b""
    while b"--seed=1" not in shown:
      shown += os.read(ours, 4096)
    for _ in range(2):
      time.sleep(0.2)
      os.write(ours, b"\x03")
    assert process.wait(timeout=20) == 128 + signal.SIGINT
  os.close(ours)
  assert not is_running(f"save_path={project.root}")


def test_reproduce_twice_at_once(project):
  with start_training(project, "small", 60) as first:
    run = project.root / "runs" / "reproduced" / "small" / "seed1"
    before = (run / "about.txt").read_text()
    status, _, err = project.run("reproduce.sh", "small")
    assert (status, err) == (
      1, [f"reproduce.sh: {run} is being trained already. Wait for its end."]
    )  # fmt: skip
    assert (run / "about.txt").read_text() == before
    first.kill()  # The training goes on, and so the run stays in use.
    assert project.run("reproduce.sh", "small")[0] == 1
    while subprocess.run(["pkill", "-f", f"save_path={run}"]).returncode == 0:
      time.sleep(0.1)
  assert project.run("reproduce.sh", "small")[0] == 0


def test_reproduce_on_a_processor_that_tells_nothing(project):
  grep = project.root / "bin" / "grep"  # Finds nothing, as in ARM's cpuinfo.
  grep.parent.mkdir()
  grep.write_text("#!/bin/sh\nexit 1\n")
  grep.chmod(0o755)
  project.env["PATH"] = f"{grep.parent}:{project.env['PATH']}"
  status, _, err = project.run("reproduce.sh", "small")
  assert status == 0, err
  run = project.root / "runs" / "reproduced" / "small" / "seed1"
  assert "cores of an unknown processor ()" in (run / "about.txt").read_text()


def test_reproduce_cannot_write_its_log(project):
  run = project.root / "runs" / "reproduced" / "small" / "seed1"
  (run / "log.txt").mkdir(parents=True)
  status, out, err = project.run("reproduce.sh", "small")
  assert status == 1 and "log.txt: Is a directory" in err[-1]
  assert not any("--seed=1" in line for line in out)


def test_reproduce_cannot_score(project):
  score = project.root / "score.py"
  score.write_text(SCORE + "sys.exit(1)\n")
  assert project.run("reproduce.sh", "small")[0] == 1
  run = project.root / "runs" / "reproduced" / "small" / "seed1"
  assert (run / "best.txt").exists() and not (run / "valid.json").exists()
  score.write_text(SCORE)
  status, _, err = project.run("reproduce.sh", "small")
  assert status == 0, err
  assert json.loads((run / "valid.json").read_text())["words"] == 9
  assert not list(run.glob("*.part"))


def test_reproduce_is_stopped_while_it_scores(project):
  score = project.root / "score.py"
  score.write_text("import time\nopen('scores', 'w').close()\ntime.sleep(60)\n")
  process = subprocess.Popen(
    [project.root / "scripts" / "reproduce.sh", "small"],
    env=project.env,
    cwd=project.root,
    stdout=subprocess.DEVNULL,
  )
  while not (project.root / "scores").exists():
    time.sleep(0.01)
  status, _, err = project.run("reproduce.sh", "small")
  assert status == 1 and "is being trained already" in err[-1]
  process.send_signal(signal.SIGTERM)
  assert process.wait() == 128 + signal.SIGTERM
  assert not is_running(score)
  run = project.root / "runs" / "reproduced" / "small" / "seed1"
  assert (run / "best.txt").exists() and not (run / "valid.json").exists()


def test_reproduce_with_nobody_reading(project):
  process = start_training(project, "small", 0.5)
  process.stdout.close()
  process.wait()
  run = project.root / "runs" / "reproduced" / "small" / "seed1"
  assert (run / "result.json").exists() and (run / "test.json").exists()
  assert "--seed=1\n" in (run / "log.txt").read_text()


def test_reproduce_is_given_another_text(project):
  path = pathlib.Path(project.env["PTB_DATA"]) / "ptb.valid.txt"
  path.write_text("something else\n")
  status, _, err = project.run("reproduce.sh", "small")
  assert status == 1
  assert "has not PTB's ptb.valid.txt (by the SHA-256)" in err[-1]
  assert not (project.root / "runs").exists()


def test_reproduce_is_not_told_what(project):
  for arguments in ([], ["tiny"], ["small", "large"]):
    status, out, err = project.run("reproduce.sh", *arguments)
    assert (status, out) == (2, [])
    assert err == ["Usage: scripts/reproduce.sh small|medium|large|ensemble"]
