"""Random numbers that depend on a seed and a counter, not on earlier draws."""

import itertools
import math

import numpy as np

from lm.base import tf1


def uniform_initializer(init_scale, seed):
  """Returns an initializer that draws from [-init_scale, init_scale).

  It is like tf.random_uniform_initializer, but without a state: the values of a
  variable depend on the seed, and on the number of variables before it.
  """
  numbers = itertools.count(1)

  def initialize(shape, dtype=None, partition_info=None):
    del partition_info
    # Negative counters cannot collide with the non-negative steps that seed
    # the dropout masks.
    return tf1.random.stateless_uniform(
      shape,
      [seed, -next(numbers)],
      -init_scale,
      init_scale,
      dtype,
      alg="philox",
    )

  return initialize


def dropout_masks(config, seed_and_step, rows=slice(None)):
  """Draws the dropout masks of one training step.

  They depend on the seed and the step alone, so a resumed run draws the same
  masks.

  Args:
    config: a Config.
    seed_and_step: two whole numbers, as numbers or scalar tensors.
    rows: a slice, the rows of the batch whose masks to return.

  Returns:
    L + 1 tensors float32 [T, B, H], of 0 and 1 / keep_prob: the mask of the
    embedded words, then the mask of each layer's outputs.
  """
  shape = [
    config.num_layers + 1,
    config.num_steps,
    config.batch_size,
    config.hidden_size,
  ]
  seed = tf1.stack([tf1.cast(x, tf1.int64) for x in seed_and_step])
  uniform = tf1.random.stateless_uniform(shape, seed, alg="philox")
  masks = tf1.cast(uniform < config.keep_prob, tf1.float32)
  return tf1.unstack(masks[:, :, rows] / config.keep_prob)


def draws_for(num_samples, vocab_size):
  """Returns how many draws surely have num_samples distinct ids.

  It is the smallest of 4, 8, 16, ... times num_samples for which the expected
  number of distinct ids is larger by 8 standard deviations.
  """
  share = np.log1p(1 / np.arange(1, vocab_size + 1)) / np.log(vocab_size + 1)
  draws = 4 * num_samples
  while True:
    probs = -np.expm1(draws * np.log1p(-share))  # That each id is drawn.
    deviation = math.sqrt((probs * (1 - probs)).sum())
    if probs.sum() - 8 * deviation >= num_samples:
      return draws
    draws *= 2


def log_uniform_sample(num_samples, vocab_size, seed):
  """Draws distinct ids with the frequencies of Zipf's law.

  As in TensorFlow's log_uniform_candidate_sampler, each draw has the id n with
  the probability log((n + 2) / (n + 1)) / log(V + 1), and the draws end when
  there are enough distinct ids. That sampler has a state. This sample depends
  on the seed alone, so a resumed run draws the same one.

  Args:
    num_samples: S, the number of distinct ids to draw, less than V.
    vocab_size: V.
    seed: int64 [2].

  Returns:
    (ids, draws): int64 [S]; and the number of draws that it took, a float32
    scalar.
  """
  max_draws = draws_for(num_samples, vocab_size)
  uniform = tf1.random.stateless_uniform(
    [max_draws], seed, dtype=tf1.float64, alg="philox"
  )
  draws = tf1.exp(uniform * math.log(vocab_size + 1)) - 1
  draws = tf1.minimum(tf1.cast(draws, tf1.int64), vocab_size - 1)
  ids, numbers = tf1.unique(draws)  # In the order of the first draw of each.
  # argmax finds the draw that is the first to have the last id.
  is_last = tf1.equal(numbers, num_samples - 1)
  num_draws = 1 + tf1.argmax(tf1.cast(is_last, tf1.int32))
  return ids[:num_samples], tf1.cast(num_draws, tf1.float32)
