"""Tests of device.py."""

import dataclasses
import os

import pytest

import configs
from lm.base import command, device, tf1


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
