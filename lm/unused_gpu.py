"""Says why TensorFlow does not use the GPU that a machine has."""

import contextlib
import importlib.metadata
import os
import subprocess

from lm import tf1

# What TensorFlow 2.21's CUDA 12 asks of the driver and of the GPU.
_LEAST_DRIVER = (525, 60, 13)
_LEAST_CAPABILITY = (6, 0)


def reason():
  """Returns a sentence that says why a GPU is not used, and what would help.

  It is None if TensorFlow has a GPU, if the machine seems to have none, or if
  CUDA_VISIBLE_DEVICES hides them all.
  """
  visible = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
  if tf1.config.list_physical_devices("GPU") or visible in ("", "-1"):
    return None
  asked = "name", "driver_version", "compute_cap"
  try:
    process = subprocess.run(
      ["nvidia-smi", f"--query-gpu={','.join(asked)}", "--format=csv,noheader"],
      capture_output=True,
      text=True,
      timeout=20,
    )
  except (OSError, subprocess.TimeoutExpired):
    return None  # The usual case: there is no nvidia-smi.
  lines = process.stdout.strip().splitlines() or ["It says nothing."]
  if process.returncode:
    return (
      f"No GPU is used: nvidia-smi fails ({lines[0].rstrip('.')}). Install or "
      "restart NVIDIA's driver."
    )
  name, driver, capability = (lines[0].split(", ") + 2 * [""])[:3]
  return f"The GPU {name} is not used: {_why(driver, capability, visible)}"


def _why(driver, capability, visible):
  """Returns the rest of the sentence, about a GPU that nvidia-smi lists."""
  if not tf1.test.is_built_with_cuda():
    return "this package of TensorFlow was built without CUDA."
  if _numbers(driver) < _LEAST_DRIVER:
    least = ".".join(map(str, _LEAST_DRIVER))
    return f"its driver {driver} is too old. Install {least} or newer."
  if _numbers(capability) < _LEAST_CAPABILITY:
    return f"TensorFlow needs compute capability 6.0, it has {capability}."
  if visible != "all":
    return (
      f"CUDA_VISIBLE_DEVICES={visible} names none of this machine. Change it, "
      "or leave it out."
    )
  try:
    importlib.metadata.version("nvidia-cudnn-cu12")
  except importlib.metadata.PackageNotFoundError:
    return (
      "CUDA's libraries are not installed. scripts/setup_venv.sh installs "
      "them, or pip install 'tensorflow[and-cuda]'."
    )
  return "TF_CPP_MIN_LOG_LEVEL=0 shows what TensorFlow says about it."


def _numbers(version):
  """Returns a version's numbers; so many that none is too small if unknown."""
  with contextlib.suppress(ValueError):
    return tuple(map(int, version.split(".")))
  return (1_000_000,)
