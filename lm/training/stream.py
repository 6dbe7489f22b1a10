"""Reads a text as one stream, to predict each word from all words before it."""

import itertools
import math

import numpy as np

from lm.training.perplexity import DivergedError, perplexity_of, state_feed
from lm.training.reports import Reporter
from lm.workers.workers import ALONE

# How much the states of two readings may differ, relatively and absolutely.
_SAME_STATE = (1e-4, 1e-4)


def stream_perplexity(
  session, model, ids, *, title="", stop=False, workers=ALONE
):
  """Computes a text's perplexity as one stream, many words at a time.

  The result is that of run_epoch with batch_size 1 and num_steps 1, so no tail
  is left out, but each step takes B * T words. The stream is cut into B pieces
  that are read side by side: first from zeros, then each from the state that
  the piece before it ended with, and so on until no state changes. An LSTM
  forgets: whatever state a trained one started from, after some hundred words
  it is in the state of the first reading. The other losses of that reading are
  then final, and the second reading can stop. An LSTM that never forgets needs
  more readings, but at most B, as the n-th makes the n-th piece final.

  Args:
    session: a Session with the model's variables.
    model: a PTBModel for evaluation. Its own input is not read.
    ids: the text, of one dimension, at least two words.
    title: the name of the text.
    stop: checked after each step; if true, the reading ends.
    workers: a OneWorker or Workers; each reads its own rows.

  Returns:
    exp of the mean loss of the len(ids) - 1 targets; None if it was stopped.

  Raises:
    DivergedError: if a loss is not finite or the perplexity too large.
  """
  rows = workers.rows
  batch_size = model.input.batch_size
  pieces = side_by_side(ids, batch_size, model.input.num_steps)
  inputs, targets, is_real = (x[:, rows] for x in pieces)  # Each [steps, B, T].
  size = len(inputs)
  is_used = is_real[0, :, 0]  # [B], the pieces that have a target.
  check_each = size // 100 + 1  # Keeping every state would fill the memory.
  nats = np.zeros(size)  # The loss of each step.
  states = {}  # After a step, at its last reading: [L, 2, pieces in use, H].
  state = np.array(session.run(model.initial_state))
  with Reporter(size, title) as reporter:
    for reading, step in itertools.product(range(batch_size), range(size)):
      if step == 0:
        reporter.bar.reset()
        reporter.bar.set_description(f"{title}, reading {reading + 1}")
        # Each piece starts where the one before it ended, the first from zeros.
        state = np.roll(workers.all_rows(state), 1, axis=2)
        state[:, :, 0] = 0
        state = state[:, :, rows]
      feed = state_feed(model.initial_state, state)
      feed[model.input.input_data] = inputs[step]
      feed[model.input.targets] = targets[step]
      # Workers compute the cost together, and so agree on it and on stopping.
      fetches = [model.final_state, model.losses, model.cost]
      state, losses, cost = workers.run(session, fetches, feed)
      nats[step] = losses.T[is_real[step]].sum(dtype=float)
      if not math.isfinite(cost):
        raise DivergedError(title, step + 1, size)
      reporter.bar.update()
      if stop:
        return None
      if step % check_each == 0 or step == size - 1:
        last, states[step] = states.get(step), np.array(state)[:, :, is_used]
        if last is not None:
          is_final = np.allclose(states[step], last, *_SAME_STATE)
          if all(workers.of_all(is_final)):
            break
  nats = sum(workers.of_all(nats.sum()))
  perplexity = perplexity_of(nats / (len(ids) - 1))
  if math.isinf(perplexity):
    raise DivergedError(title, size, size)
  return perplexity


def side_by_side(ids, batch_size, num_steps):
  """Cuts two or more words into B pieces that are read side by side.

  Returns:
    (x, y, is_real), each [steps, B, T]: the ids, the ids that follow (both
    int32), and whether y is a word of the text. Zeros fill up the last pieces.
  """
  steps = math.ceil((len(ids) - 1) / (batch_size * num_steps))
  shape = [batch_size, steps, num_steps]
  stream = np.zeros(batch_size * steps * num_steps + 1, np.int32)
  stream[: len(ids)] = ids
  is_real = np.arange(1, len(stream)) < len(ids)
  return tuple(
    words.reshape(shape).transpose(1, 0, 2)
    for words in (stream[:-1], stream[1:], is_real)
  )
