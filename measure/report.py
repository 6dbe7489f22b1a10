"""Makes the tables and the picture of the results from the files of the runs.

  .venv/bin/python measure/report.py           reads results/ and writes the
                                               tables into README.md and
                                               results/README.md
  .venv/bin/python measure/report.py FOLDER    reads another folder and prints
                                               its tables

Both draw the models' learning curves into the folder's learning_curves.svg.
The folder has MODEL/seedN/ for each run, as measure/reproduce.sh leaves it.
What has no file yet is shown as not run. Needs matplotlib, from
requirements-dev.txt.
"""

import pathlib
import re
import statistics
import sys

from absl import app

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import plot_run

from lm import command, files

COLORS = {"small": "#2a9d4a", "medium": "#d9660a", "large": "#2f7fd6"}
OURS = "**this project**"


class Run:
  """What the files in a run's folder say, None where there is no file.

  Attributes:
    name: the last two parts of the folder's path, such as small/seed1.
    config, epochs, result: see plot_run.read_run.
    valid, test: what dissect.py found in these texts.
    best_test: the test perplexity of the best checkpoint.
    commits, starts, seconds: what about.txt says, a value for each start.
  """

  def __init__(self, folder):
    self.name = f"{folder.parent.name}/{folder.name}"
    self.config, self.epochs, self.result = plot_run.read_run(folder)
    self.valid = _read_if_present(folder / "valid.json")
    self.test = _read_if_present(folder / "test.json")
    self.best_test = None
    if (best := folder / "best.txt").exists():
      found = re.search(r"Test Perplexity: ([\d.]+)", best.read_text())
      if not found:
        raise command.InputError(f"{best} is damaged: it has no perplexity.")
      self.best_test = float(found[1])
    path = folder / "about.txt"
    about = path.read_text(encoding="utf-8") if path.exists() else ""
    self.commits, self.starts, self.seconds = (
      re.findall(rf"^{key}: (\S+)", about, re.MULTILINE)
      for key in ("commit", "started", "seconds")
    )


def _read_if_present(path):
  return plot_run.read_json(path) if path.exists() else None


def runs_of(folder, *models):
  """Returns the Runs that have finished an epoch, of all models or of some."""
  return [
    Run(path.parent)
    for model in models or COLORS
    for path in sorted(folder.glob(f"{model}/seed*/epochs.jsonl"))
    if path.stat().st_size
  ]


def results_rows(folder):
  """Yields the head, then the published and the reached perplexities."""
  yield "model | source | :train | :valid | :test"
  for model, published in plot_run.PUBLISHED.items():
    first = model
    for source, numbers in published.items():
      yield " | ".join([first, source, *numbers])
      first = ""
    if model.startswith("mean"):
      yield _mean_of_models(folder, model.split()[2])
    else:
      yield _model(runs_of(folder, model))


def _model(runs):
  """Returns the row of a model's runs."""
  ended = [run for run in runs if run.result]
  if not ended:
    state = "not finished" if runs else "not run"
    return f" | {OURS} | {state} | {state} | {state}"
  dtypes = " and ".join(sorted({run.config["dtype"] for run in ended}))
  train, valid, test = (
    _mean([run.result[f"{part}_perplexity"] for run in ended], bold="**")
    for part in ("train", "valid", "test")
  )
  return f" | {OURS}, {dtypes}, {_seeds(ended)} | {train} | {valid} | {test}"


def _mean_of_models(folder, number):
  """Returns the row of the mean of several models' probabilities."""
  row = f" | {OURS}, seeds 1 to {number} | "
  for part in ("valid", "test"):
    found = _read_if_present(folder / f"small/mean_of_{number}_{part}.json")
    row += f" | **{found['perplexity']:.2f}**" if found else " | not run"
  return row


def _seeds(runs):
  """Returns which seed, or how many."""
  return (
    f"seed {runs[0].config['seed']}"
    if len(runs) == 1
    else (f"{len(runs)} seeds")
  )


def _mean(values, bold=""):
  """Returns the mean and, of several values, the standard deviation."""
  if None in values:  # The text has no words of this kind.
    return ""
  text = f"{bold}{statistics.mean(values):.2f}{bold}"
  if len(values) > 1:
    text += f" ± {statistics.stdev(values):.2f}"
  return text


def runs_rows(folder):
  """Yields the head, then what each run reached, and how long it took."""
  yield (
    "run | dtype | :train | :valid | :test | :epochs | :training steps | "
    ":total time | :words/s | commit | date"
  )
  for run in runs_of(folder):
    last = run.epochs[-1]
    total = _hours(map(int, run.seconds)) if run.seconds else ""
    if total and len(run.seconds) < len(run.starts):
      total = f"over {total}"  # How long a killed start took is not known.
    test = f"{run.result['test_perplexity']:.2f}" if run.result else ""
    wps = statistics.median(epoch["wps"] for epoch in run.epochs)
    yield (
      f"[{run.name}]({run.name}/log.txt) | {run.config['dtype']} | "
      f"{last['train_perplexity']:.2f} | {last['valid_perplexity']:.2f} | "
      f"{test} | {last['epoch']} of {run.config['config']['max_max_epoch']} | "
      f"{_hours(epoch['train_seconds'] for epoch in run.epochs)} | {total} | "
      f"{wps:,.0f} | {', '.join(dict.fromkeys(run.commits))} | "
      f"{run.starts[0] if run.starts else ''}"
    )


def _hours(seconds):
  """Returns the sum of some times as hours and minutes."""
  hours, minutes = divmod(round(sum(seconds) / 60), 60)
  return f"{hours} h {minutes} min"


def valid_rows(folder):
  """Yields the head, then how reading in batches changes valid perplexity."""
  yield (
    "run | :in batches, as printed | :the same words as one stream | "
    ":all words as one stream | :words left out"
  )
  for run in runs_of(folder):
    if run.result and run.valid:
      valid, batches = run.valid, run.valid["in_batches"]
      yield (
        f"{run.name} | {run.result['valid_perplexity']:.2f} | "
        f"{batches['perplexity']:.2f} | {valid['perplexity']:.2f} | "
        f"{valid['words'] - batches['words']:,}"
      )


def best_rows(folder):
  """Yields the head, then what the best and the last epoch of a run reached."""
  yield "run | :best epoch | :valid | :test | :last epoch | :valid | :test"
  for run in runs_of(folder):
    if (last := run.result) and run.best_test:
      best = min(run.epochs, key=lambda epoch: epoch["valid_perplexity"])
      yield (
        f"{run.name} | {best['epoch']} | {best['valid_perplexity']:.2f} | "
        f"{run.best_test:.2f} | {last['epoch']} | "
        f"{last['valid_perplexity']:.2f} | {last['test_perplexity']:.2f}"
      )


def kinds_rows(folder):
  """Yields the head, then test's perplexity by kinds of words."""
  yield "model | kind | :share of words | :perplexity | :nats per word"
  for model in COLORS:
    runs = [run for run in runs_of(folder, model) if run.test]
    for kind in runs[0].test["by_kind"] if runs else ():
      found = [run.test["by_kind"][kind] for run in runs]
      yield (
        f"{model}, {_seeds(runs)} | "
        f"{kind if kind == 'the rest' else f'`{kind}`'} | "
        f"{found[0]['words'] / runs[0].test['words']:.1%} | "
        f"{_mean([each['perplexity'] for each in found])} | "
        f"{statistics.mean(each['nats'] for each in found):.3f}"
      )


TABLES = {
  "results": results_rows,
  "runs": runs_rows,
  "valid": valid_rows,
  "best": best_rows,
  "kinds": kinds_rows,
}


def table(name, folder):
  """Returns a table of a folder's results in Markdown.

  A colon before the name of a column aligns the column to the right.
  """
  head, *rows = TABLES[name](folder)
  marks = ["---:" if ":" in name else "---" for name in head.split("|")]
  lines = [head.replace(":", ""), " | ".join(marks), *rows]
  return "".join(f"| {line} |\n" for line in lines)


def fill(text, folder):
  """Returns a text with each table between its marks.

  Args:
    text: has `<!-- table NAME -->` and `<!-- end -->` around each table.
    folder: the folder of the results.
  """
  return re.sub(
    r"(<!-- table (\w+) -->\n).*?(?=<!-- end -->)",
    lambda found: found[1] + table(found[2], folder),
    text,
    flags=re.DOTALL,
  )


def draw(folder):
  """Draws the learning curves of each model's first run."""
  with plot_run.picture(folder / "learning_curves.svg") as axes:
    for model, color in COLORS.items():
      for run in runs_of(folder, model)[:1]:
        for part, width, up in (("valid", 2, 5), ("train", 0.8, 0)):
          numbers, values = plot_run.curve(run.epochs, part)
          axes.plot(numbers, values, color=color, linewidth=width)
          axes.annotate(
            f"{model} {part} {values[-1]:.1f}",
            (numbers[-1], values[-1]),
            (5, up),
            textcoords="offset points",
            color=color,
            verticalalignment="center",
          )


def main(argv):
  """Reports the folder that the command line names; returns the exit status."""

  def body():
    folder = pathlib.Path(argv[1]) if len(argv) > 1 else ROOT / "results"
    if not runs_of(folder):
      raise command.InputError(f"{folder} has no run with a finished epoch.")
    draw(folder)
    if len(argv) > 1:
      print("\n".join(table(name, folder) for name in TABLES))
    else:
      for path in (ROOT / "README.md", folder / "README.md"):
        files.write_file(path, fill(path.read_text(encoding="utf-8"), folder))
    return 0

  return command.run("report.py", argv, body, arguments=1)


if __name__ == "__main__":
  app.run(main)
