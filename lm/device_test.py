"""Tests of device.py."""

import dataclasses
import os

import pytest

import configs
from lm import command, device, tf1


@pytest.mark.parametrize(
  ("capability", "words", "dtype"),
  [
    ((7, 5), 10000, "float16"),
    ((7, 5), 70000, "bfloat16"),
    ((9, 0), 10000, "bfloat16"),
  ],
)
def test_half_precision_follows_the_hardware(
  monkeypatch, capability, words, dtype
):
  details = {"compute_capability": capability}
  experimental = tf1.config.experimental
  monkeypatch.setattr(tf1.config, "list_physical_devices", lambda _: ["a GPU"])
  monkeypatch.setattr(experimental, "get_device_details", lambda _: details)
  assert device.half_precision(words) == dtype


def test_the_name_counts_the_cores_that_may_be_used():
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
  device.start_on_gpus(None, 1)
  assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
  device.start_on_gpus(0, 2)
  assert os.environ["CUDA_VISIBLE_DEVICES"] == "-1"
