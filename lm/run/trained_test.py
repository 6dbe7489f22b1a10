"""Tests of trained.py: which model a command uses."""

import json
import shutil

import pytest

from conftest import OLD_RUN, TINY
from lm.base import command
from lm.run import checkpoints, run_folder, trained
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
    hparams=about["config"]
    | {"tie_embeddings": False, "forget_bias": 0.0}
    | {"patience": 0, "num_samples": 0},
    vocabulary=word_ids.read_vocabulary(str(TINY)),
    preparation=None,
    run_id=run_folder.id_of(about),
  )


def test_a_run_on_a_prepared_text(run):
  about = json.loads((run / "config.json").read_text())
  about["preparation"] = CHOICES
  (run / "config.json").write_text(json.dumps(about))
  found = trained.of_run(str(run)).preparation
  assert found == preparation.Preparation(**CHOICES)


def test_a_checkpoint_alone(tmp_path):
  folder = shutil.copytree(TINY, tmp_path / "text")
  expected = trained.Trained(
    checkpoint=CHECKPOINT,
    hparams={"hidden_size": 16, "vocab_size": 50, "num_layers": 2},
    vocabulary=word_ids.read_vocabulary(str(TINY)),
    preparation=None,
  )
  assert trained.of_checkpoint(CHECKPOINT, str(folder)) == expected
  (folder / "preparation.json").write_text(json.dumps({"preparation": CHOICES}))
  found = trained.of_checkpoint(CHECKPOINT, str(folder)).preparation
  assert found == preparation.Preparation(**CHOICES)


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
    trained.of_checkpoint(CHECKPOINT, str(tmp_path))


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
    trained.of_checkpoint(checkpoint, data_path)
