"""What TensorFlow computes on, and its memory."""

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
_OF_TENSORFLOW = 500_000_000  # Bytes that it takes itself.
MAKE_SMALLER = "Make hidden_size, num_layers, batch_size or num_steps smaller."
TOO_LARGE = f"The model does not fit into memory. {MAKE_SMALLER}"


def name():
  """Says in words what TensorFlow computes on."""
  gpus = _details_of_gpus()
  if gpus:
    name = f"the GPU {gpus[0].get('device_name', '')}".strip()
    return name + f", the first of {len(gpus)}," * (len(gpus) > 1)
  is_known = hasattr(os, "sched_getaffinity")  # Which cores it may use.
  cores = len(os.sched_getaffinity(0)) if is_known else os.cpu_count()
  return f"a CPU with {cores} core{'s' * (cores != 1)}"


def has_gpu():
  """Says whether TensorFlow has a GPU to compute on."""
  return bool(tf1.config.list_physical_devices("GPU"))


def _details_of_gpus():
  """Returns TensorFlow's dictionary about each GPU."""
  gpus = tf1.config.list_physical_devices("GPU")
  return list(map(tf1.config.experimental.get_device_details, gpus))


def is_old():
  """Says whether the GPU knows neither TF32 nor bfloat16, as before Ampere."""
  for first in _details_of_gpus()[:1]:  # The others are not used.
    return (first.get("compute_capability") or (8, 0)) < (8, 0)
  return False


def unused_gpu():
  """Returns a sentence if the machine has a GPU that TensorFlow does not use.

  Else it returns "", also if CUDA_VISIBLE_DEVICES hides the GPUs.
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
  """Returns a Session that takes a GPU's memory as it needs it, not whole."""
  return tf1.Session(config=session_config())


def session_config(**options):
  """Returns the tf1.ConfigProto of a Session or a Server, with more options."""
  config = tf1.ConfigProto(**options)
  config.gpu_options.allow_growth = True
  return config


@contextlib.contextmanager
def products_in(dtype):
  """Returns a context in which products have this type: TF32 only if it is so.

  TensorFlow looks at that when it computes a product, not when it builds the
  graph. The other types are in the graph.
  """
  allow = tf1.config.experimental.enable_tensor_float_32_execution
  allow(dtype == TF32)
  try:
    yield
  finally:
    allow(False)


def has_units_for(dtype):
  """Says whether the device multiplies this 16-bit type in hardware."""
  if has_gpu():
    return True
  info = pathlib.Path("/proc/cpuinfo")  # Linux has it.
  features = info.read_text().split() if info.exists() else []
  units = {"amx_bf16", "avx512_bf16", "bf16"}  # The last is an ARM's.
  return dtype == "bfloat16" and not units.isdisjoint(features)


def free_memory():
  """Returns how many bytes of memory are free, in a container of its own."""
  free = psutil.virtual_memory().available + psutil.swap_memory().free
  group = pathlib.Path("/sys/fs/cgroup")  # Linux has it.
  with contextlib.suppress(OSError, ValueError):  # ValueError: "max".
    most = int((group / "memory.max").read_text())
    # Without the cache of files, which can be dropped.
    used = re.search(r"anon (\d+)", (group / "memory.stat").read_text())
    free = min(free, most - int(used[1]))
  return free


def check_memory(models, words, advice=MAKE_SMALLER):
  """Raises FlagError if models certainly exceed the memory, before they do.

  It counts TensorFlow, the weights twice, for their gradients or for reading
  them, and the gates and the logits of `words` words at a time.

  Args:
    models: a list of Config of lm/model.
    words: the number of words.
    advice: what to do about it, a sentence.
  """
  numbers = 0
  for model in models:
    size, layers = model.hidden_size, model.num_layers
    matrices = 1 if model.tie_embeddings else 2  # [V, H]
    weights = layers * 8 * size**2 + matrices * size * model.vocab_size
    numbers += 2 * weights + words * (layers * 4 * size + model.vocab_size)
  least = _OF_TENSORFLOW + 4 * numbers
  free = free_memory()
  if least > free and not has_gpu():
    raise FlagError(
      f"The model needs at least {least / 1e9:.1f} GB of memory, but only "
      f"{free / 1e9:.1f} GB are free. {advice}"
    )


def prepare(num_gpus, num_workers=1, deterministic=False):
  """Does what --num_gpus and --deterministic say, before TensorFlow is used.

  With num_gpus=0, TensorFlow sees no GPU. With 2 or more, this process becomes
  that of workers, one on each GPU.
  """
  if deterministic:
    os.environ["TF_DETERMINISTIC_OPS"] = "1"
  if num_gpus == 0:
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
  if not num_gpus:
    return
  if num_gpus > (found := len(tf1.config.list_physical_devices("GPU"))):
    raise FlagError(
      f"--num_gpus={num_gpus} is more than the {counted(found, 'GPU')} that "
      f"TensorFlow finds here. {unused_gpu()}Make it smaller, or leave it out."
    )
  if num_gpus > 1 and num_workers > 1:
    raise FlagError(
      f"--num_gpus={num_gpus} starts workers, but TF_CONFIG says that this is "
      "one already. Leave either out."
    )
  if num_gpus > 1:
    script = pathlib.Path(__file__).parents[2] / "scripts" / "launch_local.py"
    argv = [sys.executable, str(script), "-n", str(num_gpus), "--gpus"]
    os.execv(sys.executable, [*argv, *sys.argv[1:]])
