"""The loss: the softmax over all words or, in training, over a sample.

Dimensions: N = rows, one for each word to predict, H = hidden_size,
V = vocab_size, S = sampled words.
"""

import math

from lm.base import tf1
from lm.model.gradients import custom_gradient
from lm.model.random_draws import log_uniform_sample

# The tutorial has softmax_w, [H, V]. Models that sample words in training have
# its transpose, [V, H], under this name.
SOFTMAX_ROWS = "softmax_w_rows"
# The number of logits that are computed at once where no gradient needs them.
# They have 28 MB. Blocks of 32 MB or more are slow: C's malloc asks the system
# for them each time.
_MAX_LOGITS = 7_000_000


def max_rows(vocab_size):
  """Returns the number of words whose logits are computed at once."""
  return max(_MAX_LOGITS // vocab_size, 1)


def in_pieces(function, tensors, vocab_size, dtypes):
  """Calls a function with some rows at a time, so that it needs little memory.

  Args:
    function: a function of a list of tensors [width, ...] that returns a tensor
      [width], or a tuple of them.
    tensors: the tensors of all rows, a list of [N, ...].
    vocab_size: V, as the function makes tensors [width, V].
    dtypes: the type of the function's result, or a tuple of types.

  Returns:
    What the function would return for all rows: a tensor [N], or a tuple.
  """
  tensors = [tf1.convert_to_tensor(rows) for rows in tensors]
  size = tf1.shape(tensors[0])[0]
  number = -(-tf1.maximum(size, 1) // max_rows(vocab_size))  # Rounded up.
  width = -(-size // number)

  def cut(rows):
    """Cuts [N, ...] into [number, width, ...], with zeros at the end."""
    shape = rows.shape.as_list()[1:]
    padding = [[0, number * width - size], *[[0, 0] for _ in shape]]
    rows = tf1.pad(rows, padding)
    return tf1.reshape(rows, [number, width, *shape])

  results = tf1.map_fn(
    function,
    [cut(rows) for rows in tensors],
    fn_output_signature=dtypes,
    parallel_iterations=1,
  )
  return tf1.nest.map_structure(lambda x: tf1.reshape(x, [-1])[:size], results)


def model_losses(config, rows, targets, is_training, sample_seed=None):
  """Computes the loss of each target, given the outputs of the last layer.

  Training minimizes these losses, and the valid perplexity is also computed
  from them. To change the loss of training alone, check is_training. If you
  change `losses`, also change its gradient, which is written by hand.

  Args:
    config: a Config.
    rows: [T * B, H], the outputs of the last layer.
    targets: int32 [B, T], the words to predict.
    is_training: whether a gradient will be computed.
    sample_seed: int64 [2], to estimate the losses from a sample of the
      vocabulary; None to compute them.

  Returns:
    The cross-entropies in nats, float32 [T, B].
  """
  labels = tf1.reshape(tf1.transpose(targets), [-1])  # [T * B]
  if sample_seed is not None:
    nats = sampled_losses(config, rows, labels, sample_seed)
  else:
    compute = losses if is_training else losses_in_pieces
    weights = [tf1.cast(v, rows.dtype) for v in variables(config)]
    nats = compute(rows, *weights, labels)
  return tf1.reshape(nats, [config.num_steps, -1])


def variables(config):
  """Returns softmax_w [H, V] and softmax_b [V], from the variable scope."""
  if config.tie_embeddings or config.num_samples:
    return tf1.transpose(_rows_variable(config)), _bias(config)
  size = [config.hidden_size, config.vocab_size]
  return tf1.get_variable("softmax_w", size, tf1.float32), _bias(config)


def _rows_variable(config):
  """Returns the variable [V, H] of which softmax_w is the transpose."""
  size = [config.vocab_size, config.hidden_size]
  if not config.tie_embeddings:  # The model samples words.
    return tf1.get_variable(SOFTMAX_ROWS, size, tf1.float32)
  with tf1.variable_scope(tf1.get_variable_scope(), reuse=True):
    # Press and Wolf 2016, arXiv:1608.05859, section 3.
    return tf1.get_variable("embedding", size, tf1.float32)


def _bias(config):
  return tf1.get_variable("softmax_b", [config.vocab_size], tf1.float32)


def losses_in_pieces(rows, softmax_w, softmax_b, targets):
  """Computes `losses` in bounded memory. It has no gradient.

  The number of rows, N, must be known when the graph is built.
  """
  (vocab_size,) = softmax_b.shape.as_list()
  if rows.shape.as_list()[0] <= max_rows(vocab_size):
    return losses(rows, softmax_w, softmax_b, targets)
  return in_pieces(
    lambda piece: losses(piece[0], softmax_w, softmax_b, piece[1]),
    [rows, targets],
    vocab_size,
    tf1.float32,
  )


def losses(rows, softmax_w, softmax_b, targets):
  """Computes the cross-entropy of the softmax of rows softmax_w + softmax_b.

  The logits [N, V] are the largest tensors of a step, so each pass over them
  costs time.

    loss     = log(sum of exp(logits)) - logits[target]
    d_logits = d_loss * (softmax - one_hot(target))

  The largest probability is exp(largest logit) / sum. It is at least 1 / V, so
  it does not underflow, and log(sum) = largest logit - log(largest
  probability). The softmax and two maxima need less time than TensorFlow's exp
  and sum would. In the gradient, d_loss multiplies the small factors of the
  products instead of d_logits.

  Args:
    rows: [N, H].
    softmax_w: [H, V], of the same type.
    softmax_b: [V], of the same type.
    targets: int32 [N].

  Returns:
    The losses in nats, float32 [N].
  """
  indices = tf1.stack([tf1.range(tf1.size(targets)), targets], axis=1)  # [N, 2]

  @custom_gradient
  def compute(rows, softmax_w, softmax_b):
    logits = tf1.nn.xw_plus_b(rows, softmax_w, softmax_b)  # [N, V]
    logits = tf1.cast(logits, tf1.float32)
    probabilities = tf1.nn.softmax(logits)  # [N, V]
    largest = tf1.reduce_max(logits, axis=1)  # [N]
    # In this order, no digits are lost where the target is nearly certain.
    distances = largest - tf1.gather_nd(logits, indices)  # [N]
    losses = distances - tf1.log(tf1.reduce_max(probabilities, axis=1))

    def gradient(d_losses):
      factors = tf1.cast(d_losses, rows.dtype)[:, tf1.newaxis]  # [N, 1]
      # At the targets, softmax - 1. If a word is nearly certain, the softmax is
      # rounded to 1; the loss has the digits.
      d_targets = tf1.cast(tf1.expm1(-losses), rows.dtype)  # [N]
      d_logits = tf1.tensor_scatter_nd_update(
        tf1.cast(probabilities, rows.dtype), indices, d_targets
      )  # [N, V], still without the factors.
      d_rows = factors * tf1.matmul(d_logits, softmax_w, transpose_b=True)
      d_w = tf1.matmul(factors * rows, d_logits, transpose_a=True)  # [H, V]
      d_b = tf1.matmul(factors, d_logits, transpose_a=True)[0]  # [V]
      return d_rows, d_w, d_b

    return [losses], gradient

  return compute(rows, softmax_w, softmax_b)[0]


def log_probs(logits):
  """Computes tf.nn.log_softmax of logits [N, V], but faster.

  The results are exact to about 1e-6 times the largest logit.
  """
  largest = tf1.reduce_max(logits, axis=1, keepdims=True)  # [N, 1]
  shares = tf1.reduce_max(tf1.nn.softmax(logits), axis=1, keepdims=True)
  return logits - (largest - tf1.log(shares))


def sampled_losses(config, rows, targets, seed):
  """Estimates the losses from a sample of the words.

  The target and num_samples distinct words, the same for all rows, give an
  estimate of the sum over the vocabulary (Jean et al. 2015, arXiv:1412.2007,
  section 3). Words with small ids are drawn more often, so ids must be in the
  order of frequency. A word's weights are a row of their variable, so the
  gradient has only the rows of the words in use.

  Args:
    config: a Config with num_samples above 0.
    rows: [N, H].
    targets: int32 [N].
    seed: int64 [2]. The same seed draws the same sample.

  Returns:
    The losses in nats, float32 [N].
  """
  vocab_size = config.vocab_size
  samples, draws = log_uniform_sample(config.num_samples, vocab_size, seed)

  def expected_count(ids):
    """Returns the probability that the draws contain these ids."""
    ids = tf1.cast(ids, tf1.float32)
    share = tf1.log1p(1 / (ids + 1)) / math.log(vocab_size + 1)
    return -tf1.expm1(draws * tf1.log1p(-share))

  labels = tf1.cast(targets, tf1.int64)[:, tf1.newaxis]  # [N, 1]
  return tf1.nn.sampled_softmax_loss(
    weights=_rows_variable(config),
    biases=_bias(config),
    labels=labels,
    inputs=tf1.cast(rows, tf1.float32),
    num_sampled=config.num_samples,
    num_classes=vocab_size,
    sampled_values=(samples, expected_count(labels), expected_count(samples)),
  )
