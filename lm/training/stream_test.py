"""Tests of stream.py: many words at a time give what word after word does."""

import dataclasses
import math

import numpy as np
import pytest

from lm.testdata import lstm_numpy
from lm.training import stream
from lm.training.perplexity import DivergedError
from ptb_word_lm_test import IDS, ODD, session_of, set_weights

CONFIG = dataclasses.replace(ODD, init_scale=1.0)


@pytest.fixture(scope="module")
def evaluated():
  """(session, model, weights) of a model for evaluation."""
  with session_of(CONFIG, is_training=False) as found:
    yield found


def word_after_word(weights, ids):
  """Returns the perplexity that numpy computes from a batch of one row."""
  state = [(np.zeros([1, ODD.hidden_size]),) * 2] * ODD.num_layers
  ids = ids[np.newaxis]
  nats, *_ = lstm_numpy.forward(weights, ids[:, :-1], ids[:, 1:], state)
  return math.exp(nats / (ids.size - 1))


@pytest.mark.parametrize("count", [2, 7, 16, 17, 91, 92])
def test_perplexity_equals_that_of_word_after_word(evaluated, count):
  session, model, weights = evaluated
  perplexity = stream.stream_perplexity(session, model, IDS[:count])
  expected = word_after_word(weights, IDS[:count])
  assert perplexity == pytest.approx(expected, rel=1e-5)


class Counter:
  """A session that counts its calls of `run`."""

  def __init__(self, session):
    self._session, self.calls = session, 0

  def run(self, *args):
    self.calls += 1
    return self._session.run(*args)


def test_a_model_that_never_forgets_needs_more_readings(evaluated):
  session, model, weights = evaluated
  ids = np.tile(IDS, 12)[:1100]  # 74 batches, in 3 pieces.
  other = {name: values * 0.3 for name, values in weights.items()}
  for name, values in other.items():
    if name.endswith("bias"):
      values[2 * ODD.hidden_size : 3 * ODD.hidden_size] = 20  # Of f.
  set_weights(session, other)
  counter = Counter(session)
  perplexity = stream.stream_perplexity(counter, model, ids)
  set_weights(session, weights)
  assert perplexity == pytest.approx(word_after_word(other, ids), rel=1e-5)
  # Zeros, two readings for the two starts, and one for the losses.
  assert counter.calls == 1 + 3 * 74


def test_the_second_reading_of_a_model_that_forgets_is_short(evaluated):
  session, model, _ = evaluated
  counter = Counter(session)
  stream.stream_perplexity(counter, model, np.tile(IDS, 40))  # 248 batches.
  assert 2 * 248 < counter.calls < 2 * 248 + 20


def test_it_stops(evaluated):
  assert stream.stream_perplexity(*evaluated[:2], IDS, stop=True) is None


def test_it_reports_a_loss_that_is_no_number(evaluated):
  session, model, weights = evaluated
  set_weights(session, {"Model/softmax_b": np.full(ODD.vocab_size, np.nan)})
  with pytest.raises(DivergedError, match=r"^Test, step 1 of 7"):
    stream.stream_perplexity(session, model, IDS, title="Test")
  set_weights(session, weights)


@pytest.mark.parametrize("count", [2, 6, 7, 8, 12, 13, 14, 25])
def test_cut_has_each_target_once(count):
  ids = np.arange(100, 100 + count, dtype=np.int32)
  x, y, is_real = stream.cut(ids, batch_size=3, num_steps=2)
  steps = math.ceil((count - 1) / 6)
  assert x.shape == y.shape == is_real.shape == (steps, 3, 2)
  x, y, is_real = (a.transpose(1, 0, 2).ravel() for a in (x, y, is_real))
  np.testing.assert_array_equal(x[is_real], ids[:-1])
  np.testing.assert_array_equal(y[is_real], ids[1:])
  assert x.dtype == y.dtype == np.int32
