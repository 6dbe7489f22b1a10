"""Restores a run's checkpoint in TensorFlow 1.15.5 by name, and evaluates it.

  python check.py WHEEL_FOLDER RUN DATA_PATH

WHEEL_FOLDER has tensorflow_core/ of the wheel tensorflow-1.15.5-cp37. No Python
3.7 is needed: its C++ runtime is called through its C API. The graph is the
tutorial's, built here, with reference variables as TensorFlow 1.15 makes them
and a tf.train.Saver of all of them; only operations and attributes that 1.15
knows are in it. It prints the valid perplexity that 1.15 computes, with the
batches of training, and that of the run.
"""

import ctypes
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import reader
from lm import (
  checkpoints,
  run_folder,
  tf1,
)

FLOAT, INT32 = 1, 3


def load_runtime(folder):
  """Loads TensorFlow 1.15's C API; returns it as a ctypes library."""
  # A variable of Python 3.7 that its library refers to, and never uses here.
  with tempfile.TemporaryDirectory() as made:
    source = pathlib.Path(made, "stub.c")
    source.write_text("int _Py_CheckRecursionLimit = 1000;")
    stub = str(source.with_suffix(".so"))
    subprocess.run(["cc", "-shared", "-fPIC", "-o", stub, source], check=True)
    ctypes.CDLL(stub, mode=ctypes.RTLD_GLOBAL)
  core = pathlib.Path(folder, "tensorflow_core")
  ctypes.CDLL(str(core / "libtensorflow_framework.so.1"), ctypes.RTLD_GLOBAL)
  library = str(core / "python" / "_pywrap_tensorflow_internal.so")
  lib = ctypes.CDLL(library, mode=os.RTLD_LAZY)
  for name in (
    "TF_NewStatus", "TF_NewGraph", "TF_NewImportGraphDefOptions",
    "TF_NewSessionOptions", "TF_NewSession", "TF_NewBufferFromString",
    "TF_GraphOperationByName", "TF_AllocateTensor", "TF_TensorData",
  ):  # fmt: skip
    getattr(lib, name).restype = ctypes.c_void_p
  lib.TF_Version.restype = lib.TF_Message.restype = ctypes.c_char_p
  lib.TF_TensorByteSize.restype = ctypes.c_size_t
  return lib


class Output(ctypes.Structure):
  """A TF_Output: one of the tensors that an operation gives."""

  _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


class Session:
  """A session of TensorFlow 1.15 with a graph."""

  def __init__(self, lib, graph_def):
    """Imports the serialized GraphDef."""
    self._lib = lib
    self._status = ctypes.c_void_p(lib.TF_NewStatus())
    self._graph = ctypes.c_void_p(lib.TF_NewGraph())
    buffer = lib.TF_NewBufferFromString(graph_def, len(graph_def))
    lib.TF_GraphImportGraphDef(
      self._graph,
      ctypes.c_void_p(buffer),
      ctypes.c_void_p(lib.TF_NewImportGraphDefOptions()),
      self._status,
    )
    self._check()
    self._session = ctypes.c_void_p(
      lib.TF_NewSession(
        self._graph, ctypes.c_void_p(lib.TF_NewSessionOptions()), self._status
      )
    )
    self._check()

  def _check(self):
    if self._lib.TF_GetCode(self._status):
      raise RuntimeError(self._lib.TF_Message(self._status).decode())

  def _output(self, name):
    name, _, index = name.partition(":")
    op = self._lib.TF_GraphOperationByName(self._graph, name.encode())
    assert op, name
    return Output(op, int(index or 0))

  def _tensor(self, array):
    array = np.ascontiguousarray(array)
    kind = {"float32": FLOAT, "int32": INT32}[str(array.dtype)]
    dims = (ctypes.c_int64 * array.ndim)(*array.shape)
    tensor = self._lib.TF_AllocateTensor(
      kind, dims, array.ndim, ctypes.c_size_t(array.nbytes)
    )
    data = self._lib.TF_TensorData(ctypes.c_void_p(tensor))
    ctypes.memmove(data, array.ctypes.data, array.nbytes)
    return tensor

  def run(self, fetches, feed, targets=()):
    """Returns the fetched float32 tensors as flat arrays."""
    tensors = [self._tensor(array) for array in feed.values()]
    inputs = (Output * len(feed))(*map(self._output, feed))
    values = (ctypes.c_void_p * len(feed))(*tensors)
    outputs = (Output * len(fetches))(*map(self._output, fetches))
    found = (ctypes.c_void_p * len(fetches))()
    ops = [self._output(name).operation for name in targets]
    self._lib.TF_SessionRun(
      self._session, None, inputs, values, len(feed), outputs, found,
      len(fetches), (ctypes.c_void_p * len(ops))(*ops), len(ops), None,
      self._status,
    )  # fmt: skip
    self._check()
    arrays = []
    for tensor in found:
      tensor = ctypes.c_void_p(tensor)
      size = self._lib.TF_TensorByteSize(tensor)
      data = self._lib.TF_TensorData(tensor)
      arrays.append(np.frombuffer(ctypes.string_at(data, size), np.float32))
      self._lib.TF_DeleteTensor(tensor)
    for tensor in tensors:
      self._lib.TF_DeleteTensor(ctypes.c_void_p(tensor))
    return arrays


def tutorial_graph(config, checkpoint):
  """Returns a GraphDef, serialized, its SaverDef, and its variables' names."""
  tf1.disable_resource_variables()
  with tf1.Graph().as_default():
    tf1.train.get_or_create_global_step()
    shape = [config.batch_size, config.num_steps]
    ids = tf1.placeholder(tf1.int32, shape, "ids")
    targets = tf1.placeholder(tf1.int32, shape, "targets")
    size = [config.batch_size, config.hidden_size]
    state = tuple(
      tf1.nn.rnn_cell.LSTMStateTuple(
        tf1.placeholder(tf1.float32, size, f"c{layer}"),
        tf1.placeholder(tf1.float32, size, f"h{layer}"),
      )
      for layer in range(config.num_layers)
    )
    with tf1.variable_scope("Model", initializer=tf1.zeros_initializer()):
      shape = [config.vocab_size, config.hidden_size]
      embedding = tf1.get_variable("embedding", shape)
      inputs = tf1.nn.embedding_lookup(embedding, ids)
      stack = tf1.nn.rnn_cell.MultiRNNCell(
        [
          tf1.nn.rnn_cell.BasicLSTMCell(config.hidden_size, forget_bias=0.0)
          for _ in range(config.num_layers)
        ]
      )
      outputs = []
      with tf1.variable_scope("RNN"):
        for step in range(config.num_steps):
          output, state = stack(inputs[:, step], state)
          outputs.append(output)
      rows = tf1.reshape(tf1.stack(outputs, 1), [-1, config.hidden_size])
      softmax_w = tf1.get_variable("softmax_w", shape[::-1])
      softmax_b = tf1.get_variable("softmax_b", shape[:1])
      logits = tf1.nn.xw_plus_b(rows, softmax_w, softmax_b)
    losses = tf1.nn.sparse_softmax_cross_entropy_with_logits(
      labels=tf1.reshape(targets, [-1]), logits=logits
    )
    tf1.reduce_sum(losses, name="cost")
    for layer, (c, h) in enumerate(state):
      tf1.identity(c, f"new_c{layer}")
      tf1.identity(h, f"new_h{layer}")
    saver = tf1.train.Saver(filename=checkpoint)
    meta = tf1.train.export_meta_graph(strip_default_attrs=True)
    graph_def = meta.graph_def
    graph_def.ClearField("library")
    graph_def.versions.producer = 134  # That of TensorFlow 1.15.
    names = [v.op.name for v in tf1.global_variables()]
    return graph_def.SerializeToString(), saver.as_saver_def(), names


def write_graph(run, path):
  """Writes the graph, and what `main` has to know of it: two files.

  In a process of its own: two TensorFlows do not go together in one.
  """
  config = run_folder.read_run(run).config
  graph_def, saver, names = tutorial_graph(
    config, checkpoints.find(run, "last")
  )
  pathlib.Path(path).write_bytes(graph_def)
  about = [saver.restore_op_name, names]
  pathlib.Path(path + ".json").write_text(json.dumps(about))


def main(wheel, run, data_path):
  """Prints both perplexities."""
  with tempfile.TemporaryDirectory() as made:
    path = f"{made}/graph"
    subprocess.run([sys.executable, __file__, run, path], check=True)
    graph_def = pathlib.Path(path).read_bytes()
    restore, names = json.loads(pathlib.Path(path + ".json").read_text())
  lib = load_runtime(wheel)
  corpus = reader.read_corpus(data_path)
  config = run_folder.config_of(run, corpus.vocabulary)
  session = Session(lib, graph_def)
  session.run([], {}, [restore])
  size = [config.batch_size, config.hidden_size]
  parts = [f"{p}{n}" for n in range(config.num_layers) for p in "ch"]
  state = {part: np.zeros(size, np.float32) for part in parts}
  cost = words = 0
  for x, y in reader.ptb_iterator(
    corpus.valid, config.batch_size, config.num_steps
  ):
    fetches = ["cost", *(f"new_{part}" for part in parts)]
    (nats,), *new = session.run(fetches, {"ids": x, "targets": y, **state})
    state = dict(zip(parts, (a.reshape(size) for a in new), strict=True))
    cost, words = cost + float(nats), words + x.size
  result = json.loads(pathlib.Path(run, "result.json").read_text())
  print(f"TensorFlow {lib.TF_Version().decode()} restored by name:", *names)
  print(f"Its valid perplexity: {math.exp(cost / words):.6f}")
  print(f"That of the run:      {result['valid_perplexity']:.6f}")


if __name__ == "__main__":
  main(*sys.argv[1:]) if len(sys.argv) == 4 else write_graph(*sys.argv[1:])
