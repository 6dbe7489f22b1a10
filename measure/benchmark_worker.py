"""A process of scripts/benchmark.py: measures one thing, as often as asked.

  python benchmark_worker.py KIND OPTIONS ROOT

KIND is a key of KINDS, OPTIONS are its arguments in JSON, ROOT is the folder of
the project, or of an older checkout. For each line on stdin it takes a measure
and prints it as a line of JSON; {"error": "..."} if it cannot. Each thing has a
process of its own, so that its peak of memory is its own, and so that all can
be measured in turn without starting anew each time.

In the arguments, `seconds` is how long a measure of training takes, at least.
"""

import dataclasses
import json
import math
import os
import resource
import sys
import time

import numpy as np


class Clock:
  """Takes the time of each step; is true when there are enough of them."""

  def __init__(self, seconds):
    self._seconds, self._times = seconds, [time.perf_counter()]

  def tick(self, *_):
    """Call it after each step."""
    self._times.append(time.perf_counter())

  def __bool__(self):
    # The first step warms up; of one more alone there is no median.
    seconds = self._times[-1] - self._times[0]
    return len(self._times) > 3 and seconds > self._seconds

  def median(self):
    """Returns the seconds of a step, without the first."""
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
  """Returns the config of a model with some fields changed."""
  import configs

  return dataclasses.replace(configs.CONFIGS[model](), **hparams)


def train(model, hparams, dtype, seconds):
  """Measures the training steps of ptb_word_lm.py."""
  import ptb_word_lm
  from lm import tf1

  tf1.disable_eager_execution()  # The default graph serves.
  tf1.logging.set_verbosity(tf1.logging.ERROR)
  config = read_config(model, hparams)
  options = {} if dtype == "float32" else {"dtype": dtype}
  initializer = ptb_word_lm.uniform_initializer(config.init_scale, 1)
  with tf1.variable_scope("Model", initializer=initializer):
    input_ = ptb_word_lm.PTBInput(config, draw_ids(config))
    lm = ptb_word_lm.PTBModel(True, config, input_, seed=1, **options)
  session = tf1.Session()
  session.run(tf1.global_variables_initializer())
  lm.assign_lr(session, 0.1)

  def measure():
    clock = Clock(seconds)
    while not clock:
      ptb_word_lm.run_epoch(
        session, lm, lm.train_op, on_step=clock.tick, stop=clock
      )
    return {"seconds": clock.median()}

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


def floor(model, hparams, dtype, seconds):
  """Measures the matrix products of a training step, each alone.

  Each takes about a thirtieth of `seconds`.
  """
  from lm import tf1

  tf1.disable_eager_execution()
  options = tf1.ConfigProto()
  # Else the products, whose results nobody reads, would be left out.
  options.graph_options.rewrite_options.disable_meta_optimizer = True
  session = tf1.Session(config=options)

  def prepare(a_shape, b_shape, transpose_a, transpose_b):
    """Returns a function that times the product, as its seconds."""
    a, b = (
      tf1.Variable(tf1.cast(tf1.random.uniform(shape, -0.5, 0.5), dtype))
      for shape in (a_shape, b_shape)
    )
    session.run([a.initializer, b.initializer])
    a, b = a.read_value(), b.read_value()

    def chain(times):
      y = tf1.no_op()
      for _ in range(times):
        with tf1.control_dependencies([y]):
          y = tf1.matmul(a, b, transpose_a, transpose_b)
      compute = session.make_callable(y.op)
      compute()

      def seconds_of_one():
        start = time.perf_counter()
        compute()
        return (time.perf_counter() - start) / times

      return seconds_of_one

    two = chain(2)
    times = seconds / 30 / min(two(), two())
    return chain(max(2, min(500, round(times))))

  def best(ways):
    """Returns the fastest of some arrangements."""
    ways = [prepare(*way) for way in ways]
    return min(ways, key=lambda way: min(way() for _ in range(3)))

  prepared = [
    (times, best(ways)) for times, ways in products(read_config(model, hparams))
  ]

  def measure():
    each = [way() for _, way in prepared]
    total = sum(n * s for (n, _), s in zip(prepared, each, strict=True))
    return {"seconds": total, "each": each}

  return measure


def pytorch(model, hparams, dtype, seconds):
  """Measures the same model in PyTorch: nn.LSTM, bfloat16 by autocast.

  Where oneDNN's LSTM has no bfloat16, PyTorch fails instead of taking its own
  LSTM; then that is taken, which autocast leaves in float32.
  """
  import torch
  from torch import nn

  torch.set_num_threads(len(os.sched_getaffinity(0)))
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
  has_onednn_lstm = dtype == "float32" or runs_in_bfloat16(nn.LSTM)

  def step(x, y, state):
    sgd.zero_grad(set_to_none=True)
    with autocast:
      inputs = dropout(embedding(x))
      with torch.backends.mkldnn.flags(enabled=has_onednn_lstm):
        outputs, state = lstm(inputs, state)
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
    clock, steps = Clock(seconds), config.num_steps
    while not clock:
      shape = [config.num_layers, config.batch_size, size]
      state = (torch.zeros(shape), torch.zeros(shape))
      for begin in range(0, len(ids) - steps, steps):
        x, y = ids[begin : begin + steps], ids[begin + 1 : begin + steps + 1]
        state = step(x, y, state)
        clock.tick()
        if clock:
          break
    result = {"seconds": clock.median()}
    if not has_onednn_lstm:
      result["note"] = "its LSTM in float32, without oneDNN"
    return result

  return measure


def runs_in_bfloat16(lstm):
  """Says whether oneDNN has an LSTM in bfloat16 for this processor."""
  import torch

  try:
    with torch.autocast("cpu", torch.bfloat16):
      lstm(4, 4)(torch.zeros(1, 1, 4))
  except RuntimeError:
    return False
  return True


KINDS = {"train": train, "floor": floor, "pytorch": pytorch}


def main(kind, options, root):
  """Prepares, then measures whenever a line comes."""
  sys.path.insert(0, root)
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
