"""Makes the tables and pictures of results from the files of runs.

  .venv/bin/python scripts/report.py           draws those of results/, writes
                                               the tables into README.md and
                                               results/README.md
  .venv/bin/python scripts/report.py FOLDER    draws those of another folder,
                                               prints its tables

The folder has MODEL/seedN/ for each run, with config.json, epochs.jsonl,
result.json, about.txt, best.txt, valid.json and test.json, and
small/mean_of_N_PART.json, as scripts/reproduce.sh makes them. Whatever is
missing is shown as not run; runs on other texts than PTB are refused. Needs
matplotlib, from requirements-dev.txt.
"""

import argparse
import dataclasses
import json
import math
import pathlib
import re
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import download_ptb
import plot_run

from lm import command

MODELS = ("small", "medium", "large")
PARTS = ("train", "valid", "test")


@dataclasses.dataclass(frozen=True)
class Run:
  """What a run has left."""

  folder: pathlib.Path
  config: dict
  epochs: list
  result: dict | None  # None: it has not ended.
  about: dict  # Of about.txt: a list of what was said at each start.

  @classmethod
  def read(cls, folder):
    """Reads a run's files.

    Raises:
      OSError, RunError: if one cannot be read, is of another text, or does
        not fit the others; it names the file.
    """
    run = cls(
      folder,
      *plot_run.read_run(folder),
      result=plot_run.read_file(folder / "result.json", json.loads, None),
      about=plot_run.read_file(folder / "about.txt", about_of, {}),
    )
    if run.config["data_sha256"] != download_ptb.HASHES:
      raise plot_run.RunError(
        f"{folder} has a run on another text than the Penn Treebank (by the "
        "data_sha256 in config.json), which the published numbers are of."
      )
    if folder.name != f"seed{run.config['seed']}":
      raise plot_run.RunError(
        f"{folder} has the run of seed {run.config['seed']}."
      )
    if folder.parent.name != run.config["model"]:
      raise plot_run.RunError(f"{folder} has a run of {run.config['model']}.")
    run._check_result()
    return run

  def _check_result(self):
    """Raises RunError if epochs and result are not those of one run."""
    if self.result is None:
      return
    path = self.folder / "result.json"
    plot_run.check_perplexity(path, self.result["test_perplexity"])
    if self.result["epoch"] != self.config["config"]["max_max_epoch"] or any(
      self.result[key] != self.epochs[-1][key]
      for key in ("epoch", "train_perplexity", "valid_perplexity")
    ):
      raise plot_run.RunError(f"{path} is not of these epochs.")

  def perplexity(self, part):
    """Returns the final one of a part; None if there is none."""
    return self.result and self.result[f"{part}_perplexity"]

  def dissected(self, part):
    """Returns what dissect.py found in a part; None if it was not asked.

    Raises:
      OSError, RunError: if it cannot be read, or is not of this run.
    """
    path = self.folder / f"{part}.json"
    found = plot_run.read_file(path, json.loads, None)
    value = self.perplexity(part)
    if found and part == "test":
      _check_same(path, found["perplexity"], value, 1e-4)
    elif found:
      # The states at the start of each piece differ: by 0.1 to 0.2%.
      _check_same(path, found["in_batches"]["perplexity"], value, 3e-3)
      plot_run.check_perplexity(path, found["perplexity"])
    return found

  def tested_best(self, best):
    """Returns test's perplexity by best.txt; None if there is none.

    Args:
      best: the epoch whose checkpoint was tested.

    Raises:
      OSError, RunError: if it cannot be read, or is not of this epoch.
    """
    path = self.folder / "best.txt"
    found = plot_run.read_file(path, best_of, None)
    if found is None:
      return None
    valid, test = found
    plot_run.check_perplexity(path, test)
    _check_same(path, valid, best["valid_perplexity"], 1e-4)
    return test


def _check_same(path, found, value, span):
  """Raises RunError if a perplexity from this file is not that of the run."""
  if not math.isclose(found, value, rel_tol=span):
    raise plot_run.RunError(f"{path} is not of this run.")


def about_of(text):
  """Returns about.txt's lines `key: value` as a list of values for each key."""
  about = {}
  for line in text.splitlines():
    key, _, value = line.partition(": ")
    values = about.setdefault(key, [])
    values.append(int(value) if key == "seconds" else value)
  return about


def best_of(text):
  """Returns valid's and test's perplexity of what --evaluate has printed."""
  found = re.search(
    r"^Valid Perplexity: (.+)\nTest Perplexity: (.+)$", text, re.MULTILINE
  )
  if not found:
    raise ValueError("it has no perplexity of valid and of test")
  return float(found[1]), float(found[2])


def runs_of(folder, model):
  """Returns the Runs of a model that have ended an epoch, by their seeds."""
  found = [path.parent for path in folder.glob(f"{model}/seed*/epochs.jsonl")]
  runs = [run for path in found if (run := Run.read(path)).epochs]
  return sorted(runs, key=lambda run: run.config["seed"])


def all_runs(folder):
  """Yields the Runs of all models."""
  for model in MODELS:
    yield from runs_of(folder, model)


def markdown(head, rows, left=1):
  """Returns a table, so many columns to the left, the others to the right."""
  lines = [head, ["---"] * left + ["---:"] * (len(head) - left), *rows]
  return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def results_table(folder):
  """Returns the table of published and reached perplexities."""
  rows = []
  for name, published in plot_run.PUBLISHED.items():
    first = name
    for whose, numbers in published.items():
      rows.append([first, whose, *numbers])
      first = ""
    if name.startswith("mean"):
      rows.append(_mean_of_models(folder, name.split()[2]))
    else:
      rows.append(_runs_row(runs_of(folder, name)))
  return markdown(["model", "perplexity", *PARTS], rows, left=2)


def _runs_row(runs):
  """Returns the row of a model's runs."""
  ended = [run for run in runs if run.result]
  if not runs:
    return ["", "**this project**", "not run", "not run", "not run"]
  kind = " and ".join(sorted({run.config["dtype"] for run in ended or runs}))
  if not ended:
    run = max(runs, key=lambda run: len(run.epochs))
    last, size = run.epochs[-1], run.config["config"]["max_max_epoch"]
    whose = f"**this project**, {kind}, at epoch {last['epoch']} of {size}"
    return [
      "",
      whose,
      *(f"{last[f'{part}_perplexity']:.2f}" for part in PARTS[:2]),
      "not yet",
    ]
  values = [[run.perplexity(part) for run in ended] for part in PARTS]
  whose = f"**this project**, {kind}, {_seeds(ended)}"
  return ["", whose, *(_mean(found, bold="**") for found in values)]


def _seeds(runs):
  """Returns which seeds, or how many."""
  if len(runs) == 1:
    return f"seed {runs[0].config['seed']}"
  return f"{len(runs)} seeds"


def _mean(values, bold=""):
  """Returns the mean, and the standard deviation of more than one value."""
  if None in values:
    return ""
  mean = f"{bold}{statistics.mean(values):.2f}{bold}"
  return (
    mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.2f}"
  )


def _mean_of_models(folder, number):
  """Returns the row of an average of probabilities."""
  row = ["", f"**this project**, seeds 1 to {number}", ""]
  for part in PARTS[1:]:
    path = folder / "small" / f"mean_of_{number}_{part}.json"
    found = plot_run.read_file(path, json.loads, None)
    if found:
      plot_run.check_perplexity(path, found["perplexity"])
      row.append(f"**{found['perplexity']:.2f}**")
    else:
      row.append("not run")
  return row


def runs_table(folder):
  """Returns the table of all runs: what each reached, and in which time."""
  rows = []
  for run in all_runs(folder):
    numbers = [run.epochs[-1][f"{part}_perplexity"] for part in PARTS[:2]]
    wps = statistics.median(epoch["wps"] for epoch in run.epochs)
    where = run.folder.relative_to(folder)
    rows.append(
      [
        f"[{where}]({where}/log.txt)",
        run.config["dtype"],
        *(f"{value:.2f}" for value in numbers),
        f"{run.perplexity('test'):.2f}" if run.result else "",
        f"{len(run.epochs)} of {run.config['config']['max_max_epoch']}",
        _hours(sum(epoch["train_seconds"] for epoch in run.epochs)),
        _in_all(run.about),
        f"{wps:,.0f}",
        ", ".join(dict.fromkeys(run.about.get("commit", []))),
        "".join(run.about.get("started", [])[:1])[:10],
      ]
    )
  head = ["run", "type", *PARTS, "epochs", "in steps", "in all", "words/s"]
  head += ["commit", "date"]
  return markdown(head, rows)


def _hours(seconds):
  """Returns a time as hours and minutes."""
  hours, minutes = divmod(round(seconds / 60), 60)
  return f"{hours} h {minutes} min"


def _in_all(about):
  """Returns the time from start to end, without that of starts unended."""
  seconds, starts = about.get("seconds", []), about.get("started", [])
  over = "over " if len(seconds) < len(starts) else ""
  return over + _hours(sum(seconds)) if seconds else ""


def valid_table(folder):
  """Returns the table of what reading valid in batches does."""
  rows = []
  for run in _dissected(all_runs(folder), "valid"):
    found, batches = run.dissected("valid"), run.perplexity("valid")
    same = found["in_batches"]
    rows.append(
      [
        run.folder.relative_to(folder),
        f"{batches:.2f}",
        f"{same['perplexity']:.2f}",
        f"{found['perplexity']:.2f}",
        f"{found['words'] - same['words']:,}",
      ]
    )
  return markdown(
    [
      "run",
      "in batches, as printed",
      "the same words as one stream",
      "all words as one stream",
      "words left out",
    ],
    rows,
  )


def best_table(folder):
  """Returns the table of the best epoch's and the last one's perplexity."""
  rows = []
  for run in all_runs(folder):
    best = min(run.epochs, key=lambda epoch: epoch["valid_perplexity"])
    last = run.epochs[-1]
    test = run.result and run.tested_best(best)
    if test:
      rows.append(
        [
          run.folder.relative_to(folder),
          best["epoch"],
          f"{best['valid_perplexity']:.2f}",
          f"{test:.2f}",
          last["epoch"],
          f"{last['valid_perplexity']:.2f}",
          f"{run.perplexity('test'):.2f}",
        ]
      )
  head = ["run", "best epoch", "valid", "test", "last epoch", "valid", "test"]
  return markdown(head, rows)


def kinds_table(folder):
  """Returns the table of perplexity by kinds of words."""
  rows = []
  for model in MODELS:
    runs = list(_dissected(runs_of(folder, model), "test"))
    if not runs:
      continue
    found = [run.dissected("test") for run in runs]
    for kind in found[0]["by_kind"]:
      its = [each["by_kind"][kind] for each in found]
      rows.append(
        [
          f"{model}, {_seeds(runs)}",
          kind if kind == "the rest" else f"`{kind}`",
          f"{its[0]['words'] / found[0]['words']:.1%}",
          _mean([each["perplexity"] for each in its]),
          f"{statistics.mean(each['nats'] for each in its):.3f}",
        ]
      )
  head = ["model", "kind", "of the words", "perplexity", "nats a word of all"]
  return markdown(head, rows)


def _dissected(runs, part):
  """Yields the ended runs of which this part was dissected."""
  for run in runs:
    if run.result and run.dissected(part):
      yield run


TABLES = {
  "results": results_table,
  "runs": runs_table,
  "valid": valid_table,
  "best": best_table,
  "kinds": kinds_table,
}


def filled(text, folder):
  """Returns a text where each table stands between its marks.

  Args:
    text: with lines `<!-- table NAME -->` and `<!-- end -->`.
    folder: of the results.
  """

  def fill(found):
    return f"{found[1]}{TABLES[found[2]](folder)}{found[3]}"

  # A table ends before the next mark, so that a missing end costs no text.
  marks = r"(<!-- table (\w+) -->\n)(?:(?!<!-- ).)*(<!-- end -->\n)"
  return re.sub(marks, fill, text, flags=re.DOTALL)


def draw_all(folder):
  """Draws a picture of each run, into its folder."""
  for run in all_runs(folder):
    plot_run.draw(run.folder, run.config, run.epochs)


def main(argv=None):
  """Does what the head of this file says; returns the exit status."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("folder", metavar="FOLDER", nargs="?", type=pathlib.Path)
  folder = parser.parse_args(argv).folder
  return command.run("report.py", [""], lambda: _main(folder))


def _main(given):
  """Reports a folder, None for the project's; returns the exit status."""
  folder = given or ROOT / "results"
  shown, texts = [], {}
  try:
    if not any(all_runs(folder)):
      raise plot_run.RunError(f"{folder} has no run with a finished epoch.")
    if given:
      shown = [table(folder) for table in TABLES.values()]
    else:
      for path in (ROOT / "README.md", folder / "README.md"):
        texts[path] = filled(path.read_text(encoding="utf-8"), folder)
    draw_all(folder)
  except plot_run.NOT_A_RUN as error:
    raise plot_run.RunError(
      f"the files of a run in {folder} are not those of a run, or lack "
      f"something: {error}."
    ) from error
  for path, text in texts.items():
    with plot_run.written_whole(path) as part:
      part.write_text(text, encoding="utf-8")
  if shown:
    print("\n".join(shown))
  return 0


if __name__ == "__main__":
  sys.exit(main())
