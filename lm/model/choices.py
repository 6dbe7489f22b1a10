"""Which rnn_mode and which type of products a run takes on this machine."""

from lm.base import device
from lm.base.command import FlagError
from lm.model.rnn_modes import NEED_GPU


def fastest_mode(config):
  """Returns the fastest rnn_mode: cudnn on a GPU, else that of the config."""
  return "cudnn" if device.has_gpu() else config.rnn_mode


def checked_mode(rnn_mode):
  """Returns the rnn_mode; raises FlagError if it cannot be used here."""
  if rnn_mode != usable_mode(rnn_mode):
    raise FlagError(
      f"rnn_mode {rnn_mode} needs a GPU, and TensorFlow has none here. "
      f"{device.unused_gpu()}Give --rnn_mode=block, which computes the same."
    )
  return rnn_mode


def usable_mode(rnn_mode):
  """Returns the rnn_mode, or block if it needs a GPU and there is none."""
  return "block" if rnn_mode in NEED_GPU and not device.has_gpu() else rnn_mode


def type_of(use_fp16, tf32, rnn_mode, of_run=None):
  """Returns the type of the products for these flags: the dtype of a PTBModel.

  16 bits are bfloat16, which has the range of a float32; but float16 on GPUs
  before compute capability 8.0 and in the mode cudnn, in which TensorFlow's
  gradients are infinite in bfloat16. A run that resumes keeps its type of 16
  bits, `of_run`, where it can.
  """
  if tf32 and use_fp16:
    raise FlagError("--tf32 and --use_fp16 are two types: leave out one.")
  if tf32 and (not device.has_gpu() or device.is_old()):
    advice = "Leave it out."
    if of_run == device.TF32:
      advice = "The run began with it: resume it where there is one."
    raise FlagError(
      "--tf32 needs a GPU with a compute capability of 8.0 or more, and "
      f"TensorFlow has none here. {device.unused_gpu()}{advice}"
    )
  if not use_fp16:
    return device.TF32 if tf32 else "float32"
  if rnn_mode == "cudnn":
    return "float16"
  if of_run in ("float16", "bfloat16"):
    return of_run
  return "float16" if device.is_old() else "bfloat16"
