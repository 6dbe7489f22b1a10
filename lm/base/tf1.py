"""TensorFlow's TF1 interface: `tf1.Session`, `tf1.gradients`, and so on.

The first use of a name loads TensorFlow, not the import of this module. So a
wrong flag or a missing file is reported at once, and not after the seconds that
TensorFlow needs to load. If nothing else has loaded it before:

* The library oneDNN multiplies matrices, even on processors where TensorFlow
  would not use it. TF_ENABLE_ONEDNN_OPTS=0 turns it off.
* The C++ libraries print no messages. TF_CPP_MIN_LOG_LEVEL=0 shows them.

`tf1.rnn_cell` is tf.compat.v1.nn.rnn_cell with `BasicLSTMCell`. Only the
package tf-keras still has it. TensorFlow itself would find it there only if
tf.keras were that package for the whole program.
"""

import contextlib
import functools
import gc
import importlib
import os

# Whether the process is a command of this project, so that this module may
# change settings of the whole process.
is_own_process = False


def __getattr__(name):
  if name.startswith("__"):  # Import and inspection tools ask for these names.
    raise AttributeError(name)
  if name == "rnn_cell":
    _load()
    return importlib.import_module(
      "tf_keras.api._v1.keras.__internal__.legacy.rnn_cell"
    )
  return getattr(_load(), name)


def require_graph(caller):
  """Raises RuntimeError in eager mode, where the caller would do nothing."""
  if _load().executing_eagerly():
    raise RuntimeError(
      f"{caller} adds operations to a graph, but TensorFlow runs eagerly. Call "
      "it in `with tf.Graph().as_default():`; to read batches without a graph, "
      "use reader.ptb_iterator."
    )


@functools.cache
def _load():
  """Returns the module `tensorflow.compat.v1`."""
  os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
  quiet = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "3"
  silence = _silent_stderr() if quiet else contextlib.nullcontext()
  with silence, _without_garbage_collection():
    import tensorflow as tf
    import tf_keras  # noqa: F401

  if quiet and is_own_process:  # Else it warns that TF1's API is deprecated.
    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)
  return tf.compat.v1


@contextlib.contextmanager
def _without_garbage_collection():
  """Runs the block without garbage collection.

  TensorFlow then loads in two thirds of the time. In a process of our own, the
  collector also ignores what exists by then, so Python exits sooner.
  """
  was_enabled = gc.isenabled()
  gc.disable()
  try:
    yield
    if is_own_process:
      gc.freeze()
  finally:
    if was_enabled:
      gc.enable()


@contextlib.contextmanager
def _silent_stderr():
  """Discards what C++ code writes to stderr, as some of it has no log level."""
  stderr = os.dup(2)
  try:
    with open(os.devnull, "wb") as null:
      os.dup2(null.fileno(), 2)
    yield
  finally:
    os.dup2(stderr, 2)
    os.close(stderr)
