"""Tests of trained.py: which model a command uses."""

import dataclasses
import json
import shutil

import pytest

import configs
from conftest import OLD_RUN, TINY
from lm.base import command
from lm.model.config import Config, ConfigError
from lm.run import checkpoints, trained
from lm.run.run import Run
from lm.text import preparation, word_ids

CHECKPOINT = f"{TINY}/model.ckpt-7680"
CHOICES = dict(lower_case=True, number_word="N", punctuation="drop")


def load(folder, checkpoint=None, flag="--run", data_path=TINY, **changes):
  """Returns what `trained.load` does, with a SmallConfig."""
  return trained.load(
    None if folder is None else str(folder),
    checkpoint,
    flag,
    data_path=str(data_path),
    config=configs.SmallConfig(forget_bias=3.0),
    changes=changes,
  )


@pytest.fixture
def run(tmp_path):
  """A copy of the old run, to change."""
  return shutil.copytree(OLD_RUN, tmp_path / "run")


@pytest.mark.parametrize(
  ("checkpoint", "name"),
  [
    (None, "model.ckpt-191"),
    ("last", "model.ckpt-191"),
    ("best", "model.ckpt-128"),
    ("model.ckpt-128", "model.ckpt-128"),
    ("model.ckpt-1", "model.ckpt-1"),  # Whoever reads it will find out.
  ],
)
def test_a_run(checkpoint, name):
  values = json.loads((OLD_RUN / "config.json").read_text())
  assert load(OLD_RUN, checkpoint) == trained.Trained(
    checkpoint=f"{OLD_RUN}/{name}",
    config=Config(**values["config"]),
    vocabulary=word_ids.read_vocabulary(str(TINY)),
    preparation=None,
    run=Run.from_json(values),
  )


def test_a_run_on_a_prepared_text(run):
  values = json.loads((run / "config.json").read_text())
  values["preparation"] = CHOICES
  (run / "config.json").write_text(json.dumps(values))
  assert load(run).preparation == preparation.Preparation(**CHOICES)


def test_another_programs_checkpoint(tmp_path):
  """Its sizes are known, and nothing was added to the forget gate."""
  folder = shutil.copytree(TINY, tmp_path / "text")
  expected = trained.Trained(
    checkpoint=CHECKPOINT,
    config=configs.SmallConfig(hidden_size=16, vocab_size=50, num_layers=2),
    vocabulary=word_ids.read_vocabulary(str(TINY)),
    preparation=None,
  )
  assert load(None, CHECKPOINT, data_path=folder) == expected
  config = load(None, CHECKPOINT, forget_bias=1.0).config
  assert config == dataclasses.replace(expected.config, forget_bias=1.0)
  (folder / "preparation.json").write_text(json.dumps({"preparation": CHOICES}))
  model = load(None, CHECKPOINT, data_path=folder)
  assert model.preparation == preparation.Preparation(**CHOICES)


def test_a_checkpoint_of_a_run_records_how_it_was_trained():
  """For a checkpoint of an older version, the config.json beside it does."""
  path = f"{OLD_RUN}/model.ckpt-191"
  model, expected = load(None, path), load(OLD_RUN)
  assert model.config == expected.config
  assert model.run.id == expected.run.id
  assert model.vocabulary == expected.vocabulary
  with pytest.raises(ConfigError, match=r"^forget_bias is 0\.0 in the trained"):
    load(None, path, forget_bias=1.0)


@pytest.mark.parametrize("flag", ["--run", "--save_path"])
def test_errors_name_the_flag_of_the_folder(flag):
  with pytest.raises(command.InputError, match=rf"^{flag}=\* has one of the"):
    load("*", None, flag)


def test_a_checkpoint_of_another_text(tmp_path):
  (tmp_path / "ptb.train.txt").write_text("a b c\n")
  with pytest.raises(
    checkpoints.CheckpointError,
    match=r"of a model of 50 words, but the ptb\.train\.txt in --data_path=.* "
    "has 4 different ones",
  ):
    load(None, CHECKPOINT, data_path=tmp_path)


@pytest.mark.parametrize(
  ("checkpoint", "data_path", "message"),
  [
    ("/none", "/none", "There is no checkpoint /none: it"),
    (
      f"{CHECKPOINT}.index",
      str(TINY),
      "There is no checkpoint .*Give its",
    ),
    (CHECKPOINT, "/none", "There is no folder '/none'"),
  ],
)
def test_names_of_nothing(checkpoint, data_path, message):
  with pytest.raises(command.InputError, match=f"^{message}"):
    load(None, checkpoint, data_path=data_path)
