"""Draws the learning curves of a run.

  .venv/bin/python scripts/plot_run.py FOLDER

FOLDER is the --save_path of a training. The picture, FOLDER/perplexity.svg,
shows the perplexity of each epoch and, for the Penn Treebank, the published
results. The script needs matplotlib, from requirements-dev.txt.
"""

import contextlib
import csv
import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lm.base import imports

if __name__ == "__main__":
  imports.report_failures()


import download_ptb

from lm.base import command, files

LINES = {"the TF1 tutorial": "--", "Zaremba et al.": ":"}  # Styles by source.
TICKS = (1, 1.5, 2, 3, 4, 6, 8)  # Times 1, 10, 100, ...
GRAY = "#808080"  # Readable on white and on black: there is no background.
STYLE = {
  "svg.fonttype": "none",  # Text stays text, which keeps the file small.
  "svg.hashsalt": "perplexity",  # The same run gives the same file.
  "savefig.transparent": True,
  "legend.frameon": False,
  "lines.markersize": 3,
  **{f"{name}.color": GRAY for name in ("text", "xtick", "ytick", "grid")},
  **{f"axes.{name}color": GRAY for name in ("edge", "label")},
  **{f"axes.spines.{side}": False for side in ("top", "right")},
}


def published():
  """Returns the published results, a list of dictionaries.

  Their keys are model, source, and the perplexities train, valid and test.
  """
  text = (ROOT / "results" / "published.csv").read_text(encoding="utf-8")
  return list(csv.DictReader(text.splitlines()))


def read_json(path):
  """Returns the value in a .json file, or a list of those in a .jsonl file.

  Raises DamagedFileError if the file is missing or not JSON.
  """
  advice = "Give the folder of a run, the --save_path of its training."
  return files.read_json(path, lambda value: value, advice)


@contextlib.contextmanager
def figure(path, width=8, height=4.5):
  """Yields a figure, whose size is in inches; then writes it as an SVG file."""
  os.environ.pop("MPLBACKEND", None)  # Not needed here, and may not exist.
  try:  # Imported here, so that --help works without it.
    import matplotlib.figure
  except ImportError as error:
    raise command.InputError(
      f"{error}: run `.venv/bin/pip install -r requirements-dev.txt`."
    ) from error
  with matplotlib.rc_context(STYLE):
    figure_ = matplotlib.figure.Figure((width, height), layout="constrained")
    yield figure_
    with files.new_file(path) as temporary:
      figure_.savefig(temporary, format="svg", metadata={"Date": None})


@contextlib.contextmanager
def picture(path):
  """Yields axes for perplexity by epoch; then writes them as an SVG file."""
  with figure(path) as figure_:
    axes = figure_.subplots()
    axes.set(xlabel="epoch", ylabel="perplexity", yscale="log")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.yaxis.get_major_locator().set_params(subs=TICKS, numticks=99)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    yield axes


@command.entry_point("plot_run.py", arguments=1)
def main(_, run=None):
  """Draws the run in the folder `run`; returns the exit status."""
  if not run:
    raise command.InputError("FOLDER is missing: give the folder of a run.")
  folder = pathlib.Path(run)
  config = read_json(folder / "config.json")
  epochs = read_json(folder / "epochs.jsonl")
  if not epochs:
    raise command.InputError(f"{folder} has no finished epoch to draw.")
  is_ptb = config["data_sha256"] == download_ptb.HASHES
  model, dtype, seed = config["model"], config["dtype"], config["seed"]
  with picture(folder / "perplexity.svg") as axes:
    for part, color in (("train", "C0"), ("valid", "C1")):
      values = [epoch[f"{part}_perplexity"] for epoch in epochs]
      label = f"{part}, epoch {len(values)}: {values[-1]:.2f}"
      axes.plot(range(1, len(values) + 1), values, f"{color}o-", label=label)
      for row in published() if is_ptb else ():
        style = row["model"] == model and LINES.get(row["source"])
        if row[part] and style:
          label = f"{part}, {row['source']}: {row[part]}"
          axes.axhline(float(row[part]), color=color, ls=style, label=label)
    title = f"The {model} model, {dtype}, seed {seed}"
    axes.set_title(title, parse_math=False)
    axes.legend()
  print(folder / "perplexity.svg")
  return 0


if __name__ == "__main__":
  sys.exit(main())
