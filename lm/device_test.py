"""Tests of device.py."""

import os

import psutil
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


def test_free_memory_heeds_a_limit(monkeypatch):
  assert 10**8 < device.free_memory() < 10**14
  for limit, expected in ((10**9, 0), (2_600_000_000, 100_000_000)):
    monkeypatch.setattr(psutil.Process, "rlimit", lambda *_, n=limit: (n, n))
    assert device.free_memory() == expected


def test_free_memory_heeds_a_group(monkeypatch):
  texts = {
    "memory.max": "9000\n",
    "memory.stat": "anon 2000\nfile 6500\nkernel 10\n",
  }
  monkeypatch.setattr(device, "_read_of_group", texts.get)
  assert device.free_memory() == 7000
  texts["memory.max"] = "max\n"
  assert device.free_memory() > 10**8


def test_what_cannot_fit_is_refused(monkeypatch):
  config = configs.LargeConfig()  # 66 million weights, in float32, twice.
  monkeypatch.setattr(device, "has_gpu", lambda: False)
  monkeypatch.setattr(device, "free_memory", lambda: 1_200_000_000)
  device.check_memory(config)
  monkeypatch.setattr(device, "free_memory", lambda: 1_000_000_000)
  with pytest.raises(
    command.FlagError, match=r"at least 1\.1 GB of memory, but only 1\.0 GB ar"
  ):
    device.check_memory(config)
  monkeypatch.setattr(device, "has_gpu", lambda: True)
  device.check_memory(config)


def test_no_gpu_means_none(monkeypatch):
  """TensorFlow reads the variable when it looks for GPUs, its first use."""
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
  device.start_on_gpus(None, 1)
  assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
  device.start_on_gpus(0, 2)
  assert os.environ["CUDA_VISIBLE_DEVICES"] == "-1"
