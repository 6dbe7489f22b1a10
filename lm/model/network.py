"""The network from words to the inputs of the softmax.

Dimensions in the comments: B = batch_size, T = num_steps, H = hidden_size,
V = vocab_size, L = num_layers. Tensors are time-major, [T, B, ...].
"""

from lm.base import tf1
from lm.model.config import ConfigError
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


def kept_states(config, ids, eos):
  """Returns factors of the state before each word, which by_sentence needs.

  Args:
    config: a Config.
    ids: int32 [B, T].
    eos: the id of <eos>, or None.

  Returns:
    float32 [T, B, 1]: 0 before <eos>, where the state returns to zeros, and 1
    elsewhere; None unless the config has by_sentence.

  Raises:
    ConfigError: if the config has by_sentence, and eos is None.
  """
  if not config.by_sentence:
    return None
  if eos is None:
    raise ConfigError(
      "by_sentence=true needs the id of <eos>, the end of a line: pass it to "
      "PTBInput as eos."
    )
  is_kept = tf1.not_equal(tf1.transpose(ids), eos)
  return tf1.cast(is_kept, tf1.float32)[..., tf1.newaxis]


def unrolled_layers(config, xs, state, masks, dtype, kept=None):
  """Runs the LSTM layers over T steps, as training does.

  Args:
    config: a Config.
    xs: float32 [T, B, H], the embedded words.
    state: a pair (c, h) for each layer, each float32 [B, H].
    masks: L + 1 dropout masks [T, B, H], for the embedded words and for each
      layer's outputs; all are None without dropout.
    dtype: the type of the matrix products.
    kept: what `kept_states` returns.

  Returns:
    (rows, state): the outputs of the last layer, [T * B, H] of type dtype; and
    the state after the last step, like `state`.
  """
  final_state = []
  # [T, B, H]; after a layer, this or a list of T tensors [B, H].
  xs = tf1.cast(dropout(xs, masks[0]), dtype)
  scope = tf1.get_variable_scope()
  with tf1.variable_scope(scope, custom_getter=_cast_once(dtype)):
    for number, (c, h) in enumerate(state):
      layer_scope = CELL_SCOPE.format(number)
      xs, c, h = _unrolled_layer(config, xs, c, h, kept, layer_scope)
      xs = dropout(xs, masks[number + 1])
      final_state.append(tf1.rnn_cell.LSTMStateTuple(c, h))
  rows = tf1.reshape(stacked(xs), [-1, config.hidden_size])
  return rows, tuple(final_state)


def _unrolled_layer(config, xs, c, h, kept, scope):
  """Runs one layer in a variable scope; returns (outputs, c, h).

  With `kept`, each step is a call of its own, so that the state can return to
  zeros between two steps. Gradients do not pass the zeros either.
  """
  if kept is None:
    with tf1.variable_scope(scope):
      return RNN_MODES[config.rnn_mode](xs, c, h, config.forget_bias)
  layer, outputs = single_step(config.rnn_mode), []
  for x, k in zip(unstacked(xs), tf1.unstack(kept), strict=True):
    with tf1.variable_scope(scope, reuse=tf1.AUTO_REUSE):
      ys, c, h = layer([x], c * k, h * k, config.forget_bias)
    outputs += unstacked(ys)
  return outputs, c, h


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


def layers_in_a_loop(config, xs, lengths, state, kept=None):
  """Runs the LSTM layers over any number T of steps, to use a trained model.

  Args:
    config: a Config.
    xs: float32 [T, B, H], the embedded words.
    lengths: int32 [B], how many of the T words of each row to read.
    state: a pair (c, h) for each layer, each float32 [B, H].
    kept: what `kept_states` returns.

  Returns:
    (xs, state): the outputs of the last layer, float32 [T, B, H]; and the
    state after the last word of each row, like `state`.
  """
  final_state = []
  for number, (c, h) in enumerate(state):
    xs, pair = tf1.nn.dynamic_rnn(
      _Cell(config),
      xs if kept is None else (xs, kept),
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
    if isinstance(x, tuple):
      x, kept = x  # [B, H] and [B, 1]
      state = [tensor * kept for tensor in state]
    layer = single_step(self._config.rnn_mode)
    xs, c, h = layer([x], *state, self._config.forget_bias)
    (x,) = unstacked(xs)
    return x, tf1.rnn_cell.LSTMStateTuple(c, h)

  def zero_state(self, batch_size, dtype):
    """dynamic_rnn checks that this method exists, but does not call it."""
    raise NotImplementedError
