"""The network from words to the inputs of the softmax.

Dimensions in the comments: B = batch_size, T = num_steps, H = hidden_size,
V = vocab_size, L = num_layers. Tensors are time-major, [T, B, ...].
"""

from lm.base import tf1
from lm.model.rnn_modes import (
  CELL_SCOPE,
  RNN_MODES,
  single_step,
  stacked,
  unstacked,
)


def embed(config, ids):
  """Looks up the embeddings of ids [B, T]; returns them as [T, B, H]."""
  embedding = tf1.get_variable(
    "embedding", [config.vocab_size, config.hidden_size], tf1.float32
  )
  return tf1.nn.embedding_lookup(embedding, tf1.transpose(ids))


def unrolled_layers(config, xs, state, masks, dtype):
  """Runs the LSTM layers over T steps, as training does.

  Args:
    config: a Config.
    xs: float32 [T, B, H], the embedded words.
    state: a pair (c, h) for each layer, each float32 [B, H].
    masks: L + 1 dropout masks [T, B, H], for the embedded words and for each
      layer's outputs; all are None without dropout.
    dtype: the type of the products.

  Returns:
    (rows, state): the outputs of the last layer, [T * B, H] of this type; and
    the state after the last step, like `state`.
  """
  layer, final_state = RNN_MODES[config.rnn_mode], []
  # [T, B, H]. After a layer it is that, or a list of T tensors [B, H].
  xs = tf1.cast(dropout(xs, masks[0]), dtype)
  scope = tf1.get_variable_scope()
  with tf1.variable_scope(scope, custom_getter=_cast_once(dtype)):
    for number, (c, h) in enumerate(state):
      with tf1.variable_scope(CELL_SCOPE.format(number)):
        xs, c, h = layer(xs, c, h, config.forget_bias)
      xs = dropout(xs, masks[number + 1])
      final_state.append(tf1.rnn_cell.LSTMStateTuple(c, h))
  rows = tf1.reshape(stacked(xs), [-1, config.hidden_size])
  return rows, tuple(final_state)


def dropout(xs, mask):
  """Multiplies xs by a dropout mask [T, B, H], unless the mask is None.

  xs is one tensor [T, B, H] or a list of T tensors [B, H]. So is the result.
  """
  if mask is None:
    return xs
  if not isinstance(xs, list):
    return xs * tf1.cast(mask, xs.dtype)
  mask = tf1.unstack(mask)
  return [x * tf1.cast(m, x.dtype) for x, m in zip(xs, mask, strict=True)]


def _cast_once(dtype):
  """Returns a custom_getter that reads float32 variables as `dtype`.

  It reads and casts each variable once, not in each of the T steps.
  """

  def get(getter, *args, **kwargs):
    kwargs["dtype"] = tf1.float32
    return tf1.cast(getter(*args, **kwargs).read_value(), dtype)

  return get


def layers_in_a_loop(config, xs, lengths, state):
  """Runs the LSTM layers over any number T of steps, to use a trained model.

  Args:
    config: a Config.
    xs: float32 [T, B, H], the embedded words.
    lengths: int32 [B], how many of the T words of each row to read.
    state: a pair (c, h) for each layer, each float32 [B, H].

  Returns:
    (xs, state): the outputs of the last layer, float32 [T, B, H]; and the
    state after the last word of each row, like `state`.
  """
  final_state = []
  for number, (c, h) in enumerate(state):
    xs, pair = tf1.nn.dynamic_rnn(
      _Cell(config),
      xs,
      lengths,
      tf1.rnn_cell.LSTMStateTuple(c, h),
      time_major=True,
      scope=CELL_SCOPE.format(number),
    )
    final_state.append(pair)
  return xs, tuple(final_state)


class _Cell:
  """One step of a layer, as the RNN cell that dynamic_rnn needs."""

  def __init__(self, config):
    self._config = config
    self.output_size = config.hidden_size
    sizes = [config.hidden_size, config.hidden_size]
    self.state_size = tf1.rnn_cell.LSTMStateTuple(*sizes)

  def __call__(self, x, state):
    layer = single_step(self._config.rnn_mode)
    xs, c, h = layer([x], *state, self._config.forget_bias)
    (x,) = unstacked(xs)
    return x, tf1.rnn_cell.LSTMStateTuple(c, h)

  def zero_state(self, batch_size, dtype):
    """dynamic_rnn checks that this method exists, but does not call it."""
    raise NotImplementedError
