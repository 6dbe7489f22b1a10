"""What the machine computes on, its memory, and which 16-bit type suits it."""

import contextlib
import os
import pathlib
import re
import sys

import psutil

from lm import tf1
from lm.command import FlagError

MAKE_SMALLER = "Make hidden_size, num_layers, batch_size or num_steps smaller."
TOO_LARGE = f"The model does not fit into memory. {MAKE_SMALLER}"


def name():
  """Says in words what TensorFlow computes on."""
  gpus = tf1.config.list_physical_devices("GPU")
  if gpus:
    return f"{len(gpus)} GPU"
  is_known = hasattr(os, "sched_getaffinity")  # Which cores it may use.
  cores = len(os.sched_getaffinity(0)) if is_known else os.cpu_count()
  return f"a CPU with {cores} core{'s' * (cores != 1)}"


def has_gpu():
  """Says whether TensorFlow has a GPU to compute on."""
  return bool(tf1.config.list_physical_devices("GPU"))


def half_precision(vocab_size):
  """Returns the 16-bit type that --use_fp16 takes on this machine.

  That is bfloat16, which has the range of a float32; but float16 on GPUs before
  compute capability 8.0, unless a sum over the vocabulary exceeds its range.
  """
  gpus = tf1.config.list_physical_devices("GPU")
  details = map(tf1.config.experimental.get_device_details, gpus)
  is_old = any(d.get("compute_capability", (8, 0)) < (8, 0) for d in details)
  return "float16" if is_old and vocab_size < 60000 else "bfloat16"


def has_units_for(dtype):
  """Says whether the device multiplies this 16-bit type in hardware."""
  if has_gpu():
    return True
  info = pathlib.Path("/proc/cpuinfo")  # Linux has it.
  features = info.read_text().split() if info.exists() else []
  units = {"amx_bf16", "avx512_bf16", "bf16"}  # The last is an ARM's.
  return dtype == "bfloat16" and not units.isdisjoint(features)


def check_memory(config):
  """Raises FlagError if the model of a Config certainly exceeds the memory.

  It counts TensorFlow, weights, gradients, the gates of all steps, and logits.
  """
  size, layers = config.hidden_size, config.num_layers
  weights = layers * 8 * size**2 + 2 * size * config.vocab_size
  words = config.batch_size * config.num_steps
  activations = words * (layers * 4 * size + config.vocab_size)
  least = 500_000_000 + 4 * (2 * weights + activations)
  free = free_memory()
  if least > free and not has_gpu():
    raise FlagError(
      f"The model needs at least {least / 1e9:.1f} GB of memory, but only "
      f"{free / 1e9:.1f} GB are free. {MAKE_SMALLER}"
    )


def free_memory():
  """Returns how many bytes this process can still get.

  The process (RLIMIT_AS) or its control group (a container) may be limited.
  """
  limits = [psutil.virtual_memory().available + psutil.swap_memory().free]
  with contextlib.suppress(AttributeError):  # Of a system without limits.
    soft, _ = psutil.Process().rlimit(psutil.RLIMIT_AS)
    if soft != psutil.RLIM_INFINITY:
      # It counts addresses; TensorFlow reserves so many that it does not use.
      limits.append(max(soft - 2_500_000_000, 0))
  with contextlib.suppress(OSError, ValueError):  # ValueError: "max".
    most = int(_read_of_group("memory.max"))
    # Without the cache of files, which can be dropped.
    used = dict(re.findall(r"(\w+) (\d+)", _read_of_group("memory.stat")))
    limits.append(most - int(used["anon"]))
  return min(limits)


def _read_of_group(name):
  """Returns a file about the process's control group, which Linux has."""
  return pathlib.Path("/sys/fs/cgroup", name).read_text()


def start_on_gpus(num_gpus, num_workers):
  """Replaces this process by a worker on each of num_gpus GPUs, if many.

  With 0, TensorFlow sees no GPU. Call it before TensorFlow is used.
  """
  if num_gpus == 0:
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
  if not num_gpus:
    return
  if num_gpus > (found := len(tf1.config.list_physical_devices("GPU"))):
    raise FlagError(
      f"--num_gpus={num_gpus} is more than the {found} that TensorFlow finds "
      "here. Make it smaller, or leave it out."
    )
  if num_gpus > 1 and num_workers > 1:
    raise FlagError(
      f"--num_gpus={num_gpus} starts workers, but TF_CONFIG says that this is "
      "one already. Leave either out."
    )
  if num_gpus > 1:
    script = pathlib.Path(__file__).parents[1] / "scripts" / "launch_local.py"
    argv = [sys.executable, str(script), "-n", str(num_gpus), "--gpus"]
    os.execv(sys.executable, [*argv, *sys.argv[1:], "--num_gpus=1"])
