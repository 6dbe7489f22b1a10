"""Tests of unused_gpu.py, with stubs of nvidia-smi."""

import importlib.metadata

import pytest

from lm import tf1, unused_gpu


@pytest.fixture
def reason(monkeypatch, tmp_path):
  """A function: what is said if nvidia-smi prints a text with a status."""
  monkeypatch.setattr(tf1.config, "list_physical_devices", lambda kind: [])
  monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
  monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

  def call(printed, status=0, packages=()):
    def version(name):
      if name not in packages:
        raise importlib.metadata.PackageNotFoundError(name)
      return "1"

    monkeypatch.setattr(importlib.metadata, "version", version)
    stub = tmp_path / "nvidia-smi"
    stub.write_text(f"#!/bin/sh\nprintf '%s\\n' '{printed}'\nexit {status}\n")
    stub.chmod(0o755)
    return unused_gpu.reason()

  return call


def test_a_machine_without_nvidia_smi_is_no_news(monkeypatch, tmp_path):
  monkeypatch.setattr(tf1.config, "list_physical_devices", lambda kind: [])
  monkeypatch.setenv("PATH", str(tmp_path))
  assert unused_gpu.reason() is None


def test_a_gpu_in_use_or_hidden_is_no_news(reason, monkeypatch):
  for visible in ("", "-1"):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert reason("NVIDIA T4, 450.1.2, 7.5") is None
  monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
  monkeypatch.setattr(tf1.config, "list_physical_devices", lambda kind: [kind])
  assert reason("NVIDIA T4, 450.1.2, 7.5") is None


@pytest.mark.parametrize(
  ("printed", "why"),
  [
    (
      "NVIDIA T4, 470.82.01, 7.5",
      "its driver 470.82.01 is too old. Install 525.60.13 or newer.",
    ),
    (
      "NVIDIA GeForce GTX 980, 535.1, 5.2",
      "TensorFlow needs compute capability 6.0, it has 5.2.",
    ),
    (
      "NVIDIA H200, 580.95.05, 9.0",
      "CUDA's libraries are not installed. scripts/setup_venv.sh installs "
      "them, or pip install 'tensorflow[and-cuda]'.",
    ),
    (  # What an old nvidia-smi does not know is left out.
      "NVIDIA H200",
      "CUDA's libraries are not installed. scripts/setup_venv.sh installs "
      "them, or pip install 'tensorflow[and-cuda]'.",
    ),
  ],
)
def test_why_a_gpu_is_not_used(reason, printed, why):
  name = printed.partition(",")[0]
  assert reason(printed) == f"The GPU {name} is not used: {why}"


def test_other_reasons(reason, monkeypatch):
  h200 = "NVIDIA H200, 580.95.05, 9.0"
  assert reason(h200, packages=["nvidia-cudnn-cu12"]) == (
    "The GPU NVIDIA H200 is not used: TF_CPP_MIN_LOG_LEVEL=0 shows what "
    "TensorFlow says about it."
  )
  assert reason("Driver/library version mismatch.", 9) == (
    "No GPU is used: nvidia-smi fails (Driver/library version mismatch). "
    "Install or restart NVIDIA's driver."
  )
  assert "(It says nothing)" in reason("", 9)
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
  assert "CUDA_VISIBLE_DEVICES=7 names none of this machine." in reason(h200)
  monkeypatch.setattr(tf1.test, "is_built_with_cuda", lambda: False)
  assert "this package of TensorFlow was built without CUDA" in reason(h200)
