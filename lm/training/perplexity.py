"""The perplexity of a pass over a text, and the state that it feeds."""

import math

from lm.base.command import InputError


class DivergedError(InputError, ArithmeticError):
  """The loss or its gradient is no longer a finite number."""

  def __init__(self, title, step, size):
    """Says where: in the pass `title`, after `step` of `size` steps."""
    super().__init__(
      f"{title}, step {step} of {size}: the loss is not a finite number, or is "
      "far too large. In training, try a smaller learning_rate, init_scale or "
      "max_grad_norm, or leave out --use_fp16; in evaluation, try another "
      "checkpoint."
    )


def state_feed(initial_state, state):
  """Returns the feed_dict that starts each layer from its (c, h) in `state`."""
  feed = {}
  for (c, h), (c_value, h_value) in zip(initial_state, state, strict=True):
    feed[c], feed[h] = c_value, h_value
  return feed


def perplexity_of(nats):
  """Returns exp of the mean loss per word; infinity beyond a float32's range.

  `nats` is the mean loss per word.
  """
  return math.exp(nats) if nats < 88 else math.inf
