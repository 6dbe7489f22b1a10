"""Draws a run's train and valid perplexity, on PTB with the published ones.

  .venv/bin/python scripts/plot_run.py RUN

RUN is a folder with config.json and epochs.jsonl, as --save_path leaves it; the
picture is RUN/perplexity.svg. Needs matplotlib, from requirements-dev.txt.
"""

import argparse
import contextlib
import json
import math
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import download_ptb

from lm import command

# Train, valid and test perplexity: the paper's (table 1), the tutorial's, and
# what re-runs of others reached.
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


class RunError(command.InputError):
  """Files that are not those of a run, or not of one that fits."""


# What computing with a file's contents can raise if they are not a run's.
NOT_A_RUN = (
  ArithmeticError,
  AttributeError,
  LookupError,
  RecursionError,
  TypeError,
  ValueError,
)


def read_run(folder):
  """Returns config.json's dictionary, and epochs.jsonl's, one each epoch.

  Raises:
    OSError, RunError: if one cannot be read, or the epochs are not those of one
      run; it names the file.
    others of NOT_A_RUN: if something else stands in it.
  """
  config = read_file(folder / "config.json", json.loads)
  epochs = read_file(path := folder / "epochs.jsonl", _json_lines)
  numbers = [epoch["epoch"] for epoch in epochs]
  if numbers != list(range(1, len(numbers) + 1)):
    raise RunError(f"{path} leaves out an epoch.")
  for part in ("train", "valid"):
    for epoch in epochs:
      check_perplexity(path, epoch[f"{part}_perplexity"])
  return config, epochs


def check_perplexity(path, value):
  """Raises RunError if this, from this file, cannot be a perplexity."""
  if not 1 <= value < math.inf:
    raise RunError(f"{path} has no perplexity.")


def _json_lines(text):
  return [json.loads(line) for line in text.splitlines()]


def read_file(path, parse, *missing):
  """Returns what a file has, or `missing`, if given, where there is none.

  Raises:
    OSError, RunError: if it cannot be read; it names the file.
  """
  try:
    return parse(path.read_text(encoding="utf-8"))
  except FileNotFoundError:
    if missing:
      return missing[0]
    raise
  except (ValueError, RecursionError) as error:
    raise RunError(f"{path} is damaged: {error}.") from error


@contextlib.contextmanager
def written_whole(path):
  """Gives a path to write to; at the end, its file takes the place of `path`.

  If the block fails, `path` stays as it is, and nothing is left beside it.
  """
  part = path.with_suffix(".part")
  try:
    yield part
    part.replace(path)
  except OSError as error:
    if error.filename is None:  # Of a full disk.
      error.filename = str(path)
    raise
  finally:
    part.unlink(missing_ok=True)


def draw(folder, config, epochs):
  """Writes the picture into the folder, and returns its path.

  Raises:
    OSError: if it cannot be written.
    InputError: if there is no matplotlib.
  """
  try:  # Imported here: the help above needs no matplotlib.
    import matplotlib
    from matplotlib import pyplot
  except ImportError as error:
    raise command.InputError(
      f"{error}; `.venv/bin/pip install -r requirements-dev.txt` brings it."
    ) from error

  model = config["model"]
  matplotlib.use("agg")
  matplotlib.rcParams["svg.hashsalt"] = model  # The same run, the same file.
  figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
  numbers = [epoch["epoch"] for epoch in epochs]
  for part, color in (("train", "tab:blue"), ("valid", "tab:orange")):
    values = [epoch[f"{part}_perplexity"] for epoch in epochs]
    label = f"{part}, epoch {numbers[-1]}: {values[-1]:.2f}"
    axes.plot(numbers, values, "o-", color=color, markersize=4, label=label)
  if model in PUBLISHED and config["data_sha256"] == download_ptb.HASHES:
    train, valid, _ = PUBLISHED[model][TUTORIAL]
    _, paper, _ = PUBLISHED[model][PAPER]
    for value, color, line, label in (
      (train, "tab:blue", "--", "train, the tutorial's end"),
      (valid, "tab:orange", "--", "valid, the tutorial's end"),
      (paper, "gray", ":", "valid, the paper's end"),
    ):
      label = f"{label}: {value}"
      axes.axhline(float(value), color=color, linestyle=line, label=label)
  axes.set(
    title=f"The {model} model, {config['dtype']}, seed {config['seed']}",
    xlabel="epoch", ylabel="perplexity",
    yscale="log", xticks=numbers[:: -max(1, len(numbers) // 13)][::-1],
  )  # fmt: skip
  ticks = [40, 60, 80, 100, 120, 150, 200, 300, 500]
  axes.set_yticks(ticks, [str(tick) for tick in ticks], minor=False)
  axes.minorticks_off()
  axes.grid(alpha=0.3)
  axes.legend()
  picture = folder / "perplexity.svg"
  try:
    with written_whole(picture) as part:
      figure.savefig(part, format="svg", metadata={"Date": None})
  finally:
    pyplot.close(figure)
  return picture


def main(argv=None):
  """Draws the run that the command line names; returns the exit status."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("run", metavar="RUN", type=pathlib.Path)
  folder = parser.parse_args(argv).run
  return command.run("plot_run.py", [""], lambda: _main(folder))


def _main(folder):
  """Draws the run in a folder; returns the exit status."""
  try:
    config, epochs = read_run(folder)
    if not epochs:
      raise ValueError("no epoch is finished")
    picture = draw(folder, config, epochs)
  except NOT_A_RUN as error:
    raise RunError(f"{folder} has no run to draw: {error}.") from error
  print(picture)
  return 0


if __name__ == "__main__":
  sys.exit(main())
