"""Tests of device.py."""

import os

import pytest

import configs
from lm.base import command, device, tf1


def test_tf32_is_allowed_for_its_type_only():
  is_allowed = tf1.config.experimental.tensor_float_32_execution_enabled
  was_allowed = is_allowed()  # The process decides outside of the block.
  for dtype in ("float32", "bfloat16"):
    with device.products_in(dtype):
      assert not is_allowed()
  with pytest.raises(KeyError), device.products_in("tf32"):
    assert is_allowed()
    raise KeyError
  assert is_allowed() == was_allowed


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
  model = [configs.LargeConfig()]  # 66 million weights, in float32, twice.
  monkeypatch.setattr(device, "has_gpu", lambda: False)
  monkeypatch.setattr(device, "free_memory", lambda: 1_200_000_000)
  device.check_memory(model, 700)
  monkeypatch.setattr(device, "free_memory", lambda: 1_000_000_000)
  with pytest.raises(
    command.FlagError, match=r"at least 1\.1 GB of memory, but only 1\.0 GB ar"
  ):
    device.check_memory(model, 700)
  tied = [configs.LargeConfig(tie_embeddings=True)]  # 51 million.
  device.check_memory(tied, 700)
  with pytest.raises(command.FlagError, match=r" are free\. Use fewer runs\."):
    device.check_memory(tied * 2, 700, "Use fewer runs.")
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


def test_a_gpu_that_tensorflow_does_not_use(
  monkeypatch, tmp_path, pretend_gpus
):
  pretend_gpus()
  monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
  monkeypatch.setenv("PATH", str(tmp_path))
  assert device.unused_gpu() == ""  # There is no nvidia-smi.
  stub = tmp_path / "nvidia-smi"
  stub.write_text("#!/bin/sh\necho NVIDIA T4; echo NVIDIA T4\n")
  stub.chmod(0o755)
  told = "nvidia-smi lists the GPU NVIDIA T4, but TensorFlow finds none: see "
  assert device.unused_gpu() == f"{told}docs/gpus.md. "
  for visible in ("", "-1"):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert device.unused_gpu() == ""
  monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
  stub.write_text("#!/bin/sh\necho No devices; exit 9\n")
  assert device.unused_gpu() == ""
  pretend_gpus((9, 0))
  assert device.unused_gpu() == ""


def test_free_memory_is_that_of_the_container(monkeypatch):
  texts = {"memory.max": "9000\n", "memory.stat": "anon 2000\nfile 6500\n"}
  monkeypatch.setattr(
    device.pathlib.Path, "read_text", lambda path: texts[path.name]
  )
  assert device.free_memory() == 7000
  texts["memory.max"] = "max\n"
  assert 10**8 < device.free_memory() < 10**14
