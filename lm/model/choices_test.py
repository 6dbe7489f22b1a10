"""Tests of choices.py."""

import pytest

import configs
from lm.base import command, device
from lm.model import choices


@pytest.mark.parametrize(
  ("capability", "rnn_mode", "dtype"),
  [
    ((7, 5), "block", "float16"),
    ((8, 0), "block", "bfloat16"),
    ((9, 0), "basic", "bfloat16"),
    ((9, 0), "cudnn", "float16"),
    (None, "basic", "bfloat16"),
  ],
)
def test_the_type_follows_the_hardware_and_the_mode(
  pretend_gpus, capability, rnn_mode, dtype
):
  pretend_gpus(*filter(None, [capability]))
  assert choices.choose_type(True, False, rnn_mode) == dtype
  assert choices.choose_type(False, False, rnn_mode) == "float32"


def test_a_run_keeps_its_16_bits_where_it_can(pretend_gpus):
  pretend_gpus()
  assert choices.choose_type(True, False, "block", "float16") == "float16"
  assert choices.choose_type(False, False, "block", "float16") == "float32"
  pretend_gpus((7, 5))
  assert choices.choose_type(True, False, "block", "bfloat16") == "bfloat16"
  assert choices.choose_type(True, False, "cudnn", "bfloat16") == "float16"
  assert choices.choose_type(True, False, "block", "float32") == "float16"


def test_the_first_gpu_counts(pretend_gpus):
  pretend_gpus((9, 0), (7, 5))
  assert choices.choose_type(True, False, "block") == "bfloat16"
  assert choices.choose_type(False, True, "block") == "tf32"


def test_a_refusal_says_why_there_is_no_gpu(monkeypatch, pretend_gpus):
  pretend_gpus()
  monkeypatch.setattr(device, "unused_gpu", lambda: "The GPU X is off. ")
  none = "TensorFlow finds none here. The GPU X is off. "
  with pytest.raises(command.FlagError, match=f"{none}Use --rnn_mode=block"):
    choices.checked_mode("cudnn")
  with pytest.raises(command.FlagError, match=f"{none}Leave out --tf32"):
    choices.choose_type(False, True, "block")
  with pytest.raises(command.FlagError, match=f"{none}The run began with --t"):
    choices.choose_type(False, True, "block", "tf32")
  with pytest.raises(
    command.FlagError, match=r"finds here\. The GPU X is off\. U"
  ):
    device.prepare(2)


@pytest.mark.parametrize("capabilities", [[], [(7, 5)]])
def test_tf32_needs_a_gpu_that_has_it(pretend_gpus, capabilities):
  pretend_gpus(*capabilities)
  with pytest.raises(command.FlagError, match="--tf32 needs a GPU with a comp"):
    choices.choose_type(False, True, "block")
  pretend_gpus((8, 0))
  assert choices.choose_type(False, True, "block") == "tf32"


def test_the_mode_follows_the_device(pretend_gpus):
  basic = configs.SmallConfig(rnn_mode="basic")
  for capabilities, fastest, of_basic in (
    ([], "block", "basic"),
    ([(9, 0)], "cudnn", "cudnn"),
  ):
    pretend_gpus(*capabilities)
    for config in configs.CONFIGS.values():
      assert choices.fastest_mode(config()) == fastest
    assert choices.fastest_mode(basic) == of_basic
    assert choices.usable_mode("cudnn") == fastest
    for mode in ("basic", "block"):
      assert choices.usable_mode(mode) == choices.checked_mode(mode) == mode
  assert choices.checked_mode("cudnn") == "cudnn"
  pretend_gpus()
  with pytest.raises(command.FlagError, match="rnn_mode cudnn needs a GPU, "):
    choices.checked_mode("cudnn")
