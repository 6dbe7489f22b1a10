"""Tests that a run written by an earlier version is still of use.

testdata/old_run is a run that the commit e657278 stopped in its second epoch;
expected.json has what that commit computed with it. See testdata/README.md.
"""

import json
import shutil

import numpy as np
import pytest

from conftest import OLD_RUN, TINY
from lm.base import tf1

EXPECTED = json.loads((OLD_RUN / "expected.json").read_text())
TEST_TEXT = TINY / "ptb.test.txt"


@pytest.fixture
def run(tmp_path):
  """A copy of the run as it was written."""
  ignore = shutil.ignore_patterns("expected.json")
  return shutil.copytree(OLD_RUN, tmp_path / "run", ignore=ignore)


@pytest.fixture
def call(call_command, run):
  """Runs a command that must succeed; returns its stdout and stderr."""

  def call(name, *args, flag="--run"):
    status, out, err = call_command(name, f"{flag}={run}", *args)
    assert status == 0, err
    return out, err

  return call


def test_it_is_evaluated(call):
  out, _ = call(
    "ptb_word_lm", "--evaluate", f"--data_path={TINY}", flag="--save_path"
  )
  found = [float(line.split()[-1]) for line in out.splitlines()]
  assert found == pytest.approx([*EXPECTED["evaluate"].values()], abs=1.1e-3)


def test_it_scores(call):
  out, _ = call("score", "--carry_state", "--json", f"--file={TEST_TEXT}")
  total = json.loads(out.splitlines()[-1])
  total = {name: total[name] for name in EXPECTED["score"]}
  assert total == pytest.approx(EXPECTED["score"], rel=1e-6)


def test_it_generates(call):
  out, _ = call("generate", "--num_words=30", "--seed=1")
  assert out == EXPECTED["generate"]
  out, _ = call("generate", "--next_word")
  rows = [line.split() for line in out.splitlines()]
  found = {word: float(prob) for prob, word in rows[:3]}
  assert found == pytest.approx(EXPECTED["next_word"], rel=1e-5)


def test_it_is_exported(call, tmp_path):
  call("export", f"--export_dir={tmp_path}/model")
  signatures = tf1.saved_model.load_v2(f"{tmp_path}/model").signatures
  words = (tmp_path / "model/assets/vocabulary.txt").read_text().split()
  log_probs = signatures["next_word"](
    words=tf1.constant(["<eos>"]), state=tf1.zeros([1, 2, 2, 8])
  )["log_probs"][0].numpy()
  for word, prob in EXPECTED["next_word"].items():
    found = np.exp(log_probs[words.index(word)])
    assert found == pytest.approx(prob, rel=1e-5)


def test_it_resumes(call, run, caplog):
  _, err = call(
    "ptb_word_lm",
    f"--data_path={TINY}",
    "--hparams=hidden_size=8,num_steps=5,max_max_epoch=3,init_scale=0.3,"
    "keep_prob=0.8",
    flag="--save_path",
  )
  assert "model.ckpt-191" in err + caplog.text  # It did not start again.
  result = json.loads((run / "result.json").read_text())
  assert result["global_step"] == 3 * 128
  found = {name: result[name] for name in EXPECTED["resumed"]}
  assert found == pytest.approx(EXPECTED["resumed"], rel=1e-6)
