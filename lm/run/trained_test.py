"""Tests of trained.py: which model a command uses."""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest

import configs
import ptb_word_lm
from conftest import OLD_RUN, TINY
from lm.base import command, tf1
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
    ("model.ckpt-1", "model.ckpt-1"),  # It does not exist; reading reports it.
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


def test_a_checkpoint_of_a_newer_version_is_refused(monkeypatch):
  run = {**json.loads((OLD_RUN / "config.json").read_text()), "new": 1}
  monkeypatch.setattr(checkpoints, "record_in", lambda path: {"run": run})
  with pytest.raises(
    checkpoints.CheckpointError,
    match="was written by another version of this program: it has `new`, whic",
  ):
    load(None, CHECKPOINT)


@pytest.mark.parametrize("flag", ["--run", "--save_path"])
def test_errors_name_the_flag_of_the_folder(flag):
  with pytest.raises(command.InputError, match=rf"^{flag}=\* has one of the"):
    load("*", None, flag)
  with pytest.raises(
    command.InputError,
    match=rf"^{flag}={CHECKPOINT} is a checkpoint.*, instead of {flag}, --che",
  ):
    load(CHECKPOINT, None, flag)


def test_a_checkpoint_of_another_text(tmp_path):
  (tmp_path / "ptb.train.txt").write_text("a b c\n")
  with pytest.raises(
    checkpoints.CheckpointError,
    match=r"has a vocabulary of 50 words, but the ptb\.train\.txt in .* has 4 "
    "different words. Set --data_path to the folder of the text that it was tr",
  ):
    load(None, CHECKPOINT, data_path=tmp_path)


@pytest.mark.parametrize(
  ("checkpoint", "data_path", "message"),
  [
    ("/none", "/none", "There is no checkpoint /none: the"),
    (
      f"{CHECKPOINT}.index",
      str(TINY),
      "There is no checkpoint .*Give the checkpoint's name without",
    ),
    (CHECKPOINT, "/none", "There is no folder '/none'"),
  ],
)
def test_names_of_nothing(checkpoint, data_path, message):
  with pytest.raises(command.InputError, match=f"^{message}"):
    load(None, checkpoint, data_path=data_path)


OTHERS = pathlib.Path(TINY).parent / "tf_checkpoints"


@pytest.mark.parametrize("name", ["tf0.12.1", "tf1.0.1", "tf1.15.5_block"])
def test_checkpoints_of_other_versions_of_tensorflow(name, call_command):
  """Each has the perplexities that its TensorFlow computed."""
  expected = json.loads((OTHERS / name / "expected.json").read_text())
  status, out, _ = call_command(
    "ptb_word_lm",
    "--evaluate",
    f"--checkpoint={OTHERS / name}/model.ckpt-7680",
    f"--data_path={TINY}",
    "--hparams=num_steps=5",
  )
  assert status == 0
  assert out.splitlines() == [
    f"{part.title()} Perplexity: {expected[part]['perplexity']:.3f}"
    for part in ("valid", "test")
  ]


def test_commands_use_a_checkpoint_of_tensorflow_1_0(call_command):
  checkpoint = f"{OTHERS}/tf1.0.1/model.ckpt-7680"
  model = f"--checkpoint={checkpoint}", f"--data_path={TINY}"
  status, out, _ = call_command(
    "score", *model, "--carry_state", f"--file={TINY}/ptb.test.txt"
  )
  assert status == 0 and "perplexity 14.767," in out.splitlines()[-1]
  status, out, err = call_command(
    "ptb_word_lm",
    f"--data_path={TINY}",
    f"--init_from={checkpoint}",
    "--model=test",
    "--hparams=num_steps=5,max_max_epoch=1,learning_rate=0.0001",
  )
  assert status == 0 and f"Starting from the model {checkpoint}" in err
  assert "Valid Perplexity: 14.49" in out


def test_a_checkpoint_without_softmax_w(tmp_path):
  """It may be a fork's, which has it under another name."""
  layer = "Model/RNN/multi_rnn_cell/cell_0/basic_lstm_cell"
  names = "Model/embedding", "Model/projection", f"{layer}/kernel"
  path = checkpoint_with(tmp_path, *names, f"{layer}/bias", shape=(50, 16))
  with pytest.raises(checkpoints.CheckpointError, match="has no softmax_w"):
    load(None, path)
  assert load(None, path, tie_embeddings=True).config.tie_embeddings


def checkpoint_with(path, *names, shape=(4, 16)):
  """Writes a checkpoint with tensors of these names; returns its path."""
  with tf1.Graph().as_default(), tf1.Session() as session:
    for name in names:
      tf1.get_variable(name, shape)
    session.run(tf1.global_variables_initializer())
    return tf1.train.Saver().save(session, f"{path}/model.ckpt")


LAYER = "model/RNN/RNN/multi_rnn_cell/cell_0/lstm_cell"


def test_names_of_forks(tmp_path):
  """And the tensors that an optimizer adds are no weights."""
  names = "model/embedding", "model/softmax_w", "model/softmax_b"
  path = checkpoint_with(
    tmp_path, *names, f"{LAYER}/kernel", f"{LAYER}/kernel/Adam", f"{LAYER}/bias"
  )
  sizes = {"hidden_size": 16, "vocab_size": 4, "num_layers": 1}
  assert checkpoints.sizes_in(path) == sizes
  path = checkpoint_with(tmp_path, "Model/embedding", "RNN/lstm_cell/kernel")
  assert checkpoints.sizes_in(path)["num_layers"] == 1


@pytest.mark.parametrize(
  ("names", "message"),
  [
    (("model/embedding", "gru/kernel"), "It has gru/kernel, model/embedding"),
    (
      (f"{LAYER}/kernel",),
      f"lacks the matrix embedding .* It has {LAYER}/kernel",
    ),
    (("a/embedding", "b/embedding"), "has both a/embedding and b/embedding"),
    (
      ("Model/embedding", f"{LAYER}/kernel", f"{LAYER}/w_f_diag"),
      f"has {LAYER}/w_f_diag, which no BasicLSTMCell has",
    ),
  ],
)
def test_unlike_checkpoints_are_named(tmp_path, names, message):
  path = checkpoint_with(tmp_path, *names)
  with pytest.raises(checkpoints.CheckpointError, match=message):
    checkpoints.sizes_in(path)


def test_a_checkpoint_that_a_training_replaces_meanwhile(run):
  """The restored model is the newest one then."""
  model = load(run)
  for path in run.glob("model.ckpt-191.*"):
    path.unlink()
  with tf1.Graph().as_default(), tf1.Session() as session:
    with tf1.variable_scope("Model"):
      input_ = ptb_word_lm.PTBInput(model.config, np.arange(200) % 50)
      ptb_word_lm.PTBModel(False, model.config, input_)
    assert "model.ckpt-128: epoch 1" in model.restore(session)
    named = load(run, "model.ckpt-191")  # By its name, it must be that one.
    with pytest.raises(checkpoints.CheckpointError, match="no checkpoint "):
      named.restore(session)


def test_checkpoints_that_a_saver_put_into_the_folder(
  run, call_command, caplog
):
  """The run is resumed and used by its own ones; the others stay."""
  tensors = tf1.train.load_checkpoint(f"{run}/model.ckpt-191")
  with tf1.Graph().as_default():
    for name in tensors.get_variable_to_shape_map():
      if not name.startswith("progress/"):
        tf1.get_variable(name, initializer=tensors.get_tensor(name))
    # Its thread that saves on a timer would need disable_eager_execution().
    supervisor = tf1.train.Supervisor(logdir=str(run), save_model_secs=0)
    with supervisor.managed_session() as session:
      for step in (128, 200):
        supervisor.saver.save(session, f"{run}/model.ckpt", step)
  assert load(run).checkpoint == f"{run}/model.ckpt-191"
  train = (
    "--model=small",
    f"--data_path={TINY}",
    f"--save_path={run}",
    "--hparams=hidden_size=8,num_steps=5,max_max_epoch=3,init_scale=0.3,"
    "keep_prob=0.8",
  )
  status, out, _ = call_command("ptb_word_lm", *train)
  assert status == 0
  assert "Resuming" in caplog.text and "ckpt-200" not in caplog.text
  expected = json.loads((OLD_RUN / "expected.json").read_text())
  perplexity = expected["resumed"]["test_perplexity"]
  assert out.splitlines()[-1] == f"Test Perplexity: {perplexity:.3f}"
  assert (run / "model.ckpt-200.index").exists()
  for path in run.glob("model.ckpt-*"):
    if not path.name.startswith("model.ckpt-200."):
      path.unlink()
  (run / "result.json").unlink()
  status, out, err = call_command("ptb_word_lm", *train)
  assert status == 1
  assert f"use --init_from={run}/model.ckpt-200 and another --save_path" in err
