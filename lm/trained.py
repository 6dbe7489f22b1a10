"""Which trained model a command uses.

A run's folder has all that is needed. A checkpoint alone, such as one of
TensorFlow 1.15, needs the training text beside it, for the vocabulary.
"""

import dataclasses

from lm import checkpoints, preparation, run_folder, text


@dataclasses.dataclass(frozen=True)
class Trained:
  """A trained model on the disk."""

  checkpoint: str  # The path without .index.
  # A run's hyper-parameters, as in its config.json; of a checkpoint alone only
  # hidden_size, vocab_size and num_layers. Nothing has checked their values.
  hparams: dict
  vocabulary: list[str]  # The words in the order of their ids.
  # How the training text was prepared; None if it was not.
  preparation: preparation.Preparation | None

  def check_vocabulary(self, vocabulary):
    """Raises DataError unless this is the vocabulary of the model."""
    if vocabulary != self.vocabulary:
      raise text.DataError(
        f"{self.checkpoint} was trained with another vocabulary than that of "
        "ptb.train.txt. Name the folder of the text that it was trained on."
      )


def of_run(folder, which=None, flag="--run"):
  """Finds the model of a run.

  Args:
    folder: the run's folder.
    which: the checkpoint to use, as `checkpoints.find` takes it; None for the
      last one.
    flag: the flag that names the folder, for errors.

  Returns:
    A Trained.

  Raises:
    run_folder.RunFolderError: if a file of the folder is missing or damaged.
    checkpoints.CheckpointError: if there is no such checkpoint.
  """
  run = run_folder.read_run(folder, flag)
  return Trained(checkpoints.find(folder, which or "last"), *run)


def of_checkpoint(path, data_path):
  """Finds the model in a checkpoint that is in no run's folder.

  Args:
    path: the checkpoint without .index.
    data_path: the folder with the ptb.train.txt that it was trained on.

  Returns:
    A Trained.

  Raises:
    checkpoints.CheckpointError: if there is none, or the text is not its own.
    text.DataError: if the text cannot be read.
    preparation.PreparationError: if the text's preparation.json is damaged.
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
