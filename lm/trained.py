"""Which trained model a command uses.

A run's folder has all that is needed. A checkpoint alone, such as one of
TensorFlow 1.15, needs the training text beside it, for the vocabulary.
"""

import dataclasses
import os

from lm import checkpoints, preparation, run_folder, text


@dataclasses.dataclass(frozen=True)
class Trained:
  """A trained model on the disk."""

  checkpoint: str  # The path without .index.
  # A run's hyper-parameters, as in its config.json; of a checkpoint alone only
  # hidden_size, vocab_size and num_layers. Nothing has checked their values.
  hparams: dict
  vocabulary: list[str]  # The words in the order of their ids.
  preparation: preparation.Preparation | None  # Of the training text, if any.
  unknown: str = text.UNKNOWN  # The word that stands for unknown words.
  init_from: str | None = None  # The model that a run started from, if any.

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
  return Trained(checkpoints.find(folder, which or "last"), **run)


def find(name, which, data_path):
  """Returns the Trained that --init_from names: a run or a checkpoint.

  The other arguments are those of `of_run` and `of_checkpoint`.
  """
  if os.path.isdir(name):
    return of_run(name, which, "--init_from")
  if which is not None:
    raise checkpoints.CheckpointError(
      f"--checkpoint={which} needs a run's folder, but --init_from={name} is "
      "none."
    )
  return of_checkpoint(name, data_path)


def of_checkpoint(path, data_path):
  """Returns the Trained of a checkpoint, without .index, in no run's folder.

  `data_path` is the folder with the ptb.train.txt that it was trained on.

  Raises:
    InputError: if it is missing or damaged, or if the text is not its own.
  """
  sizes = checkpoints.sizes_in(path)
  vocabulary = text.read_vocabulary(data_path)
  if len(vocabulary) != sizes["vocab_size"]:
    raise checkpoints.CheckpointError(
      f"{path} is of a model of {sizes['vocab_size']:,} words, but the "
      f"ptb.train.txt in --data_path={data_path} has {len(vocabulary):,} "
      "different ones. Name the folder of the text that it was trained on."
    )
  return Trained(path, sizes, vocabulary, preparation.read(data_path))
