"""Says why TensorFlow does not use the GPU that a machine has."""

import contextlib
import importlib.metadata
import os
import subprocess

from lm.base import tf1

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
  status, said = _ask("name,driver_version")
  if status is None or "No devices" in said:
    return None
  if status:
    return (
      f"No GPU is used: nvidia-smi fails ({said.rstrip('.')}). Install or "
      "restart NVIDIA's driver."
    )
  name, _, driver = said.partition(", ")
  status, capability = _ask("compute_cap")  # Which old drivers do not know.
  why = _why(driver, "" if status else capability, visible)
  return f"The GPU {name} is not used: {why}"


def _ask(fields):
  """Returns nvidia-smi's status and its first line; None if there is none."""
  query = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
  try:
    done = subprocess.run(query, capture_output=True, timeout=20)
  except (OSError, subprocess.TimeoutExpired):
    return None, ""
  said = (done.stdout.strip() or done.stderr.strip()).decode(errors="replace")
  return done.returncode, (said.splitlines() or ["it says nothing"])[0]


def _why(driver, capability, visible):
  """Returns the rest of the sentence, about a GPU that nvidia-smi lists."""
  if not tf1.test.is_built_with_cuda():
    return "this package of TensorFlow has no CUDA. Install PyPI's for x86_64."
  if _numbers(driver) < _LEAST_DRIVER:
    least = ".".join(map(str, _LEAST_DRIVER))
    return f"its driver {driver} is too old. Install {least} or newer."
  if _numbers(capability) < _LEAST_CAPABILITY:
    return (
      f"its compute capability is {capability}, and TensorFlow needs 6.0. Take "
      "a newer GPU."
    )
  try:
    importlib.metadata.version("nvidia-cudnn-cu12")
  except importlib.metadata.PackageNotFoundError:
    return (
      "CUDA's libraries are not installed. scripts/setup_venv.sh installs "
      "them, or pip install 'tensorflow[and-cuda]'."
    )
  if visible != "all":
    return (
      f"CUDA_VISIBLE_DEVICES={visible} may hide it. Change it, or leave it out."
    )
  return (
    "TensorFlow does not say why. With TF_CPP_MIN_LOG_LEVEL=0 in the "
    "environment it says more."
  )


def _numbers(version):
  """Returns a version's numbers; so many that none is too small if unknown."""
  with contextlib.suppress(ValueError):
    return tuple(map(int, version.split(".")))
  return (1_000_000,)
