"""Tests of training on a GPU; where there is none, the CPU stands in for it."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

import configs
import ptb_word_lm
import reader
from conftest import TINY, call_main
from lm.base import device, tf1
from lm.run import checkpoints, run_folder
from lm.run.run import Run
from lm.training import reports

DATA = f"--data_path={TINY}"
HPARAMS = "--hparams=hidden_size=8,num_layers=1,num_steps=5,init_scale=0.3,"
HPARAMS += "max_max_epoch=1"
pytestmark = pytest.mark.usefixtures("some_gpu")


@pytest.fixture(scope="module")
def epochs_on_cpu(tmp_path_factory):
  """The epochs' numbers of the same training on a CPU."""
  folder = tmp_path_factory.mktemp("runs") / "cpu"
  args = DATA, HPARAMS, f"--save_path={folder}"
  if device.has_gpu():  # Another process can do without it.
    command = [sys.executable, ptb_word_lm.__file__, *args, "--num_gpus=0"]
    subprocess.run(command, check=True, capture_output=True)
  else:
    assert call_main("ptb_word_lm", *args) == 0
  return epochs_of(folder)


def epochs_of(folder):
  lines = (folder / "epochs.jsonl").read_text().splitlines()
  epochs = [json.loads(line) for line in lines]
  return [(e["train_perplexity"], e["valid_perplexity"]) for e in epochs]


def weights_of(folder):
  path = str(folder / f"model.ckpt-{checkpoints.steps_in(folder)[-1]}")
  reader_ = tf1.train.load_checkpoint(path)
  names = [n for n, _ in tf1.train.list_variables(path) if n.startswith("Mod")]
  return {name: reader_.get_tensor(name) for name in names}


def test_the_default_is_cudnn_and_computes_the_same(
  epochs_on_cpu, tmp_path, call_command
):
  args = DATA, HPARAMS, f"--save_path={tmp_path / 'run'}"
  status, out, err = call_command("ptb_word_lm", *args)
  assert status == 0
  assert re.search(
    "Training the small model on the GPU .* rnn_mode cudnn, in float32: ", err
  )
  epochs = epochs_of(tmp_path / "run")
  # In an epoch, differences in rounding grow.
  np.testing.assert_allclose(epochs, epochs_on_cpu, rtol=1e-3)
  lines = re.findall(r"(?m)^(0\.\d{3}) perplexity", out)
  assert lines == [f"{step / 128:.3f}" for step in range(10, 128, 12)]
  status, out, _ = call_command("ptb_word_lm", "--evaluate", DATA, args[2])
  assert status == 0
  assert float(out.split()[2]) == pytest.approx(epochs[-1][1], abs=1e-3)


def test_tf32_is_for_training_only(tmp_path, call_command, monkeypatch):
  """The run reports and stores it; valid and test are computed without it."""
  seen = []
  is_enabled = tf1.config.experimental.tensor_float_32_execution_enabled
  was_enabled = is_enabled()

  class Spy(reports.Reporter):
    def report(self, *args):
      super().report(*args)
      seen.append((bool(self._lines), is_enabled()))

  monkeypatch.setattr(ptb_word_lm, "Reporter", Spy)
  folder = tmp_path / "run"
  args = DATA, HPARAMS, f"--save_path={folder}"
  status, _, err = call_command("ptb_word_lm", *args, "--tf32")
  assert status == 0 and ", in float32 with TF32 products: " in err
  assert run_folder.read_config(folder).dtype == "tf32"
  # Lines are printed in training only.
  assert set(seen) == {(True, True), (False, False)}
  assert is_enabled() == was_enabled
  status, _, err = call_command("ptb_word_lm", *args)
  assert status == 1 and "dtype is tf32 there, float32 here" in err


def test_16_bits_are_float16_in_cudnn(tmp_path, call_command):
  args = DATA, HPARAMS, f"--save_path={tmp_path / 'run'}", "--use_fp16"
  status, _, err = call_command("ptb_word_lm", *args)
  assert status == 0 and "rnn_mode cudnn, in float16: " in err
  assert epochs_of(tmp_path / "run")[-1][1] < 49
  # A run keeps its type in another mode.
  longer = HPARAMS.replace("max_max_epoch=1", "max_max_epoch=2")
  args = DATA, longer, args[2], "--use_fp16", "--rnn_mode=block"
  status, _, err = call_command("ptb_word_lm", *args)
  assert status == 0 and "rnn_mode block, in float16: " in err


class StopAfter:
  """A StopRequest that is true after a number of questions."""

  signum = 15

  def __init__(self, times):
    self._left = times

  def __bool__(self):
    self._left -= 1
    return self._left < 0


def train(folder, stop=False):
  """Trains in the mode cudnn; returns the result, None if it was stopped."""
  corpus = reader.read_corpus(str(TINY))
  config = configs.SmallConfig(
    hidden_size=8,
    num_layers=1,
    num_steps=5,
    init_scale=0.3,
    max_max_epoch=2,
    keep_prob=0.8,
    vocab_size=len(corpus.vocabulary),
    rnn_mode="cudnn",
  )
  run = Run.on_corpus(
    corpus, model="small", seed=1, dtype="float32", config=config
  )
  with run_folder.RunFolder(str(folder)) as opened:
    opened.claim(run, corpus.vocabulary)
    return ptb_word_lm.train(run, corpus, opened, stop=stop)


def test_a_run_resumes_exactly(tmp_path):
  """Stopped in both epochs."""
  whole, stopped = tmp_path / "whole", tmp_path / "stopped"
  result = train(whole)
  for times in (33, 100):
    assert train(stopped, StopAfter(times)) is None
  resumed = train(stopped)
  assert resumed["test_perplexity"] == result["test_perplexity"]
  assert epochs_of(stopped) == epochs_of(whole)
  weights = weights_of(stopped)
  for name, values in weights_of(whole).items():
    np.testing.assert_array_equal(weights[name], values)


def test_a_run_goes_on_without_a_gpu(
  tmp_path, call_command, monkeypatch, caplog
):
  """With the flag that a sentence names; its folder keeps the mode."""
  folder = tmp_path / "run"
  assert train(folder, StopAfter(50)) is None
  hparams = HPARAMS.replace("epoch=1", "epoch=2,keep_prob=0.8")
  args = DATA, hparams, f"--save_path={folder}"
  monkeypatch.setattr(device, "has_gpu", lambda: False)
  status, out, err = call_command("ptb_word_lm", *args)
  assert (status, out) == (1, "")
  assert err == (
    "ptb_word_lm.py: rnn_mode cudnn needs a GPU, but TensorFlow finds none "
    "here. Use --rnn_mode=block, which computes the same.\n"
  )
  assert call_command("ptb_word_lm", *args, "--rnn_mode=block")[0] == 0
  assert f"Resuming {folder} from model.ckpt-50" in caplog.text
  assert f"{folder} began in rnn_mode cudnn. In another mode, " in caplog.text
  assert run_folder.read_config(folder).config.rnn_mode == "cudnn"
  status, out, _ = call_command("ptb_word_lm", "--evaluate", DATA, args[2])
  assert status == 0
  valid = float(re.search("Valid Perplexity: (.*)", out)[1])
  assert valid == pytest.approx(epochs_of(folder)[-1][1], abs=1e-3)


def test_a_run_of_a_cpu_keeps_its_mode_on_a_gpu(
  tmp_path, call_command, monkeypatch
):
  args = DATA, HPARAMS, f"--save_path={tmp_path / 'run'}"
  with monkeypatch.context() as context:
    context.setattr(device, "has_gpu", lambda: False)
    assert call_command("ptb_word_lm", *args)[0] == 0
  longer = HPARAMS.replace("max_max_epoch=1", "max_max_epoch=2")
  status, _, err = call_command("ptb_word_lm", DATA, longer, args[2])
  assert status == 0 and "rnn_mode block, in float32: " in err
