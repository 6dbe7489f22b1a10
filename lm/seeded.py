"""Random numbers that depend on a seed and a counter, not on earlier draws."""

import itertools

from lm import tf1


def uniform_initializer(init_scale, seed):
  """Like tf.random_uniform_initializer, but drawn statelessly.

  The values of a variable depend on the seed and on how many were made before.
  """
  drawn = itertools.count(1)

  def initialize(shape, dtype=None, partition_info=None):
    del partition_info
    # Negative counters cannot collide with the non-negative steps that seed
    # the dropout masks.
    return tf1.random.stateless_uniform(
      shape, [seed, -next(drawn)], -init_scale, init_scale, dtype, alg="philox"
    )

  return initialize


def dropout_masks(config, seed_and_step, rows=slice(None)):
  """Draws the dropout masks of one training step.

  The masks of a step depend on the seed and the step alone, so a resumed run
  draws the same.

  Args:
    config: a Config.
    seed_and_step: two whole numbers, or scalar tensors of them.
    rows: the rows of the batch to return the masks of.

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
  kept = tf1.cast(uniform < config.keep_prob, tf1.float32)
  return tf1.unstack(kept[:, :, rows] / config.keep_prob)
