"""What the machine computes on, its memory, and which 16-bit type suits it."""

import os
import pathlib
import sys

from lm import memory, tf1
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
  compute capability 8.0, with vocabularies below 60,000 words. (Larger ones
  once exceeded its range; without such a GPU, that was not tried again.)
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


def check_memory(models, words, advice=MAKE_SMALLER):
  """Raises FlagError if models certainly exceed the memory, before they do.

  It counts TensorFlow, the weights twice, for their gradients or for reading
  them, and the gates and the logits of so many words at a time.

  Args:
    models: a list of dictionaries with hidden_size, num_layers and vocab_size.
    words: the number of words.
    advice: what to do about it, a sentence.
  """
  numbers = 0
  for model in models:
    size, layers = model["hidden_size"], model["num_layers"]
    matrices = 1 if model.get("tie_embeddings") else 2  # [V, H]
    weights = layers * 8 * size**2 + matrices * size * model["vocab_size"]
    numbers += 2 * weights + words * (layers * 4 * size + model["vocab_size"])
  least = memory.OF_TENSORFLOW + 4 * numbers
  free = memory.free()
  if least > free and not has_gpu():
    raise FlagError(
      f"The model needs at least {least / 1e9:.1f} GB of memory, but only "
      f"{free / 1e9:.1f} GB are free. {advice}"
    )


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
      f"--num_gpus={num_gpus} is more than the {found} GPUs that TensorFlow "
      "finds here. Make it smaller, or leave it out."
    )
  if num_gpus > 1 and num_workers > 1:
    raise FlagError(
      f"--num_gpus={num_gpus} starts workers, but TF_CONFIG says that this is "
      "one already. Leave either out."
    )
  if num_gpus > 1:
    script = pathlib.Path(__file__).parents[1] / "scripts" / "launch_local.py"
    argv = [sys.executable, str(script), "-n", str(num_gpus), "--gpus"]
    os.execv(sys.executable, [*argv, *sys.argv[1:]])
