"""Tests of device.py."""

import dataclasses
import os

import pytest

import configs
from lm import command, device, tf1, unused_gpu


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
  assert device.type_of(True, False, rnn_mode) == dtype
  assert device.type_of(False, False, rnn_mode) == "float32"


def test_a_run_keeps_its_16_bits_where_it_can(pretend_gpus):
  pretend_gpus()
  assert device.type_of(True, False, "block", "float16") == "float16"
  assert device.type_of(False, False, "block", "float16") == "float32"
  pretend_gpus((7, 5))
  assert device.type_of(True, False, "block", "bfloat16") == "bfloat16"
  assert device.type_of(True, False, "cudnn", "bfloat16") == "float16"
  assert device.type_of(True, False, "block", "float32") == "float16"


def test_the_first_gpu_counts(pretend_gpus):
  pretend_gpus((9, 0), (7, 5))
  assert device.type_of(True, False, "block") == "bfloat16"
  assert device.type_of(False, True, "block") == "tf32"


def test_a_refusal_says_why_there_is_no_gpu(monkeypatch, pretend_gpus):
  pretend_gpus()
  monkeypatch.setattr(unused_gpu, "reason", lambda: "The GPU X is off.")
  none = "TensorFlow has none here. The GPU X is off. "
  with pytest.raises(command.FlagError, match=f"{none}Give --rnn_mode=block"):
    device.checked_mode("cudnn")
  with pytest.raises(command.FlagError, match=f"{none}Leave it out"):
    device.type_of(False, True, "block")
  with pytest.raises(command.FlagError, match=f"{none}The run began with it: "):
    device.type_of(False, True, "block", "tf32")
  with pytest.raises(
    command.FlagError, match=r"finds here\. The GPU X is off\. M"
  ):
    device.prepare(2)


@pytest.mark.parametrize("capabilities", [[], [(7, 5)]])
def test_tf32_needs_a_gpu_that_has_it(pretend_gpus, capabilities):
  pretend_gpus(*capabilities)
  with pytest.raises(command.FlagError, match="--tf32 needs a GPU with a comp"):
    device.type_of(False, True, "block")
  pretend_gpus((8, 0))
  assert device.type_of(False, True, "block") == "tf32"


def test_tf32_is_allowed_for_its_type_only():
  is_allowed = tf1.config.experimental.tensor_float_32_execution_enabled
  assert not is_allowed()
  for dtype in ("float32", "bfloat16"):
    with device.products_in(dtype):
      assert not is_allowed()
  with pytest.raises(KeyError), device.products_in("tf32"):
    assert is_allowed()
    raise KeyError
  assert not is_allowed()


def test_the_mode_follows_the_device(pretend_gpus):
  for capabilities, small, medium, usable in (
    ([], "basic", "block", "block"),
    ([(9, 0)], "cudnn", "cudnn", "cudnn"),
  ):
    pretend_gpus(*capabilities)
    assert device.fastest_mode(configs.SmallConfig()) == small
    assert device.fastest_mode(configs.MediumConfig()) == medium
    assert device.usable_mode("cudnn") == usable
    for mode in ("basic", "block"):
      assert device.usable_mode(mode) == device.checked_mode(mode) == mode
  assert device.checked_mode("cudnn") == "cudnn"
  pretend_gpus()
  with pytest.raises(command.FlagError, match="rnn_mode cudnn needs a GPU, "):
    device.checked_mode("cudnn")


def test_the_name_of_gpus(pretend_gpus):
  pretend_gpus((9, 0))
  assert device.name() == "the GPU NVIDIA X"
  pretend_gpus((9, 0), (9, 0))
  assert device.name() == "the GPU NVIDIA X, the first of 2,"


def test_a_session_does_not_take_all_memory_of_a_gpu():
  config = device.session_config(allow_soft_placement=True)
  assert config.gpu_options.allow_growth and config.allow_soft_placement


def test_the_name_counts_the_cores_that_may_be_used(pretend_gpus):
  pretend_gpus()  # None.
  cores = os.sched_getaffinity(0)
  os.sched_setaffinity(0, {min(cores)})
  try:
    assert device.name() == "a CPU with 1 core"
  finally:
    os.sched_setaffinity(0, cores)


def test_what_cannot_fit_is_refused(monkeypatch):
  config = configs.LargeConfig()  # 66 million weights, in float32, twice.
  model = [dataclasses.asdict(config)]
  monkeypatch.setattr(device, "has_gpu", lambda: False)
  monkeypatch.setattr(device.memory, "free", lambda: 1_200_000_000)
  device.check_memory(model, 700)
  monkeypatch.setattr(device.memory, "free", lambda: 1_000_000_000)
  with pytest.raises(
    command.FlagError, match=r"at least 1\.1 GB of memory, but only 1\.0 GB ar"
  ):
    device.check_memory(model, 700)
  monkeypatch.setattr(device, "has_gpu", lambda: True)
  device.check_memory(model, 700)


def test_no_gpu_means_none(monkeypatch):
  """TensorFlow reads the variable when it looks for GPUs, its first use."""
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
  device.prepare(None)
  assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
  device.prepare(0, 2)
  assert os.environ["CUDA_VISIBLE_DEVICES"] == "-1"


def test_deterministic_operations_are_asked_for_in_time(monkeypatch):
  """TensorFlow reads the variable when it is first used."""
  monkeypatch.setenv("TF_DETERMINISTIC_OPS", "0")
  device.prepare(None)
  assert os.environ["TF_DETERMINISTIC_OPS"] == "0"
  device.prepare(None, deterministic=True)
  assert os.environ["TF_DETERMINISTIC_OPS"] == "1"
