"""A process of scripts/benchmark.py: measures one thing, as often as asked.

  python benchmark_worker.py KIND OPTIONS

KIND is a key of KINDS, OPTIONS are its arguments in JSON. For each line on
stdin it takes a measure and prints it as a line of JSON; {"error": "..."} if it
cannot. Each thing has a process of its own, so that its peak of memory is its
own, and so that all can be measured in turn without starting anew each time.
"""

import dataclasses
import json
import math
import pathlib
import resource
import sys
import time

import numpy as np

ROUND_SECONDS = 3.0  # How long a measure takes, at least two steps though.


class Enough:
  """Collects the time of each step, and is true when there are enough."""

  def __init__(self):
    self._times = [time.perf_counter()]
    self.reached = False

  def __bool__(self):
    self._times.append(time.perf_counter())
    seconds = self._times[-1] - self._times[0]
    self.reached = len(self._times) > 3 and seconds > ROUND_SECONDS
    return self.reached

  def median(self):
    """Returns the seconds of a step, without the first, which warms up."""
    return float(np.median(np.diff(self._times)[1:]))


def draw_ids(config):
  """Draws words as frequent as in a text: the n-th has a share of 1 / n."""
  random = np.random.RandomState(0)
  share = 1 / np.arange(1, config.vocab_size + 1)
  count = config.batch_size * config.num_steps * 20 + config.batch_size
  return random.choice(config.vocab_size, count, p=share / share.sum()).astype(
    np.int32
  )


def read_config(model, hparams):
  """Returns the config of a model, with hparams changed, vocab_size too."""
  import configs

  fields = {
    field.name: field.type for field in dataclasses.fields(configs.Config)
  }
  changes = {name: fields[name](value) for name, value in hparams.items()}
  return dataclasses.replace(configs.CONFIGS[model](), **changes)


def train(model, hparams, dtype, root):
  """Measures the training steps of ptb_word_lm.py in the folder `root`."""
  sys.path.insert(0, root)
  import ptb_word_lm
  import tf1

  tf1.disable_eager_execution()  # The default graph serves.
  tf1.logging.set_verbosity(tf1.logging.ERROR)
  config = read_config(model, hparams)
  options = {"seed": 1} if dtype == "float32" else {"seed": 1, "dtype": dtype}
  initializer = ptb_word_lm.uniform_initializer(config.init_scale, 1)
  with tf1.variable_scope("Model", initializer=initializer):
    input_ = ptb_word_lm.PTBInput(config, draw_ids(config))
    model = ptb_word_lm.PTBModel(True, config, input_, **options)
  session = tf1.Session()
  session.run(tf1.global_variables_initializer())
  model.assign_lr(session, 0.1)

  def measure():
    enough = Enough()
    while not enough.reached:
      ptb_word_lm.run_epoch(session, model, model.train_op, stop=enough)
    return {"seconds": enough.median()}

  return measure


def products(config):
  """Lists the matrix products of a training step.

  Returns:
    A list of (times in a step, arrangements); an arrangement is (shape of a,
    shape of b, whether a is transposed, whether b is).
  """
  batch, size, vocab = config.batch_size, config.hidden_size, config.vocab_size
  rows = config.num_steps * batch
  steps = config.num_layers * config.num_steps
  layers = config.num_layers
  return [
    # h kernel_h, and the same transposed.
    (
      steps,
      [
        ([batch, size], [size, 4 * size], False, False),
        ([size, 4 * size], [size, batch], True, False),
      ],
    ),
    # d_z kernel_h^T, with the kernel as it is or transposed beforehand.
    (
      steps,
      [
        ([batch, 4 * size], [size, 4 * size], False, True),
        ([batch, 4 * size], [4 * size, size], False, False),
        ([size, 4 * size], [4 * size, batch], False, False),
      ],
    ),
    (layers, [([rows, size], [size, 4 * size], False, False)]),  # x kernel_x
    (layers, [([rows, 4 * size], [size, 4 * size], False, True)]),  # d_x
    (layers, [([rows, 2 * size], [rows, 4 * size], True, False)]),  # d_kernel
    (1, [([rows, size], [size, vocab], False, False)]),  # logits
    (1, [([rows, vocab], [size, vocab], False, True)]),  # d_rows
    (
      1,
      [
        ([rows, size], [rows, vocab], True, False),  # d_softmax_w
        ([rows, vocab], [rows, size], True, False),
      ],
    ),
  ]


def floor(model, hparams, dtype):
  """Measures the matrix products of a training step, each alone."""
  sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
  import tf1

  tf1.disable_eager_execution()
  parts = products(read_config(model, hparams))
  options = tf1.ConfigProto()
  # Else the products, whose results nobody reads, would be left out.
  options.graph_options.rewrite_options.disable_meta_optimizer = True
  session = tf1.Session(config=options)

  def prepare(a_shape, b_shape, transpose_a, transpose_b):
    """Returns a function that computes the product some times; how many."""
    a, b = (
      tf1.Variable(tf1.cast(tf1.random.uniform(shape, -0.5, 0.5), dtype))
      for shape in (a_shape, b_shape)
    )
    session.run([a.initializer, b.initializer])
    operations = 2 * math.prod(a_shape) * b_shape[0 if transpose_b else 1]
    times = max(2, min(20, round(5e9 / operations)))
    a, b, y = a.read_value(), b.read_value(), tf1.no_op()
    for _ in range(times):
      with tf1.control_dependencies([y]):
        y = tf1.matmul(a, b, transpose_a, transpose_b)
    return session.make_callable(y.op), times

  prepared = [(n, [prepare(*each) for each in ways]) for n, ways in parts]

  def seconds_of(product, times):
    product()
    seconds = []
    for _ in range(3):
      start = time.perf_counter()
      product()
      seconds.append(time.perf_counter() - start)
    return float(np.median(seconds)) / times

  def measure():
    best = [min(seconds_of(*way) for way in ways) for _, ways in prepared]
    times = [n for n, _ in prepared]
    return {"seconds": float(np.dot(times, best)), "each": best}

  return measure


def pytorch(model, hparams, dtype):
  """Measures the same model in PyTorch: nn.LSTM, bfloat16 by autocast."""
  sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
  import torch
  from torch import nn

  config = read_config(model, hparams)
  torch.manual_seed(0)
  size, vocab, drop = (
    config.hidden_size,
    config.vocab_size,
    1 - config.keep_prob,
  )
  embedding, softmax = nn.Embedding(vocab, size), nn.Linear(size, vocab)
  lstm = nn.LSTM(size, size, config.num_layers, dropout=drop)
  dropout = nn.Dropout(drop)
  weights = [p for m in (embedding, lstm, softmax) for p in m.parameters()]
  for weight in weights:
    nn.init.uniform_(weight, -config.init_scale, config.init_scale)
  sgd = torch.optim.SGD(weights, lr=0.1)
  ids = draw_ids(config)
  ids = torch.tensor(ids.reshape(config.batch_size, -1).T.astype(np.int64))
  autocast = torch.autocast("cpu", torch.bfloat16, enabled=dtype != "float32")

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
    assert math.isfinite(losses.item())
    return tuple(s.detach() for s in state)

  def measure():
    enough, steps = Enough(), config.num_steps
    while True:
      shape = [config.num_layers, config.batch_size, size]
      state = (torch.zeros(shape), torch.zeros(shape))
      for begin in range(0, len(ids) - steps, steps):
        x, y = ids[begin : begin + steps], ids[begin + 1 : begin + steps + 1]
        state = step(x, y, state)
        if enough:
          return {"seconds": enough.median()}

  return measure


KINDS = {"train": train, "floor": floor, "pytorch": pytorch}


def main(kind, options):
  """Prepares, then measures whenever a line comes."""
  measure = None
  for _ in sys.stdin:
    try:
      if measure is None:
        measure = KINDS[kind](**json.loads(options))
      result = measure()
      peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
      result["peak_mib"] = peak // 1024  # Linux counts in KiB.
    except Exception as error:  # Whatever it is, the others can be measured.
      result = {"error": f"{type(error).__name__}: {error}".split("\n")[0]}
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
  main(*sys.argv[1:])
