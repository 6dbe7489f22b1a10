"""TensorFlow's TF1 interface: `tf1.Session`, `tf1.gradients`, and so on.

TensorFlow is loaded when a name is first used, not when this module is
imported: a wrong flag or a missing file is then reported at once, not after the
seconds that TensorFlow takes to load. This is the only place that says how it
is loaded:

* with the Keras that still has `BasicLSTMCell` (package tf-keras);
* with the oneDNN library, which multiplies matrices faster, also on processors
  where TensorFlow leaves it off (TF_ENABLE_ONEDNN_OPTS=0 turns it off);
* with float32 products in float32 on GPUs, where it would take TF32, with 10
  bits of mantissa (device.products_in allows it);
* without the start-up messages of its C++ libraries (TF_CPP_MIN_LOG_LEVEL=0
  shows them).
"""

import contextlib
import functools
import gc
import os


def __getattr__(name):
  if name.startswith("__"):  # Asked for by import and inspection tools.
    raise AttributeError(name)
  return getattr(_load(), name)


@functools.cache
def _load():
  """Returns the module `tensorflow.compat.v1`, loaded with its RNN cells."""
  os.environ["TF_USE_LEGACY_KERAS"] = "1"
  os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
  quiet = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "3"
  silence = _silent_stderr() if quiet else contextlib.nullcontext()
  with silence, _no_garbage_collection():
    import tensorflow as tf

    _ = tf.compat.v1.nn.rnn_cell.BasicLSTMCell  # Loads tf_keras now.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    if quiet:  # No warnings that TF1's interface is deprecated.
      tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)
  return tf.compat.v1


@contextlib.contextmanager
def _no_garbage_collection():
  """Looks for no garbage in what is created here, neither now nor later.

  TensorFlow loads in two thirds of the time, and Python ends sooner.
  """
  was_enabled = gc.isenabled()
  gc.disable()
  try:
    yield
    gc.freeze()
  finally:
    if was_enabled:
      gc.enable()


@contextlib.contextmanager
def _silent_stderr():
  """Drops what C++ code writes to stderr while it loads, at any log level."""
  kept = os.dup(2)
  try:
    with open(os.devnull, "wb") as nowhere:
      os.dup2(nowhere.fileno(), 2)
    yield
  finally:
    os.dup2(kept, 2)
    os.close(kept)
