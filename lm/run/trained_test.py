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


@pytest.fixture
def run(tmp_path):
  """A copy of the old run, to change."""
  return shutil.copytree(OLD_RUN, tmp_path / "run")


@pytest.mark.parametrize(
  ("which", "name"),
  [
    (None, "model.ckpt-191"),
    ("last", "model.ckpt-191"),
    ("best", "model.ckpt-128"),
    ("model.ckpt-128", "model.ckpt-128"),
    ("model.ckpt-1", "model.ckpt-1"),  # Whoever reads it will find out.
  ],
)
def test_a_run(which, name):
  about = json.loads((OLD_RUN / "config.json").read_text())
  assert trained.of_run(str(OLD_RUN), which) == trained.Trained(
    checkpoint=f"{OLD_RUN}/{name}",
    config=Config(**about["config"]),
    vocabulary=word_ids.read_vocabulary(str(TINY)),
    preparation=None,
    run=Run.from_json(about),
  )


def test_a_run_on_a_prepared_text(run):
  about = json.loads((run / "config.json").read_text())
  about["preparation"] = CHOICES
  (run / "config.json").write_text(json.dumps(about))
  found = trained.of_run(str(run)).preparation
  assert found == preparation.Preparation(**CHOICES)


def of_checkpoint(path, data_path, changes=()):
  """Returns what `trained.of_checkpoint` makes of it, with a SmallConfig."""
  config = configs.SmallConfig(forget_bias=3.0)
  return trained.of_checkpoint(str(path), str(data_path), config, dict(changes))


def test_another_programs_checkpoint(tmp_path):
  """Its sizes are known, and nothing was added to the forget gate."""
  folder = shutil.copytree(TINY, tmp_path / "text")
  expected = trained.Trained(
    checkpoint=CHECKPOINT,
    config=configs.SmallConfig(hidden_size=16, vocab_size=50, num_layers=2),
    vocabulary=word_ids.read_vocabulary(str(TINY)),
    preparation=None,
  )
  assert of_checkpoint(CHECKPOINT, folder) == expected
  config = of_checkpoint(CHECKPOINT, folder, {"forget_bias": 1.0}).config
  assert config == dataclasses.replace(expected.config, forget_bias=1.0)
  (folder / "preparation.json").write_text(json.dumps({"preparation": CHOICES}))
  found = of_checkpoint(CHECKPOINT, folder).preparation
  assert found == preparation.Preparation(**CHOICES)


def test_a_runs_checkpoint_says_how_it_was_trained():
  """One of an older version by the config.json beside it."""
  path = OLD_RUN / "model.ckpt-191"
  found = of_checkpoint(path, TINY)
  expected = trained.of_run(str(OLD_RUN))
  assert found.config == expected.config
  assert (found.run.id, found.vocabulary) == (
    expected.run.id,
    expected.vocabulary,
  )
  with pytest.raises(ConfigError, match=r"^forget_bias is 0\.0 in the trained"):
    of_checkpoint(path, TINY, {"forget_bias": 1.0})


@pytest.mark.parametrize("flag", ["--run", "--save_path"])
def test_errors_name_the_flag_of_the_folder(flag):
  with pytest.raises(command.InputError, match=rf"^{flag}=\* has one of the"):
    trained.of_run("*", None, flag)


def test_a_checkpoint_of_another_text(tmp_path):
  (tmp_path / "ptb.train.txt").write_text("a b c\n")
  with pytest.raises(
    checkpoints.CheckpointError,
    match=r"of a model of 50 words, but the ptb\.train\.txt in --data_path=.* "
    "has 4 different ones",
  ):
    of_checkpoint(CHECKPOINT, tmp_path)


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
    of_checkpoint(checkpoint, data_path)
