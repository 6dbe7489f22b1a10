"""Tests of unused_gpu.py, with stubs of nvidia-smi."""

import importlib.metadata

import pytest

from lm.base import tf1, unused_gpu


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
    name, _, capability = printed.rpartition(", ")
    stub.write_text(f"""#!/bin/sh
case "$*" in
  *compute_cap*) echo "{capability}"; exit {int(capability == "?")} ;;
  *) echo "{name or printed}" >&{1 if name else 2}; exit {status} ;;
esac
""")
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
      "its compute capability is 5.2, and TensorFlow needs 6.0. Take a newer "
      "GPU.",
    ),
    (
      "NVIDIA H200, 580.95.05, 9.0",
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
    "The GPU NVIDIA H200 is not used: TensorFlow does not say why. With "
    "TF_CPP_MIN_LOG_LEVEL=0 in the environment it says more."
  )
  assert reason("Driver/library version mismatch.", 9) == (
    "No GPU is used: nvidia-smi fails (Driver/library version mismatch). "
    "Install or restart NVIDIA's driver."
  )
  assert "(it says nothing)" in reason("", 9)
  assert reason("No devices were found") is None
  # An old driver knows no compute capabilities.
  assert "its driver 410.1 is too old." in reason("NVIDIA K80, 410.1, ?")
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
  assert "CUDA's libraries are not installed" in reason(h200)
  found = reason(h200, packages=["nvidia-cudnn-cu12"])
  assert "CUDA_VISIBLE_DEVICES=7 may hide it." in found
  monkeypatch.setattr(tf1.test, "is_built_with_cuda", lambda: False)
  assert "this package of TensorFlow has no CUDA. Install PyPI's" in reason(
    h200
  )
