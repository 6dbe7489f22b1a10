"""Trained models on the disk, as the flags of a command name them.

A run's folder has all that a model needs. A checkpoint alone needs its training
text too, which gives the vocabulary. A checkpoint that a run wrote records how
it was trained; one of another program, such as TensorFlow 1.15's tutorial, has
only its sizes.
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
  weight: float = 1.0  # Its share in an average of models, before division.
  # If the model was loaded from a run's folder: the folder, and the name of the
  # checkpoint there, as in checkpoints.find_checkpoint.
  folder: str | None = dataclasses.field(default=None, compare=False)
  name: str | None = dataclasses.field(default=None, compare=False)

  def restore(self, session, scope=""):
    """Restores the model's variables, those in `scope`, from the checkpoint.

    If a training has replaced the checkpoint meanwhile, this restores the one
    that `name`, such as "last", stands for now.

    Returns:
      What checkpoints.describe says about the checkpoint.

    Raises:
      checkpoints.CheckpointError: if they do not fit, or are damaged.
    """
    run_id = self.run and self.run.id
    path = self.checkpoint
    while True:
      try:
        self._check_program(path)
        checkpoints.restore_variables(session, path, scope, run_id)
        return checkpoints.describe(path)
      except checkpoints.CheckpointError as error:
        failed = path
        if self.folder:
          path = checkpoints.find_checkpoint(self.folder, self.name)
        if path == failed:
          sentence = f"{error} Choose another one with --checkpoint."
          raise checkpoints.CheckpointError(sentence) from None

  def check_intact(self):
    """Raises CheckpointError if the checkpoint is damaged or of another run."""
    self._check_program(self.checkpoint)
    checkpoints.check_intact(self.checkpoint, self.run and self.run.id)

  def _check_program(self, path):
    """Raises CheckpointError if no run wrote the checkpoint of a run's folder.

    The version that recorded no checksum of the vocabulary marked no
    checkpoint either.
    """
    must_have = self.folder and self.run.vocabulary_sha256
    if must_have and not checkpoints.record_in(path):
      raise checkpoints.CheckpointError(
        f"{path} was not written by the run in {self.folder}, but by another "
        "program. Use it without the run's folder, or choose another "
        "--checkpoint."
      )


def load(folder, checkpoint, flag, **options):
  """Returns the Trained of a run's folder, or of a checkpoint alone.

  Args:
    folder: the run's folder; None for a checkpoint alone.
    checkpoint: in a run's folder the name of the checkpoint, as in
      checkpoints.find_checkpoint, or None for the newest; else its path,
      without .index.
    flag: the flag that names the folder.
    **options: the keyword arguments of `load_checkpoint`, for a checkpoint
      alone.

  Raises:
    InputError: if a file is missing or damaged, or if the text is not the
      training text.
  """
  if folder is None:
    return load_checkpoint(checkpoint, **options)
  run_folder.check_path(folder, flag)
  if os.path.isfile(f"{folder}.index"):
    raise checkpoints.CheckpointError(
      f"{flag}={folder} is a checkpoint, not the folder of a run. Use the "
      f"run's folder; or, instead of {flag}, --checkpoint={folder} and "
      "--data_path, the folder of its training text."
    )
  run = run_folder.read_config(folder)
  vocabulary = run_folder.vocabulary_in(folder, run)
  model = _model_of(run, None, vocabulary)
  name = checkpoint or "last"
  path = checkpoints.find_checkpoint(folder, name)
  return dataclasses.replace(model, checkpoint=path, folder=folder, name=name)


def load_source(name, checkpoint, save_path, **options):
  """Returns the Trained that --init_from names: a run or a checkpoint.

  If the run in save_path has begun from it already, returns that run without a
  checkpoint: the run no longer needs the other model.

  Args:
    name: a run's folder or a checkpoint's path, without .index.
    checkpoint: --checkpoint, for a run's folder.
    save_path: --save_path.
    **options: the keyword arguments of `load_checkpoint`.

  Raises:
    InputError: if a file is missing or damaged, or if the text is not the
      training text.
  """
  if not name:
    raise checkpoints.CheckpointError(
      "--init_from is empty: give a run's folder or a checkpoint, or leave it "
      "out."
    )
  if save_path and checkpoints.steps_in(save_path):
    run = run_folder.read_config(save_path)
    if files.same_path(run.init_from, name):
      vocabulary = run_folder.vocabulary_in(save_path, run)
      return _model_of(run, None, vocabulary)
  if os.path.isdir(name):
    model = load(name, checkpoint, "--init_from", **options)
  elif os.path.isfile(f"{name}.index"):
    model = load(None, name, "--init_from", **options)
  else:
    raise checkpoints.CheckpointError(
      f"--init_from={name} is neither the folder of a run nor a checkpoint: "
      f"there is no file {name}.index."
    )
  model.check_intact()
  return model


def _model_of(run, checkpoint, vocabulary):
  """Returns the Trained of a Run."""
  return Trained(
    checkpoint=checkpoint,
    config=run.config,
    vocabulary=vocabulary,
    preparation=run.preparation,
    unknown=run.unknown_word,
    run=run,
  )


def load_checkpoint(
  path,
  *,
  data_path,
  data_flag="--data_path",
  config,
  changes,
  vocab_size=None,
  cache_dir=None,
):
  """Returns the Trained of a checkpoint alone.

  Args:
    path: the checkpoint, without .index.
    data_path: the folder with the ptb.train.txt it was trained on.
    data_flag: the flag that names data_path, for messages.
    config: a Config, for what another program's checkpoint does not record.
    changes: the values of --hparams, as config.parse returns them: another
      program's checkpoint may need a forget_bias.
    vocab_size: the number of words that were kept, as in reader.read_corpus, if
      the checkpoint does not record it.
    cache_dir: as in reader.read_corpus.

  Raises:
    InputError: if a file is missing or damaged, or if the text is not the
      training text.
  """
  run = _run_of(path, changes)
  if run is None:
    bias = changes.get("forget_bias", 0.0)  # The tutorial's.
    sizes = checkpoints.sizes_in(path)
    if sizes.get("tie_embeddings") and not changes.get("tie_embeddings"):
      raise checkpoints.CheckpointError(
        f"{path} has no softmax_w. If the program that wrote it used the "
        "embedding in its place, use --hparams=tie_embeddings=true."
      )
    model = Trained(
      checkpoint=path,
      config=dataclasses.replace(config, **sizes, forget_bias=bias),
      vocabulary=[],
      preparation=preparation.read_preparation(data_path),
    )
  else:
    check_sizes_kept(run.config, changes)
    model = _model_of(run, path, [])
    vocab_size = run.vocab_limit
  vocabulary = word_ids.read_vocabulary(
    data_path, vocab_size, model.unknown, cache_dir
  )
  _check_vocabulary(model, vocabulary, data_path, data_flag)
  return dataclasses.replace(model, vocabulary=vocabulary)


def _run_of(path, changes):
  """Returns the Run that wrote a checkpoint; None for another program's.

  Today's checkpoints contain their Run. For a checkpoint of an older version,
  it is read from the run's folder; outside of that folder, `changes` must have
  a forget_bias, and None is returned.

  Raises:
    CheckpointError: if an older version wrote it, and neither its run's folder
      nor `changes` tells its forget_bias.
  """
  record = checkpoints.record_in(path)
  if "run" in record:
    try:
      return Run.from_json(record["run"])
    except InputError as error:
      raise checkpoints.CheckpointError(
        f"{path} was written by another version of this program: {error}"
      ) from None
  if not record:
    return None
  folder = os.path.dirname(path) or "."
  try:
    run = run_folder.read_config(folder)
    vocabulary = run_folder.vocabulary_in(folder, run)
    if record.get("run_id") in (None, run.id):
      checksum = sha256_of_lines(vocabulary)
      return dataclasses.replace(run, vocabulary_sha256=checksum)
  except InputError:
    pass  # It is not in its run's folder.
  if "forget_bias" in changes:
    return None
  raise checkpoints.CheckpointError(
    f"{path} was written by an older version of this program: only its run's "
    "config.json and vocabulary.txt record how it was trained. Put copies of "
    "these files beside it. If it was trained without forget_bias, "
    "--unknown_word and --vocab_size, on the text in --data_path, you can use "
    "--hparams=forget_bias=0 instead."
  )


def _check_vocabulary(model, vocabulary, data_path, data_flag):
  """Raises CheckpointError if a Trained had another vocabulary in training."""
  path, run, size = model.checkpoint, model.run, model.config.vocab_size
  text = f"the ptb.train.txt in {data_path}"
  advice = (
    f"Set {data_flag} to the folder of the text that it was trained on. If it "
    "was trained with --vocabulary, use its run's folder instead."
  )
  if run and run.init_from:
    advice = (
      f"Its run began with the vocabulary of {run.init_from}: use the run's "
      "folder instead."
    )
  if len(vocabulary) != size:
    raise checkpoints.CheckpointError(
      f"{path} has a vocabulary of {size:,} words, but {text} has "
      f"{len(vocabulary):,} different words. {advice}"
    )
  if run and run.vocabulary_sha256 not in (None, sha256_of_lines(vocabulary)):
    raise checkpoints.CheckpointError(
      f"{path} was trained with a vocabulary other than that of {text}. "
      f"{advice}"
    )
