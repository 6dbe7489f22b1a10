"""Chooses the rnn_mode and the type of the products for this machine."""

from lm.base import device
from lm.base.command import FlagError
from lm.model.rnn_modes import NEED_GPU


def fastest_mode(config):
  """Returns the fastest rnn_mode: cudnn on a GPU, else config.rnn_mode."""
  if config.by_sentence:  # Each step is computed alone: cudnn gains nothing.
    return config.rnn_mode
  return "cudnn" if device.has_gpu() else config.rnn_mode


def checked_mode(rnn_mode):
  """Returns the rnn_mode; raises FlagError if it cannot be used here."""
  if rnn_mode != usable_mode(rnn_mode):
    raise FlagError(
      f"rnn_mode {rnn_mode} needs a GPU, but TensorFlow finds none here. "
      f"{device.unused_gpu()}Use --rnn_mode=block, which computes the same."
    )
  return rnn_mode


def usable_mode(rnn_mode):
  """Returns the rnn_mode, or block if it needs a GPU and there is none."""
  return "block" if rnn_mode in NEED_GPU and not device.has_gpu() else rnn_mode


def choose_type(use_fp16, tf32, rnn_mode, run_dtype=None):
  """Returns the type of the products: the dtype of a PTBModel.

  The type of 16 bits is bfloat16, which has the range of a float32. It is
  float16 on GPUs before compute capability 8.0, and in the mode cudnn, where
  TensorFlow's gradients are infinite in bfloat16.

  Args:
    use_fp16: --use_fp16.
    tf32: --tf32.
    rnn_mode: the mode of the run.
    run_dtype: the type of a run that resumes, or None. With use_fp16, a 16-bit
      type is kept, except in the mode cudnn.

  Raises:
    FlagError: if the flags exclude each other, or no GPU here has TF32.
  """
  if tf32 and use_fp16:
    raise FlagError(
      "--tf32 and --use_fp16 exclude each other: leave one of them out."
    )
  if tf32 and (not device.has_gpu() or device.is_before_ampere()):
    advice = "Leave out --tf32."
    if run_dtype == device.TF32:
      advice = "The run began with --tf32: resume it where there is such a GPU."
    raise FlagError(
      "--tf32 needs a GPU with a compute capability of 8.0 or more, but "
      f"TensorFlow finds none here. {device.unused_gpu()}{advice}"
    )
  if not use_fp16:
    return device.TF32 if tf32 else "float32"
  if rnn_mode == "cudnn":
    return "float16"
  if run_dtype in ("float16", "bfloat16"):
    return run_dtype
  return "float16" if device.is_before_ampere() else "bfloat16"
