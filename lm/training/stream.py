"""Reads a text as one stream, to predict each word from all words before it."""

import math

import numpy as np

from lm.base import device
from lm.training.perplexity import DivergedError, perplexity_of, state_feed
from lm.training.reports import Reporter
from lm.workers.workers import ALONE

# States that differ by no more than this, relatively and absolutely, are equal.
_SAME_STATE = (1e-4, 1e-4)


def cut(ids, batch_size, num_steps):
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


def find_starts(read, starts_of, is_same, steps, pieces, stop=False):
  """Finds the states in which the pieces of a stream start.

  The first reading starts each piece from zeros. The next one starts each piece
  from the state in which the piece before it ended, and so on until no state
  changes. A trained LSTM forgets: after some hundred words it is in the same
  state, whatever state it started from. The second reading then ends early. An
  LSTM that never forgets needs more readings, at most one for each piece but
  the last: the n-th reading makes the end of the n-th piece final.

  Args:
    read: a function of a step and the state before it that returns the state
      after it.
    starts_of: a function of the state at the end of a reading that returns the
      state in which the next one starts; of None, that of the first one.
    is_same: a function that compares the states of two readings after a step.
    steps: the number of steps of a piece.
    pieces: the number of pieces.
    stop: checked after each step; if true, the reading ends.

  Returns:
    What starts_of returned last; None if it was stopped.
  """
  states = {}  # After a step, in the last reading.
  check_each = steps // 100 + 1  # Keeping every state would fill the memory.
  starts = starts_of(None)
  for _ in range(pieces - 1):
    state = starts
    for step in range(steps):
      state = read(step, state)
      if stop:
        return None
      if step % check_each == 0 or step == steps - 1:
        last, states[step] = states.get(step), state
        if last is not None and is_same(last, state):
          return starts
    starts = starts_of(state)
  return starts


def are_close(state, other):
  """Returns whether two states, arrays of one shape, count as equal."""
  return np.allclose(state, other, *_SAME_STATE)


def stream_perplexity(
  session, model, ids, *, title="", stop=False, workers=ALONE
):
  """Computes a text's perplexity as one stream, many words at a time.

  The result is that of run_epoch with batch_size 1 and num_steps 1, so no tail
  is left out, but each step reads B * T words.

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
  batch_size = model.input.batch_size
  pieces = cut(ids, batch_size, model.input.num_steps)
  # Each [steps, B, T], where B are the rows of this process.
  inputs, targets, is_real = (x[:, workers.rows] for x in pieces)
  is_used = is_real[0, :, 0]  # [B], the pieces that have a target.
  size = len(inputs)

  def feed_of(step, state):
    if step == 0:
      reporter.start_again()
    reporter.bar.update()
    feed = state_feed(model.initial_state, state)
    feed[model.input.input_data] = inputs[step]
    feed[model.input.targets] = targets[step]
    return feed

  def read(step, state):
    return workers.run(session, model.final_state, feed_of(step, state))

  def starts_of(ends):
    if ends is None:
      return session.run(model.initial_state)
    starts = np.roll(workers.gather_rows(np.array(ends)), 1, axis=2)
    starts[:, :, 0] = 0
    return starts[:, :, workers.rows]  # [L, 2, B, H]

  def is_same(*states):
    states = [np.array(state)[:, :, is_used] for state in states]
    return all(workers.gather(are_close(*states)))

  with Reporter(size, title) as reporter, device.products_in(model.dtype):
    state = find_starts(read, starts_of, is_same, size, batch_size, stop)
    if state is None:
      return None
    nats = 0.0
    for step in range(size):
      # Workers compute the cost together, and so agree on it and on stopping.
      fetches = [model.final_state, model.losses, model.cost]
      state, losses, cost = workers.run(session, fetches, feed_of(step, state))
      nats += losses.T[is_real[step]].sum(dtype=float)
      if not math.isfinite(cost):
        raise DivergedError(title, step + 1, size)
      if stop:
        return None
  perplexity = perplexity_of(sum(workers.gather(nats)) / (len(ids) - 1))
  if math.isinf(perplexity):
    raise DivergedError(title, size, size)
  return perplexity
