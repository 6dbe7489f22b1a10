"""The device that TensorFlow computes on, and its memory."""

import contextlib
import os
import pathlib
import re
import subprocess
import sys

import psutil

from lm.base import tf1
from lm.base.command import FlagError, counted

TF32 = "tf32"  # The type of --tf32: float32, with products in TF32.
_TENSORFLOW_SIZE = 500_000_000  # Bytes of memory that TensorFlow itself needs.
MAKE_SMALLER = (
  "Make batch_size or num_steps smaller or, if the weights are too large, "
  "--vocab_size, hidden_size or num_layers."
)
TOO_LARGE = f"The model does not fit into memory. {MAKE_SMALLER}"


def name():
  """Returns the device in words, such as "a CPU with 2 cores"."""
  gpus = _details_of_gpus()
  if gpus:
    first = f"the GPU {gpus[0].get('device_name', '')}".strip()
    return f"{first}, the first of {len(gpus)}," if len(gpus) > 1 else first
  if hasattr(os, "sched_getaffinity"):  # On Linux: the cores it may use.
    cores = len(os.sched_getaffinity(0))
  else:
    cores = os.cpu_count()
  return f"a CPU with {counted(cores, 'core')}"


def has_gpu():
  """Returns whether TensorFlow has a GPU."""
  return bool(tf1.config.list_physical_devices("GPU"))


def _details_of_gpus():
  """Returns TensorFlow's description of each GPU, a list of dictionaries."""
  gpus = tf1.config.list_physical_devices("GPU")
  return list(map(tf1.config.experimental.get_device_details, gpus))


def is_before_ampere():
  """Returns whether the GPU is too old for TF32 and bfloat16."""
  gpus = _details_of_gpus()
  if not gpus:
    return False
  # Only the first GPU is used.
  return (gpus[0].get("compute_capability") or (8, 0)) < (8, 0)


def unused_gpu():
  """Returns a sentence if the machine has a GPU, but TensorFlow finds none.

  Returns "" otherwise, and if CUDA_VISIBLE_DEVICES hides the GPUs.
  """
  if has_gpu() or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
    return ""
  query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
  try:
    done = subprocess.run(query, capture_output=True, text=True, timeout=20)
  except (OSError, subprocess.TimeoutExpired):
    return ""
  names = done.stdout.strip().splitlines()
  if done.returncode or not names:
    return ""
  return (
    f"nvidia-smi lists the GPU {names[0]}, but TensorFlow finds none: see "
    "docs/gpus.md. "
  )


def session():
  """Returns a Session that allocates a GPU's memory only as it needs it."""
  return tf1.Session(config=session_config())


def session_config(**options):
  """Returns a tf1.ConfigProto for a Session or a Server.

  `options` are further fields of it, such as allow_soft_placement.
  """
  config = tf1.ConfigProto(**options)
  config.gpu_options.allow_growth = True
  return config


@contextlib.contextmanager
def products_in(dtype):
  """Computes float32 products in float32, on GPUs in TF32 if dtype is TF32.

  TensorFlow's default on GPUs is TF32, which has 10 bits of mantissa. Call
  session.run in the block: TensorFlow chooses TF32 when it computes a product,
  not when it builds the graph. The other types are part of the graph.
  """
  config = tf1.config.experimental
  was_allowed = config.tensor_float_32_execution_enabled()
  config.enable_tensor_float_32_execution(dtype == TF32)
  try:
    yield
  finally:
    config.enable_tensor_float_32_execution(was_allowed)


def has_units_for(dtype):
  """Returns whether the device has units that multiply this 16-bit type."""
  if has_gpu():
    return True
  info = pathlib.Path("/proc/cpuinfo")  # Linux has it.
  features = info.read_text().split() if info.exists() else []
  units = {"amx_bf16", "avx512_bf16", "bf16"}  # The last is an ARM's.
  return dtype == "bfloat16" and not units.isdisjoint(features)


def free_memory():
  """Returns the free memory of the machine or container, in bytes."""
  free = psutil.virtual_memory().available + psutil.swap_memory().free
  group = pathlib.Path("/sys/fs/cgroup")  # Linux has it.
  with contextlib.suppress(OSError, ValueError):  # ValueError: "max".
    limit = int((group / "memory.max").read_text())
    # Files in the cache do not count: the system can drop them.
    used = re.search(r"anon (\d+)", (group / "memory.stat").read_text())
    free = min(free, limit - int(used[1]))
  return free


def check_memory(models, words, advice=MAKE_SMALLER):
  """Raises FlagError if models certainly do not fit into the free memory.

  The estimate counts TensorFlow itself, the weights twice (training also has
  gradients, and other commands read the weights from a file), the gates and the
  logits. With a GPU, nothing is checked.

  Args:
    models: a list of Config of lm/model.
    words: the number of words that are computed at once.
    advice: a sentence for the error that says what to do.
  """
  numbers = 0  # In float32.
  for model in models:
    size, layers = model.hidden_size, model.num_layers
    matrices = 1 if model.tie_embeddings else 2  # [V, H]
    weights = layers * 8 * size**2 + matrices * size * model.vocab_size
    numbers += 2 * weights + words * (layers * 4 * size + model.vocab_size)
  least = _TENSORFLOW_SIZE + 4 * numbers  # In bytes.
  free = free_memory()
  if least > free and not has_gpu():
    raise FlagError(
      f"The model needs at least {least / 1e9:.1f} GB of memory, but only "
      f"{free / 1e9:.1f} GB are free. {advice}"
    )


def prepare(num_gpus, num_workers=1, deterministic=False):
  """Applies --num_gpus and --deterministic. Call it before TensorFlow is used.

  Args:
    num_gpus: --num_gpus. With 0, TensorFlow sees no GPU. With 2 or more,
      launch_local.py replaces this process and starts a worker on each GPU.
    num_workers: the number of workers that TF_CONFIG lists.
    deterministic: --deterministic.

  Raises:
    FlagError: if there are not enough GPUs, or this is a worker already.
  """
  if deterministic:
    os.environ["TF_DETERMINISTIC_OPS"] = "1"
  if num_gpus == 0:
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
  if not num_gpus:
    return
  available = len(tf1.config.list_physical_devices("GPU"))
  if num_gpus > available:
    raise FlagError(
      f"--num_gpus={num_gpus} is more than the {counted(available, 'GPU')} "
      f"that TensorFlow finds here. {unused_gpu()}Use a smaller number, or "
      "leave the flag out."
    )
  if num_gpus > 1 and num_workers > 1:
    raise FlagError(
      f"--num_gpus={num_gpus} starts workers, but TF_CONFIG already makes this "
      "process a worker: leave one of them out."
    )
  if num_gpus > 1:
    script = pathlib.Path(__file__).parents[2] / "scripts" / "launch_local.py"
    argv = [sys.executable, str(script), "-n", str(num_gpus), "--gpus"]
    os.execv(sys.executable, [*argv, *sys.argv[1:]])
