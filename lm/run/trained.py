"""Which trained model a command uses.

A run's folder has all that is needed. A checkpoint alone needs the training
text beside it, for the vocabulary. One of this project says how it was trained;
one of another program, such as TensorFlow 1.15's tutorial, only its sizes.
"""

import dataclasses
import os

from lm.base import files
from lm.base.command import InputError
from lm.model.config import Config, check_sizes_kept
from lm.run import checkpoints, run_folder
from lm.run.run import Run, sha256_of_lines
from lm.text import preparation, word_ids


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
  """A trained model on the disk."""

  checkpoint: str | None  # The path without .index; None: it is not needed.
  config: Config
  vocabulary: list[str]  # The words in the order of their ids.
  preparation: preparation.Preparation | None  # Of the training text, if any.
  unknown: str = word_ids.UNKNOWN  # The word that stands for unknown words.
  run: Run | None = None  # The run that trained it, if that is known.
  # The run's folder, if the model was found by it.
  folder: str | None = dataclasses.field(default=None, compare=False)

  def restore(self, session, scope=""):
    """Reads the model's variables, those in `scope`, from the checkpoint.

    Raises:
      checkpoints.CheckpointError: if they do not fit, or are damaged.
    """
    self._check_program()
    run_id = self.run and self.run.id
    try:
      checkpoints.restore_variables(session, self.checkpoint, scope, run_id)
    except checkpoints.CheckpointError as error:
      sentence = f"{error} --checkpoint names another."
      raise checkpoints.CheckpointError(sentence) from None

  def check_intact(self):
    """Raises CheckpointError if the checkpoint is damaged or of another run."""
    self._check_program()
    checkpoints.check_intact(self.checkpoint, self.run and self.run.id)

  def _check_program(self):
    """Raises CheckpointError for another program's checkpoint in a run's name.

    The version that wrote no checksum of the vocabulary wrote no record either.
    """
    must_have = self.folder and self.run.vocabulary_sha256
    if must_have and not checkpoints.record_in(self.checkpoint):
      raise checkpoints.CheckpointError(
        f"{self.checkpoint} is not of the run in {self.folder}, but of another "
        "program. Name it alone, or another --checkpoint."
      )


def of_run(folder, which=None, flag="--run"):
  """Returns the Trained of a run's folder, which `flag` names.

  `which` is the checkpoint, as in `checkpoints.find_checkpoint`, or None.

  Raises:
    InputError: if a file of the folder is missing or damaged.
  """
  run, vocabulary = run_folder.read_run(folder, flag)
  path = checkpoints.find_checkpoint(folder, which or "last")
  return _of(run, path, vocabulary, folder)


def _of(run, checkpoint, vocabulary, folder=None):
  """Returns the Trained of a Run."""
  return Trained(
    checkpoint=checkpoint,
    config=run.config,
    vocabulary=vocabulary,
    preparation=run.preparation,
    unknown=run.unknown_word,
    run=run,
    folder=folder,
  )


def find_source(name, which, data_path, config, changes, save_path):
  """Returns the Trained that --init_from names: a run or a checkpoint.

  If the run in save_path began from it already, returns that run, without a
  checkpoint: it no longer needs the other one.

  Args:
    name: a run's folder or a checkpoint's path, without .index.
    which: --checkpoint.
    data_path: the folder with the text of a checkpoint alone.
    config: the Config of the new run.
    changes: what --hparams says, as `config.parse` returns it.
    save_path: --save_path.

  Raises:
    InputError: if a file is missing or damaged.
  """
  begun = run_folder.run_in(save_path)
  if begun and files.same_path(begun.init_from, name):
    run, vocabulary = run_folder.read_run(save_path)
    return _of(run, None, vocabulary)
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
    source = of_checkpoint(name, data_path, config, changes)
  source.check_intact()
  return source


def of_checkpoint(
  path, data_path, config, changes, *, vocab_size=None, cache_dir=None
):
  """Returns the Trained of a checkpoint, without .index, in no run's folder.

  Args:
    path: the checkpoint.
    data_path: the folder with the ptb.train.txt that it was trained on.
    config: a Config, for what another program's checkpoint does not say.
    changes: what --hparams says, as `config.parse` returns it: another
      program's checkpoint may need a forget_bias.
    vocab_size: how many words were kept, as in reader.read_corpus, if the
      checkpoint does not say it.
    cache_dir: as in reader.read_corpus.

  Raises:
    InputError: if it is missing or damaged, or if the text is not its own.
  """
  run = _run_of(path, changes)
  if run is None:
    bias = changes.get("forget_bias", 0.0)  # The tutorial's.
    sizes = checkpoints.sizes_in(path)
    found = Trained(
      checkpoint=path,
      config=dataclasses.replace(config, **sizes, forget_bias=bias),
      vocabulary=[],
      preparation=preparation.read_preparation(data_path),
    )
  else:
    check_sizes_kept(run.config, changes)
    found = _of(run, path, [])
    vocab_size = run.vocab_limit
  vocabulary = word_ids.read_vocabulary(
    data_path, vocab_size, found.unknown, cache_dir
  )
  _check_vocabulary(found, vocabulary, data_path)
  return dataclasses.replace(found, vocabulary=vocabulary)


def _run_of(path, changes):
  """Returns the Run that wrote a checkpoint; None for another program's.

  The checkpoint has it or, if an older version wrote it, its run's folder.

  Raises:
    CheckpointError: if a run wrote it, but which one is unknown, and `changes`
      does not say its forget_bias.
  """
  record = checkpoints.record_in(path)
  if "run" in record:
    try:
      return Run.from_json(record["run"])
    except (ValueError, TypeError):
      raise checkpoints.CheckpointError(
        f"{path} is of another version of this program: it has what this one "
        "does not know."
      ) from None
  if not record:
    return None
  try:
    run, vocabulary = run_folder.read_run(os.path.dirname(path) or ".")
    if record.get("run_id") in (None, run.id):
      checksum = sha256_of_lines(vocabulary)
      return dataclasses.replace(run, vocabulary_sha256=checksum)
  except InputError:
    pass  # It is not in its run's folder.
  if "forget_bias" in changes:
    return None
  raise checkpoints.CheckpointError(
    f"{path} is of an older version of this program: only its run's "
    "config.json and vocabulary.txt say how it was trained. Put copies of them "
    "beside it. If it was trained without forget_bias, --unknown_word and "
    "--vocab_size, on the text in --data_path, you can give "
    "--hparams=forget_bias=0 instead."
  )


def _check_vocabulary(found, vocabulary, data_path):
  """Raises CheckpointError unless a Trained can have this vocabulary."""
  path, run, size = found.checkpoint, found.run, found.config.vocab_size
  where = f"the ptb.train.txt in --data_path={data_path}"
  advice = "Name the folder of the text that it was trained on."
  if run and run.init_from:
    advice = f"Its run began with the vocabulary of {run.init_from}: name the "
    advice += "run's folder instead."
  if len(vocabulary) != size:
    raise checkpoints.CheckpointError(
      f"{path} is of a model of {size:,} words, but {where} has "
      f"{len(vocabulary):,} different ones. {advice}"
    )
  if run and run.vocabulary_sha256 not in (None, sha256_of_lines(vocabulary)):
    raise checkpoints.CheckpointError(
      f"{path} was trained with another vocabulary than that of {where}. "
      f"{advice}"
    )
