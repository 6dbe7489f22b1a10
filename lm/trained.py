"""Which trained model a command uses.

A run's folder has all that is needed. A checkpoint alone, such as one of
TensorFlow 1.15, needs the training text beside it, for the vocabulary.
"""

import contextlib
import dataclasses
import os

from lm import checkpoints, files, preparation, run_folder, text


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
  return Trained(checkpoints.find(folder, which or "last"), **run)


def find(name, which, data_path, hparams="", save_path=None):
  """Returns the Trained that --init_from names: a run or a checkpoint.

  If the run in save_path began from it already, returns that run, without a
  checkpoint: it no longer needs the other one. `which` is --checkpoint, and
  `data_path` the text of a checkpoint alone. Raises InputError if a file is
  missing or damaged.
  """
  with contextlib.suppress(run_folder.RunFolderError):
    run = run_folder.read_run(save_path)
    has_begun = files.same_path(run["init_from"], name)
    if has_begun and checkpoints.steps_in(save_path):
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
    source = of_checkpoint(name, data_path, hparams)
  checkpoints.check_intact(source.checkpoint, source.run_id)
  return source


def of_checkpoint(path, data_path, hparams="", vocab_size=None, cache_dir=None):
  """Returns the Trained of a checkpoint, without .index, in no run's folder.

  `data_path` is the folder with the ptb.train.txt that it was trained on. What
  the checkpoint does not say is in `hparams`, as --hparams has it; the others
  are what it was trained with, as reader.read_corpus takes them.

  Raises:
    InputError: if it is missing or damaged, or if the text is not its own.
  """
  sizes = checkpoints.sizes_in(path)
  run, checksum = _run_of(path, hparams)
  run = {"hparams": sizes, "preparation": preparation.read(data_path)} | run
  unknown, limit = run.get("unknown", text.UNKNOWN), run.get("vocab_limit")
  vocabulary = text.read_vocabulary(
    data_path, vocab_size or limit, unknown, cache_dir
  )
  where = f"the ptb.train.txt in --data_path={data_path}"
  advice = "Name the folder of the text that it was trained on."
  if run.get("init_from"):
    advice = (
      f"It has that of {run['init_from']}: name its run's folder instead."
    )
  if len(vocabulary) != sizes["vocab_size"]:
    raise checkpoints.CheckpointError(
      f"{path} is of a model of {sizes['vocab_size']:,} words, but {where} has "
      f"{len(vocabulary):,} different ones. {advice}"
    )
  if checksum not in (None, run_folder.sha256_of(vocabulary)):
    raise checkpoints.CheckpointError(
      f"{path} was trained with another vocabulary than that of {where}. "
      f"{advice}"
    )
  return Trained(path, vocabulary=vocabulary, **run)


def _run_of(path, hparams):
  """Returns what is known of the run that wrote a checkpoint.

  The checkpoint says it or, if an older version wrote it, the run's folder.

  Returns:
    Fields of Trained, a dictionary, and the checksum of the vocabulary; {} and
    None for a checkpoint of another program.

  Raises:
    CheckpointError: if that is unknown and `hparams` lacks the forget_bias.
  """
  record = checkpoints.record_in(path)
  if about := record.get("run"):
    return run_folder.fields_of(about), about["vocabulary_sha256"]
  if record:
    with contextlib.suppress(files.DamagedFileError, run_folder.RunFolderError):
      run = run_folder.read_run(os.path.dirname(path) or ".")
      if record.get("run_id") in (None, run["run_id"]):
        return run, run_folder.sha256_of(run.pop("vocabulary"))
    if "forget_bias=" not in hparams.replace(" ", ""):
      raise checkpoints.CheckpointError(
        f"{path} is of an older version of this program: only its run's "
        "config.json and vocabulary.txt say how it was trained. Put copies of "
        "them beside it, or give --hparams=forget_bias=0 if the run had none."
      )
  return {}, None
