"""Makes the tables and the picture of the results from the files of the runs.

  .venv/bin/python measure/report.py           updates results/README.md
  .venv/bin/python measure/report.py FOLDER    prints the tables of a folder of
                                               runs that reproduce.sh has made

Both write the models' learning curves to learning_curves.svg in the folder, and
leave out unfinished runs. They need requirements-dev.txt.
"""

import itertools
import pathlib
import re
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from lm.base import imports

if __name__ == "__main__":
  imports.report_failures()

import plot_run

from lm.base import command, files

COLORS = {"small": "#2a9d4a", "medium": "#d9660a", "large": "#2f7fd6"}
# A run's row in the table whose heading is in results/README.md.
ROW = (
  "[{name}]({name}/log.txt) | {config[dtype]} | "
  "{result[train_perplexity]:.2f} | {result[valid_perplexity]:.2f} | "
  "{result[test_perplexity]:.2f} | {result[epoch]} of "
  "{config[config][max_max_epoch]} | {steps} | {total} | {wps:,.0f} | "
  "{commits} | {date}"
)


def read_runs(folder):
  """Returns {model: list of its finished runs}; a run is a dict for ROW."""
  runs = {}
  for model in COLORS:
    paths = sorted(folder.glob(f"{model}/seed*/result.json"))
    runs[model] = [_read_run(path) for path in paths]
  return runs


def _read_run(path):
  folder = path.parent
  epochs = plot_run.read_json(folder / "epochs.jsonl")
  text = (folder / "about.txt").read_text("utf-8")
  commits, starts, seconds = (
    re.findall(rf"^{key}: (\S+)", text, re.MULTILINE)
    for key in ("commit", "started", "seconds")
  )
  over = "over " * (len(seconds) < len(starts))  # A killed start is not timed.
  return {
    "name": f"{folder.parent.name}/{folder.name}",
    "config": plot_run.read_json(folder / "config.json"),
    "result": plot_run.read_json(path),
    "epochs": epochs,
    "steps": _hours(epoch["train_seconds"] for epoch in epochs),
    "wps": statistics.median(epoch["wps"] for epoch in epochs),
    "total": over + _hours(map(int, seconds)),
    "commits": ", ".join(dict.fromkeys(commits)),
    "date": starts[0],
  }


def _hours(seconds):
  hours, minutes = divmod(round(sum(seconds) / 60), 60)
  return f"{hours} h {minutes} min"


def _mean(values):
  """Returns the mean in bold and, for several values, their deviation."""
  if not values:
    return "not run"
  deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
  return f"**{statistics.mean(values):.2f}**{deviation}"


def _seeds(runs):
  one = f"seed {runs[0]['config']['seed']}"
  return one if len(runs) == 1 else f"{len(runs)} seeds"


def _results(folder, runs):
  """Yields the rows of the published perplexities and of ours."""
  published = plot_run.published()
  published = itertools.groupby(published, lambda row: row["model"])
  for model, rows in published:
    yield " | ".join(next(rows).values())
    yield from (" | ".join({**row, "model": ""}.values()) for row in rows)
    ours = " | **this project**"
    if model_runs := runs.get(model):
      dtypes = sorted({run["config"]["dtype"] for run in model_runs})
      ours += f", {' and '.join(dtypes)}, {_seeds(model_runs)}"
    if model in runs:
      for part in ("train", "valid", "test"):
        values = [run["result"][f"{part}_perplexity"] for run in model_runs]
        ours += f" | {_mean(values)}"
    else:  # "mean of N small"
      number = model.split()[2]
      ours += f", seeds 1 to {number} | "
      for part in ("valid", "test"):
        paths = folder.glob(f"small*/mean_of_{number}_{part}.json")
        values = [plot_run.read_json(path)["perplexity"] for path in paths]
        ours += f" | {_mean(values)}"
    yield ours
    if texts := [p.read_text() for p in folder.glob(f"{model}*/*/adapted.txt")]:
      yield _adapted(texts)


def _adapted(texts):
  """Returns the row of what `--evaluate --adapt` printed for each seed."""
  row = f" | **this project**, adapted, {len(texts)} seeds | "
  for part in ("Valid", "Test"):
    values = [float(re.search(rf"{part}.*: (.*)", text)[1]) for text in texts]
    row += f" | {_mean(values)}"
  return row


def fill(text, folder, runs):
  """Fills in the tables between `<!-- table NAME -->` and `<!-- end -->`."""
  all_runs = itertools.chain(*runs.values())
  rows = {
    "results": _results(folder, runs),
    "runs": (ROW.format(**run) for run in all_runs),
  }
  return re.sub(
    r"(<!-- table (\w+) -->\n.*\n.*\n)(?s:.*?)(?=<!-- end -->)",
    lambda match: match[1] + "".join(f"| {row} |\n" for row in rows[match[2]]),
    text,
  )


def draw(folder, runs):
  """Draws the learning curves of each model's first run."""
  with plot_run.picture(folder / "learning_curves.svg") as axes:
    for model, color in COLORS.items():
      for run in runs[model][:1]:
        for part, width in (("valid", 2), ("train", 0.8)):
          y = [epoch[f"{part}_perplexity"] for epoch in run["epochs"]]
          axes.plot(range(1, len(y) + 1), y, color=color, linewidth=width)
          axes.text(len(y), y[-1], f"  {model} {part} {y[-1]:.1f}", color=color)


@command.entry_point("report.py", arguments=1)
def main(_, name=None):
  """Reports the runs in the folder `name`; returns the exit status."""
  folder = pathlib.Path(name or ROOT / "results")
  runs = read_runs(folder)
  if not any(runs.values()):
    raise command.InputError(f"{folder} has no finished run.")
  page = ROOT / "results" / "README.md"
  text = fill(page.read_text("utf-8"), folder, runs)
  draw(folder, runs)
  if name:
    print("\n".join(re.findall(r"(?s)<!-- table.*?\n(.*?)<!-- end", text)))
  else:
    files.write_file(page, text)
  return 0


if __name__ == "__main__":
  sys.exit(main())
