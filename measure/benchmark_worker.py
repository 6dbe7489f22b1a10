"""A process of benchmark.py: measures one thing once.

  python benchmark_worker.py KIND MODEL MODE DTYPE SECONDS ROOT

KIND is a key of KINDS. MODE is an rnn_mode, or empty for the model's own.
SECONDS is the least time to measure, and ROOT is the folder of this project or
of an older checkout. The output is a line of JSON: the seconds of a training
step and the peak of memory, or an error.
"""

import contextlib
import dataclasses
import importlib
import itertools
import json
import math
import os
import resource
import sys
import time
import timeit

import numpy as np


class Clock:
  """Times each step; it is true when it has timed enough of them."""

  def __init__(self, seconds):
    self._seconds, self._times = seconds, [time.perf_counter()]

  def tick(self, *_):
    """Ends a step; call it after each one."""
    self._times.append(time.perf_counter())

  def __bool__(self):
    # The first two steps warm up, and a median needs more than one.
    seconds = self._times[-1] - self._times[0]
    return len(self._times) > 5 and not seconds <= self._seconds

  def median(self):
    """Returns the median seconds of a step, without the first two steps."""
    return float(np.median(np.diff(self._times)[2:]))


def draw_ids(config, steps):
  """Draws the ids of a number of steps, with frequencies as in a text."""
  random = np.random.RandomState(0)
  share = 1 / np.arange(1, config.vocab_size + 1)
  count = config.batch_size * (steps * config.num_steps + 1)
  ids = random.choice(config.vocab_size, count, p=share / share.sum())
  return ids.astype(np.int32)


def import_tf1():
  """Imports the checkout's module tf1, which older ones have elsewhere."""
  for name in ("lm.base.tf1", "lm.tf1"):
    with contextlib.suppress(ImportError):
      return importlib.import_module(name)
  return importlib.import_module("tf1")


def load_tf1(dtype):
  """Returns the checkout's module tf1, set up to build a graph.

  Raises ValueError if the type needs a GPU and there is none.
  """
  tf1 = import_tf1()
  tf1.disable_eager_execution()
  tf1.logging.set_verbosity(tf1.logging.ERROR)
  tf1.set_random_seed(1)  # TF_DETERMINISTIC_OPS wants one.
  if dtype == "tf32" and not tf1.config.list_physical_devices("GPU"):
    raise ValueError("TF32 needs a GPU")
  return tf1


def build(config, dtype, steps=100):
  """Returns a session and a PTBModel that trains on `steps` random batches."""
  tf1 = load_tf1(dtype)
  import ptb_word_lm

  # Older checkouts do not know the argument.
  options = {} if dtype == "float32" else {"dtype": dtype}
  initializer = ptb_word_lm.uniform_initializer(config.init_scale, 1)
  with tf1.variable_scope("Model", initializer=initializer):
    input_ = ptb_word_lm.PTBInput(config, draw_ids(config, steps))
    model = ptb_word_lm.PTBModel(True, config, input_, seed=1, **options)
  session = tf1.Session()
  session.run(tf1.global_variables_initializer())
  model.assign_lr(session, 0.1)
  return session, model


def train(config, dtype, seconds):
  """Returns the seconds of a training step of ptb_word_lm.py."""
  session, model = build(config, dtype)
  import ptb_word_lm

  clock = Clock(seconds)
  while not clock:
    ptb_word_lm.run_epoch(
      session, model, model.train_op, on_step=clock.tick, stop=clock
    )
  # In some older checkouts, a tick on a GPU is after several steps.
  steps = getattr(ptb_word_lm, "steps_per_look", lambda: 1)()
  return clock.median() / steps


def products(config):
  """Lists the matrix products of a training step.

  Returns:
    A list of (times in a step, arrangements that compute the product). In an
    arrangement such as "bh,hg" a letter is a dimension (see `sizes_of`); the
    product sums over the one that both matrices have.
  """
  layers = config.num_layers
  steps = layers * config.num_steps
  return [
    (steps, ["bh,hg", "hg,hb"]),  # h kernel_h
    (steps, ["bg,hg", "bg,gh", "hg,gb"]),  # d_z kernel_h^T
    (layers, ["rh,hg"]),  # x kernel_x
    (layers, ["rg,hg"]),  # d_x
    (layers, ["rd,rg"]),  # d_kernel
    (1, ["rh,hv"]),  # logits
    (1, ["rv,hv"]),  # d_rows
    (1, ["rh,rv", "rv,rh"]),  # d_softmax_w
  ]


def sizes_of(config):
  """Returns the size of each dimension, by its letter."""
  b, h, v = config.batch_size, config.hidden_size, config.vocab_size
  rows = config.num_steps * b
  return dict(zip("bhdgrv", (b, h, 2 * h, 4 * h, rows, v), strict=True))


def floor(config, dtype, seconds):
  """Returns a step's least seconds, the time of its matrix products alone."""
  products_of = Products(dtype)
  if products_of.is_on_gpu:
    return floor_of_gpu(config, products_of)
  return floor_of_cpu(config, products_of, seconds)


class Products:
  """Measures matrix products of random matrices of a type."""

  def __init__(self, dtype):
    self._tf1 = tf1 = load_tf1(dtype)
    self.is_on_gpu = bool(tf1.config.list_physical_devices("GPU"))
    tf1.config.experimental.enable_tensor_float_32_execution(dtype == "tf32")
    self._dtype = "float32" if dtype == "tf32" else dtype
    options = tf1.ConfigProto()
    # Else TensorFlow would remove the products, as nobody reads their results.
    options.graph_options.rewrite_options.disable_meta_optimizer = True
    self._session = tf1.Session(config=options)

  def random_matrix(self, shape):
    """Returns a random matrix, which a variable holds."""
    values = self._tf1.random.uniform(shape, -0.5, 0.5)
    variable = self._tf1.Variable(self._tf1.cast(values, self._dtype))
    self._session.run(variable.initializer)
    return variable.read_value()

  def seconds_of(self, a, b, transposed, times):
    """Returns the seconds of a product, timed in a chain of several."""
    y = self._tf1.no_op()
    for _ in range(times):
      with self._tf1.control_dependencies([y]):
        y = self._tf1.matmul(a, b, *transposed)
    compute = self._session.make_callable(y.op)
    compute()
    return np.median(timeit.repeat(compute, repeat=3, number=1)) / times


def floor_of_gpu(config, products_of, size=8192):
  """Returns the seconds of a step's products at the speed of large ones.

  The large matrices are size x size. The products of a step are too small to be
  timed alone on a GPU: most of their time goes into starting them.
  """
  a, b = (products_of.random_matrix([size, size]) for _ in range(2))
  seconds = products_of.seconds_of(a, b, (False, False), 10)
  lengths, operations = sizes_of(config), 0
  for count, arrangements in products(config):
    letters = {*arrangements[0]} - {","}
    operations += 2 * count * math.prod(lengths[letter] for letter in letters)
  return operations / (2 * size**3 / seconds)


def floor_of_cpu(config, products_of, seconds):
  """Returns the seconds of a step's products, each timed alone on a CPU.

  Each arrangement of a product takes about `seconds` / 30.
  """
  sizes = sizes_of(config)

  def seconds_of(arrangement):
    a, b = arrangement.split(",")
    transposed = (a[0] in b, b[1] in a)
    matrices = [
      products_of.random_matrix([sizes[letter] for letter in letters])
      for letters in (a, b)
    ]
    rough = products_of.seconds_of(*matrices, transposed, 2)
    times = max(2, min(500, round(seconds / 90 / rough)))
    return products_of.seconds_of(*matrices, transposed, times)

  total = 0.0
  for times, arrangements in products(config):
    total += times * min(map(seconds_of, arrangements))
  return total


def pytorch(config, dtype, seconds):
  """Returns the seconds of a training step in PyTorch, with nn.LSTM.

  16-bit types use autocast.
  """
  import torch
  from torch import nn

  device = "cuda" if torch.cuda.is_available() else "cpu"
  torch.set_default_device(device)
  torch.backends.cuda.matmul.allow_tf32 = dtype == "tf32"
  torch.backends.cudnn.allow_tf32 = dtype == "tf32"
  torch.set_num_threads(len(os.sched_getaffinity(0)))
  size, vocab = config.hidden_size, config.vocab_size
  embedding, softmax = nn.Embedding(vocab, size), nn.Linear(size, vocab)
  dropout = nn.Dropout(1 - config.keep_prob)
  lstm = nn.LSTM(size, size, config.num_layers, dropout=dropout.p)
  weights = [p for m in (embedding, lstm, softmax) for p in m.parameters()]
  sgd = torch.optim.SGD(weights, lr=0.1)
  ids = draw_ids(config, 100).reshape(config.batch_size, -1).T  # [words, B]
  ids = torch.tensor(ids.astype(np.int64))
  half = torch.float16 if dtype == "float16" else torch.bfloat16
  autocast = torch.autocast(device, half, enabled="16" in dtype)

  def step(x, y, state):
    sgd.zero_grad(set_to_none=True)
    with autocast:
      outputs, state = lstm(dropout(embedding(x)), state)
      logits = softmax(dropout(outputs))
    losses = nn.functional.cross_entropy(
      logits.float().reshape(-1, vocab), y.reshape(-1), reduction="sum"
    )
    (losses / config.batch_size).backward()
    nn.utils.clip_grad_norm_(weights, config.max_grad_norm)
    sgd.step()
    return losses, tuple(tensor.detach() for tensor in state)

  clock, steps, state = Clock(seconds), config.num_steps, None
  every = 10 if device == "cuda" else 1  # Reading a loss takes time on a GPU.
  begins = itertools.cycle(range(0, len(ids) - steps, steps))
  for number, begin in enumerate(begins, 1):
    batch = ids[begin : begin + steps + 1]
    losses, state = step(batch[:-1], batch[1:], state)
    if number % every == 0:
      losses.item()  # Waits for the GPU.
      clock.tick()
      if clock:
        return clock.median() / every


KINDS = {"train": train, "floor": floor, "pytorch": pytorch}


def main(kind, model, mode, dtype, seconds, root):
  """Measures once and prints the result."""
  sys.path.insert(0, root)
  try:
    import configs

    config = configs.CONFIGS[model]()
    if mode:
      config = dataclasses.replace(config, rnn_mode=mode)
    result = {"seconds": KINDS[kind](config, dtype, float(seconds))}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result["peak_mib"] = peak // 1024  # Linux counts in KiB.
  except Exception as error:  # benchmark.py then measures the others.
    result = {"error": f"{type(error).__name__}: {error}".split("\n")[0]}
  print(json.dumps(result))


if __name__ == "__main__":
  main(*sys.argv[1:])
