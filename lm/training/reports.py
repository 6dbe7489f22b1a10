"""What a run reports: how it starts, how far it is, and what it reached."""

import dataclasses
import math
import sys

import tqdm

from lm.base import device, tf1
from lm.base.command import tell
from lm.run import checkpoints
from lm.run.run import describe_differences

PERPLEXITIES = ("train_perplexity", "valid_perplexity")


def report_start(run, num_words, num_workers, is_kept):
  """Says what a Run trains, on what, by how many workers, and if it is kept."""
  if unused := device.unused_gpu():
    tell(unused.rstrip())
  is_tf32 = run.dtype == device.TF32
  kind = "float32 with TF32 products" if is_tf32 else run.dtype
  one_of = f"as one of {num_workers} workers " if num_workers > 1 else ""
  tell(
    f"Training the {run.model} model {one_of}on {device.name()} with "
    f"TensorFlow {tf1.version.VERSION}, rnn_mode {run.config.rnn_mode}, in "
    f"{kind}: {num_words:,} words, {run.config.vocab_size:,} different ones."
  )
  if not is_kept:
    tell("The run is not saved, because there is no --save_path.")
  if run.dtype != "float32" and not device.has_units_for(run.dtype):
    tell(
      f"This processor has no instructions for {run.dtype}: --use_fp16 is "
      "slower here."
    )


def report_source(source, run):
  """Says which Trained a Run starts from, and how their trainings differ."""
  checkpoint = checkpoints.describe(source.checkpoint) or source.checkpoint
  tell(f"Starting from the model {checkpoint}")
  differences = []
  if source.run:
    configs = map(dataclasses.asdict, (source.config, run.config))
    differences += describe_differences(*configs).values()
  if run.preparation != source.preparation:
    differences.append("the texts were prepared in different ways")
  if differences:
    tell(f"Differences from its training: {'; '.join(differences)}.")


def report_best(result, path):
  """Says which epoch was the best, unless it was the last."""
  best = {n: result.get(f"best_{n}") for n in ("epoch", *PERPLEXITIES)}
  if best["epoch"] in (None, result["epoch"]):
    return
  flag = " --checkpoint=best uses it." if path else ""
  tell(
    f"Epoch {best['epoch']} was better on valid: Train Perplexity "
    f"{best['train_perplexity']:.3f}, Valid Perplexity "
    f"{best['valid_perplexity']:.3f}.{flag}"
  )


def report_result(path, result):
  """Prints the numbers of a finished run again."""
  tell(f"The run in {path} is finished." if path else "The run is finished.")
  for part in ("train", "valid"):
    value = result[f"{part}_perplexity"]
    print(f"Epoch: {result['epoch']} {part.title()} Perplexity: {value:.3f}")
  print(f"Test Perplexity: {result['test_perplexity']:.3f}")
  report_best(result, path)


class Reporter:
  """Shows how far a pass over a text is: a bar on a terminal, else lines."""

  def __init__(self, size, title, done=0, verbose=False):
    """Starts a report; if `verbose`, prints ten lines where there is no bar."""
    self._size = size
    self._title, self._readings = title, 0
    self._lines = _lines_at(size) if verbose else ()
    options = {"leave": False, "file": sys.stdout}
    options["disable"] = None  # A bar on a terminal only.
    self.bar = tqdm.tqdm(total=size, initial=done, desc=title, **options)

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    self.bar.close()

  def start_again(self):
    """Reports that the text is read from its beginning, perhaps once more."""
    self._readings += 1
    self.bar.reset()
    self.bar.set_description(f"{self._title}, reading {self._readings}")

  def report(self, step, perplexity, wps):
    """Reports a step, the perplexity so far and the speed."""
    speed = f"{wps:.0f} wps"
    self.bar.set_postfix_str(f"perplexity {perplexity:.1f}, {speed}", False)
    self.bar.update()
    if step in self._lines and self.bar.disable:
      done = f"{step / self._size:.3f} perplexity: {perplexity:.3f}"
      print(f"{done} speed: {speed}", flush=True)


def _lines_at(size):
  """Returns the steps, from 0, after which to print: ten in an epoch."""
  if size >= 110:  # As the TF1 tutorial had it.
    return range(10, size, size // 10)
  every = math.ceil(size / 10)
  return range(every - 1, size, every)
