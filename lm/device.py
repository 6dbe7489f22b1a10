"""What the machine computes on, its memory, and which 16-bit type suits it."""

import contextlib
import os
import re
import resource

from lm import tf1


def name():
  """Says in words what TensorFlow will compute on."""
  gpus = tf1.config.list_physical_devices("GPU")
  if gpus:
    return f"{len(gpus)} GPU"
  if hasattr(os, "sched_getaffinity"):  # Those that the process may use.
    cores = len(os.sched_getaffinity(0))
  else:
    cores = os.cpu_count()
  return f"a CPU with {cores} core{'s' * (cores != 1)}"


def has_gpu():
  """Says whether TensorFlow has a GPU to compute on."""
  return bool(tf1.config.list_physical_devices("GPU"))


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
  if has_gpu():
    return True
  units = {"amx_bf16", "avx512_bf16", "bf16"}  # The last: of an ARM.
  return dtype == "bfloat16" and not units.isdisjoint(cpu_features())


def cpu_features():
  """Returns what Linux lists of the processor; nothing on other systems."""
  with contextlib.suppress(OSError), open("/proc/cpuinfo") as f:
    return set(f.read().split())
  return set()


# Bytes of addresses, which RLIMIT_AS counts, that TensorFlow reserves for its
# threads and libraries without using as much memory.
_UNUSED_ADDRESSES = 2_500_000_000


def free_memory():
  """Returns how many bytes this process can still get, infinite if unknown.

  That is what the system has left, swap included, or less where the process
  (RLIMIT_AS) or its group (as a container has one) is limited.
  """
  limits = [float("inf")]
  soft, _ = resource.getrlimit(resource.RLIMIT_AS)
  if soft != resource.RLIM_INFINITY:
    limits.append(max(soft - _UNUSED_ADDRESSES, 0))
  with contextlib.suppress(OSError), open("/proc/meminfo") as f:
    kilobytes = dict(re.findall(r"(\w+): +(\d+) kB", f.read()))
    free = int(kilobytes["MemAvailable"]) + int(kilobytes["SwapFree"])
    limits.append(1024 * free)
  with contextlib.suppress(OSError, ValueError):  # ValueError: "max".
    most = int(_read_of_group("memory.max"))
    # Without the cache of files, which gives way.
    used = dict(re.findall(r"(\w+) (\d+)", _read_of_group("memory.stat")))
    limits.append(most - int(used["anon"]))
  return min(limits)


def _read_of_group(name):
  """Returns what Linux tells of the process's control group, a text."""
  with open(f"/sys/fs/cgroup/{name}") as f:
    return f.read()
