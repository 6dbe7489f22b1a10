"""Which trained model a command uses.

A run's folder has all that is needed. A checkpoint alone, such as one of
TensorFlow 1.15, needs the training text beside it, for the vocabulary.
"""

import contextlib
import dataclasses
import os

from lm import checkpoints, preparation, run_folder, text


@dataclasses.dataclass(frozen=True)
class Trained:
  """A trained model on the disk."""

  checkpoint: str | None  # The path without .index.
  # A run's hyper-parameters, as in its config.json; of a checkpoint alone only
  # hidden_size, vocab_size and num_layers. Nothing has checked their values.
  hparams: dict
  vocabulary: list[str]  # The words in the order of their ids.
  preparation: preparation.Preparation | None  # Of the training text, if any.
  unknown: str = text.UNKNOWN  # The word that stands for unknown words.
  init_from: str | None = None  # The model that a run started from, if any.
  vocab_limit: int | None = None  # A run's --vocab_size, if any.
  run_id: str | None = None  # Which run the checkpoint must be of, if known.

  def check_vocabulary(self, vocabulary):
    """Raises DataError unless this is the vocabulary of the model."""
    if vocabulary != self.vocabulary:
      raise text.DataError(
        f"{self.checkpoint} was trained with another vocabulary than that of "
        "ptb.train.txt. Name the folder of the text that it was trained on."
      )


def of_run(folder, which=None, flag="--run"):
  """Returns the Trained of a run's folder, which `flag` names.

  `which` is the checkpoint, as `checkpoints.find` takes it; None for the last.

  Raises:
    InputError: if a file of the folder is missing or damaged.
  """
  run = run_folder.read_run(folder, flag)
  path = checkpoints.find(folder, which or "last")
  if os.path.dirname(path) != folder:  # It may be any run's.
    run["run_id"] = None
  return Trained(path, **run)


def find(name, which, data_path, save_path=None):
  """Returns the Trained that --init_from names: a run or a checkpoint.

  If the run in save_path began from it already, returns that run, without a
  checkpoint: it needs the other one no more. `which` is --checkpoint, and
  `data_path` the text of a checkpoint alone. Raises InputError if a file is
  missing or damaged.
  """
  with contextlib.suppress(run_folder.RunFolderError):
    run = run_folder.read_run(save_path)
    if run["init_from"] == name and checkpoints.steps_in(save_path):
      return Trained(None, **run)
  if os.path.isdir(name):
    source = of_run(name, which, "--init_from")
  elif not os.path.isfile(f"{name}.index"):
    raise checkpoints.CheckpointError(
      f"--init_from={name} is neither the folder of a run nor a checkpoint, "
      f"which would have a file {name}.index."
    )
  elif which is not None:
    raise checkpoints.CheckpointError(
      f"--checkpoint={which} needs a run's folder, but --init_from={name} is "
      "none."
    )
  else:
    source = of_checkpoint(name, data_path)
  checkpoints.check_intact(source.checkpoint, source.run_id)
  return source


def of_checkpoint(path, data_path, vocab_size=None, cache_dir=None):
  """Returns the Trained of a checkpoint, without .index, in no run's folder.

  `data_path` is the folder with the ptb.train.txt that it was trained on; the
  others are what it was trained with, as reader.read_corpus takes them.

  Raises:
    InputError: if it is missing or damaged, or if the text is not its own.
  """
  sizes = checkpoints.sizes_in(path)
  vocabulary = text.read_vocabulary(data_path, vocab_size, cache_dir)
  if len(vocabulary) != sizes["vocab_size"]:
    raise checkpoints.CheckpointError(
      f"{path} is of a model of {sizes['vocab_size']:,} words, but the "
      f"ptb.train.txt in --data_path={data_path} has {len(vocabulary):,} "
      "different ones. Name the folder of the text that it was trained on."
    )
  return Trained(path, sizes, vocabulary, preparation.read(data_path))
