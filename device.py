"""What the machine computes on, and which 16-bit type suits it."""

import contextlib
import os

import tf1


def name():
  """Says in words what TensorFlow will compute on."""
  gpus = tf1.config.list_physical_devices("GPU")
  if gpus:
    return f"{len(gpus)} GPU"
  if hasattr(os, "sched_getaffinity"):  # Those that the process may use.
    return f"a CPU with {len(os.sched_getaffinity(0))} cores"
  return f"a CPU with {os.cpu_count()} cores"


def half_precision(vocab_size):
  """Returns the 16-bit type that --use_fp16 takes on this machine.

  That is bfloat16, which has the range of a float32. GPUs that are too old for
  it (before compute capability 8.0) take float16, unless a sum over the
  vocabulary is too large for one.
  """
  for gpu in tf1.config.list_physical_devices("GPU"):
    details = tf1.config.experimental.get_device_details(gpu)
    is_old = details.get("compute_capability", (8, 0)) < (8, 0)
    if is_old and vocab_size < 60000:
      return "float16"
  return "bfloat16"


def has_units_for(dtype):
  """Says whether the device multiplies this 16-bit type in hardware."""
  if tf1.config.list_physical_devices("GPU"):
    return True
  units = {"amx_bf16", "avx512_bf16", "bf16"}  # The last: of an ARM.
  return dtype == "bfloat16" and not units.isdisjoint(cpu_features())


def cpu_features():
  """Returns what Linux lists of the processor; nothing on other systems."""
  with contextlib.suppress(OSError), open("/proc/cpuinfo") as f:
    return set(f.read().split())
  return set()
