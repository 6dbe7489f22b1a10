"""Tests of device.py."""

import os
import resource
import subprocess
import sys

import pytest

import configs
import ptb_word_lm
from lm import device, tf1


def test_half_precision_follows_the_hardware(monkeypatch):
  for capability, words, dtype in (
    ((7, 5), 10000, "float16"),
    ((7, 5), 70000, "bfloat16"),
    ((9, 0), 10000, "bfloat16"),
  ):
    monkeypatch.setattr(
      tf1.config, "list_physical_devices", lambda kind: ["a GPU"]
    )
    monkeypatch.setattr(
      tf1.config.experimental,
      "get_device_details",
      lambda gpu, capability=capability: {"compute_capability": capability},
    )
    assert device.half_precision(words) == dtype


def test_the_name_counts_the_cores_that_may_be_used():
  core = min(os.sched_getaffinity(0))
  process = subprocess.run(
    [sys.executable, "-c", "import device; print(device.name())"],
    preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    cwd=os.path.dirname(device.__file__),
    capture_output=True,
    text=True,
  )
  assert process.stdout == "a CPU with 1 core\n"


def test_free_memory_heeds_a_limit(monkeypatch):
  free = device.free_memory()
  assert 10**8 < free < 10**14
  for limit, expected in ((10**9, 0), (2_600_000_000, 100_000_000)):
    monkeypatch.setattr(resource, "getrlimit", lambda _, n=limit: (n, n))
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
  ptb_word_lm.check_memory(config)
  monkeypatch.setattr(device, "free_memory", lambda: 1_000_000_000)
  with pytest.raises(
    configs.ConfigError, match=r"needs 1\.1 GB of memory at le"
  ):
    ptb_word_lm.check_memory(config)
  monkeypatch.setattr(device, "has_gpu", lambda: True)
  ptb_word_lm.check_memory(config)
