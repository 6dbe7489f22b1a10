"""Draws the learning curves of a run.

  .venv/bin/python scripts/plot_run.py RUN

RUN is a folder that --save_path has named. The picture, RUN/perplexity.svg,
shows the perplexity of each epoch and, for the Penn Treebank, the published
results. Needs matplotlib, from requirements-dev.txt.
"""

import contextlib
import csv
import math
import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lm.base import imports

if __name__ == "__main__":
  imports.explain_missing()


import download_ptb

from lm.base import command, files

LINES = {"the tutorial": "--", "Zaremba et al.": ":"}  # How to draw them.
TICKS = (1, 1.5, 2, 3, 4, 6, 8)  # These, and 10, 100, ... times as much.
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
  """Lists published results: their model, source, train, valid and test."""
  csv_ = (ROOT / "results" / "published.csv").read_text(encoding="utf-8")
  return list(csv.DictReader(csv_.splitlines()))


def read_json(path):
  """Returns the object in a .json file, or the list of those in epochs.jsonl.

  Raises:
    InputError: if the file is damaged, or lacks a key that is asked for later.
  """

  class Object(dict):
    def __missing__(self, key):
      raise command.InputError(f"{path} is damaged: it has no {key!r}.")

  def check(value):
    for epoch in value if path.suffix == ".jsonl" else ():
      all(map(math.isfinite, epoch.values()))
    return value

  advice = "Name the folder of a run, which --save_path has named."
  return files.read_json(path, check, advice, object_hook=Object)


@contextlib.contextmanager
def figure(path, width=8, height=4.5):
  """Yields a figure of this size in inches; then writes the SVG file."""
  os.environ.pop("MPLBACKEND", None)  # No backend is used, right or wrong.
  try:  # Imported here, so that --help works without it.
    import matplotlib.figure
  except ImportError as error:
    raise command.InputError(
      f"{error}: run `.venv/bin/pip install -r requirements-dev.txt`."
    ) from error
  with matplotlib.rc_context(STYLE):
    drawn = matplotlib.figure.Figure((width, height), layout="constrained")
    yield drawn
    with files.new_file(path) as temporary:
      drawn.savefig(temporary, format="svg", metadata={"Date": None})


@contextlib.contextmanager
def picture(path):
  """Yields axes for perplexity by epoch; afterwards writes the SVG file."""
  with figure(path) as drawn:
    axes = drawn.subplots()
    axes.set(xlabel="epoch", ylabel="perplexity", yscale="log")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.yaxis.get_major_locator().set_params(subs=TICKS, numticks=99)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    yield axes


@command.entry_point("plot_run.py", arguments=1)
def main(_, name=None):
  """Draws the run in the folder `name`; returns the exit status."""
  if not name:
    raise command.InputError("Which run? Name its folder.")
  folder = pathlib.Path(name)
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
