"""TensorFlow's TF1 interface: `tf1.Session`, `tf1.gradients`, and so on.

The first use of a name loads TensorFlow, not the import of this module. So a
wrong flag or a missing file is reported at once, and not after the seconds that
TensorFlow needs to load. It is always loaded in this way:

* The package tf-keras is its Keras, since only that still has `BasicLSTMCell`.
* The library oneDNN multiplies matrices, even on processors where TensorFlow
  would not use it. TF_ENABLE_ONEDNN_OPTS=0 turns it off.
* GPUs compute float32 products in float32. TensorFlow's default is TF32, which
  has 10 bits of mantissa; device.products_in allows it.
* The C++ libraries print no messages. TF_CPP_MIN_LOG_LEVEL=0 shows them.
"""

import contextlib
import functools
import gc
import os


def __getattr__(name):
  if name.startswith("__"):  # Import and inspection tools ask for these names.
    raise AttributeError(name)
  return getattr(_load(), name)


@functools.cache
def _load():
  """Returns the module `tensorflow.compat.v1`, loaded with its RNN cells."""
  os.environ["TF_USE_LEGACY_KERAS"] = "1"
  os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
  quiet = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "3"
  silence = _silent_stderr() if quiet else contextlib.nullcontext()
  with silence, _without_garbage_collection():
    import tensorflow as tf

    _ = tf.compat.v1.nn.rnn_cell.BasicLSTMCell  # Loads tf_keras now.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    if quiet:  # Else it warns that TF1's interface is deprecated.
      tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)
  return tf.compat.v1


@contextlib.contextmanager
def _without_garbage_collection():
  """Excludes what the block creates from garbage collection, for good.

  TensorFlow then loads in two thirds of the time, and Python exits sooner.
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
  """Discards what C++ code writes to stderr, which has no log level."""
  stderr = os.dup(2)
  try:
    with open(os.devnull, "wb") as null:
      os.dup2(null.fileno(), 2)
    yield
  finally:
    os.dup2(stderr, 2)
    os.close(stderr)
