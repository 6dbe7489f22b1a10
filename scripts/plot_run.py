"""Draws the learning curves of a run.

  .venv/bin/python scripts/plot_run.py RUN

RUN is a folder that --save_path has named. The picture, RUN/perplexity.svg,
shows the perplexity of each epoch and, for the Penn Treebank, the published
results. Needs matplotlib, from requirements-dev.txt.
"""

import contextlib
import json
import pathlib
import sys

from absl import app

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import download_ptb

from lm import command, files

# Published perplexities of train, valid and test: table 1 of the paper, the
# tutorial's README, and the range of what others reached with either's code.
PAPER, TUTORIAL, RE_RUNS = "Zaremba et al.", "the tutorial", "re-runs of others"
PUBLISHED = {
  "small": {
    PAPER: ("", "120.7", "114.5"),
    TUTORIAL: ("37.99", "121.39", "115.91"),
    RE_RUNS: ("", "118.1 to 121.4", "112.6 to 115.9"),
  },
  "mean of 2 small": {PAPER: ("", "100.4", "96.1")},
  "mean of 5 small": {PAPER: ("", "87.9", "84.1")},
  "medium": {
    PAPER: ("", "86.2", "82.7"),
    TUTORIAL: ("48.45", "86.16", "82.07"),
    RE_RUNS: ("", "86.2 to 87.4", "82.1 to 84.0"),
  },
  "large": {
    PAPER: ("", "82.2", "78.4"),
    TUTORIAL: ("37.87", "82.62", "78.29"),
    RE_RUNS: ("", "82.2 to 82.8", "78.1 to 78.5"),
  },
}
GRAY = "#808080"  # Readable on white and on black: there is no background.
STYLE = {
  "svg.fonttype": "none",  # Text stays text, which keeps the file small.
  "svg.hashsalt": "perplexity",  # The same run gives the same file.
  "savefig.transparent": True,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "legend.frameon": False,
  **{f"{name}.color": GRAY for name in ("text", "xtick", "ytick", "grid")},
  **{f"axes.{name}color": GRAY for name in ("edge", "label")},
}


def read_json(path):
  """Returns the JSON object in a file, of a .jsonl file a list, one per line.

  Raises:
    InputError: if the file is damaged, or, later, if an object is asked for a
      key that it does not have.
  """

  class Object(dict):
    def __missing__(self, key):
      raise command.InputError(f"{path} is damaged: it has no {key!r}.")

  try:
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines() if path.suffix == ".jsonl" else [text]
    objects = [json.loads(line, object_hook=Object) for line in lines]
  except ValueError as error:
    raise command.InputError(f"{path} is damaged: {error}.") from error
  return objects if path.suffix == ".jsonl" else objects[0]


def read_run(folder):
  """Returns a run's config.json, epochs.jsonl, and result.json or None."""
  result = folder / "result.json"
  return (
    read_json(folder / "config.json"),
    read_json(folder / "epochs.jsonl"),
    read_json(result) if result.exists() else None,
  )


def curve(epochs, part):
  """Returns the numbers of the epochs, and train's or valid's perplexities."""
  key = f"{part}_perplexity"
  return [e["epoch"] for e in epochs], [e[key] for e in epochs]


@contextlib.contextmanager
def picture(path):
  """Yields axes for perplexity by epoch; afterwards writes the SVG file."""
  try:  # Imported here, so that --help works without it.
    import matplotlib
    from matplotlib import figure as figures
    from matplotlib import ticker
  except ImportError as error:
    raise command.InputError(
      f"{error}: run `.venv/bin/pip install -r requirements-dev.txt`."
    ) from error
  with matplotlib.rc_context(STYLE):
    figure = figures.Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel="epoch", ylabel="perplexity", yscale="log")
    whole = ticker.MaxNLocator(integer=True, steps=[1, 2, 5, 10])
    axes.xaxis.set_major_locator(whole)
    fine = ticker.LogLocator(subs=(1, 1.5, 2, 3, 4, 6, 8), numticks=99)
    axes.yaxis.set_major_locator(fine)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    yield axes
    with files.new_file(path) as temporary:
      figure.savefig(temporary, format="svg", metadata={"Date": None})


def draw(folder):
  """Draws the run in a folder; returns the path of the picture."""
  config, epochs, _ = read_run(folder)
  if not epochs:
    raise command.InputError(f"{folder} has no finished epoch to draw.")
  path = folder / "perplexity.svg"
  colors = {"train": "tab:blue", "valid": "tab:orange"}
  with picture(path) as axes:
    for part, color in colors.items():
      numbers, values = curve(epochs, part)
      label = f"{part}, epoch {numbers[-1]}: {values[-1]:.2f}"
      axes.plot(numbers, values, "o-", color=color, markersize=3, label=label)
    published = PUBLISHED.get(config["model"])
    if published and config["data_sha256"] == download_ptb.HASHES:
      for source, line in ((TUTORIAL, "--"), (PAPER, ":")):
        for part, value in zip(colors, published[source], strict=False):
          if value:
            label = f"{part}, {source}: {value}"
            axes.axhline(float(value), color=colors[part], ls=line, label=label)
    axes.set_title(
      f"The {config['model']} model, {config['dtype']}, seed {config['seed']}"
    )
    axes.legend()
  return path


def main(argv):
  """Draws the run that the command line names; returns the exit status."""

  def body():
    if len(argv) < 2:
      raise command.InputError("Which run? Name its folder.")
    print(draw(pathlib.Path(argv[1])))
    return 0

  return command.run("plot_run.py", argv, body, arguments=1)


if __name__ == "__main__":
  app.run(main)
