"""What every pass over a text needs: the kept state and the perplexity."""

import math

import numpy as np

from lm import device, tf1
from lm.command import InputError

_MOST_STEPS = 10  # Steps after which Python looks at the costs, at the latest.


class DivergedError(InputError, ArithmeticError):
  """The loss or its gradient is no longer a finite number."""

  def __init__(self, title, step, size):
    """Says where: in the pass `title`, after `step` of `size` steps."""
    super().__init__(
      f"{title}, step {step} of {size}: the loss is not a finite number, or "
      "far too large. To train, try a smaller learning_rate, init_scale or "
      "max_grad_norm; to evaluate, another checkpoint."
    )


def steps_per_look():
  """Returns after how many steps of a pass Python looks at their costs.

  A GPU has to wait for that. A CPU loses next to no time.
  """
  return _MOST_STEPS if device.has_gpu() else 1


class Kept:
  """What a pass keeps on the device between steps: the LSTM's state, the costs.

  It is in variables, so that a step needs nothing but the number of its batch.
  They are not part of a checkpoint, and `start` initializes them.

  Attributes:
    initial_state: a tuple with a pair (c, h) for each layer, each float32
      [B, H]: what is kept; zeros if nothing was kept yet; what is fed, if so.
    step: an operation that keeps a step's final state and its cost.
    look: two tensors to fetch together with `step`: the costs and the
      gradient's norms of the last steps, float32 [10, 2], the newest at the
      end; and the final state, float32 [L, 2, B, H].
  """

  def __init__(self, num_layers, batch_size, hidden_size):
    """Adds the variables and the initial state to the default graph."""
    shape = [num_layers, 2, batch_size, hidden_size]
    local = {"trainable": False, "collections": [tf1.GraphKeys.LOCAL_VARIABLES]}
    zeros = tf1.zeros(shape)
    self._state = tf1.Variable(zeros, name="kept_state", **local)
    no_costs = tf1.zeros([_MOST_STEPS, 2])
    self._costs = tf1.Variable(no_costs, name="kept_costs", **local)
    self._fed = tf1.placeholder(tf1.float32, shape, "state_to_keep")
    self._start = tf1.group(
      self._state.assign(self._fed), self._costs.assign(no_costs)
    )
    state = tf1.cond(
      self._state.is_initialized(), self._state.read_value, lambda: zeros
    )
    parts = tf1.unstack(tf1.reshape(state, [-1, *shape[2:]]))  # c, h, c, h, ...
    pairs = zip(parts[::2], parts[1::2], strict=True)
    self.initial_state = tuple(
      tf1.nn.rnn_cell.LSTMStateTuple(c, h) for c, h in pairs
    )

  def add_step(self, final_state, cost, grad_norm):
    """Adds `step` and `look` to the graph, given a step's results."""
    state = tf1.stack([tf1.stack(pair) for pair in final_state])
    costs = tf1.concat([self._costs[1:], [[cost, grad_norm]]], axis=0)
    self.step = tf1.group(self._state.assign(state), self._costs.assign(costs))
    self.look = costs, state

  def start(self, session, state=None):
    """Starts a pass from a state, [L, 2, B, H]; None: from zeros."""
    if state is None:
      state = np.zeros(self._fed.shape)
    session.run(self._start, {self._fed: state})


def state_feed(initial_state, state):
  """Returns the feed_dict that starts each layer from its (c, h) in `state`."""
  feed = {}
  for (c, h), (c_value, h_value) in zip(initial_state, state, strict=True):
    feed[c], feed[h] = c_value, h_value
  return feed


def perplexity_of(nats):
  """Returns exp of the mean loss a word; infinity if no float32 can hold it."""
  return math.exp(nats) if nats < 88 else math.inf
