"""Tests of softmax.py: in pieces, and from a sample of the words."""

import dataclasses

import numpy as np
import pytest

import configs
from lm.base import tf1
from lm.model import random_draws, softmax

CONFIG = configs.SmallConfig(hidden_size=6, vocab_size=400, num_samples=50)
RANDOM = np.random.RandomState(3)
ROWS = RANDOM.uniform(-1, 1, [9, 6]).astype(np.float32)
SOFTMAX_W = RANDOM.uniform(-1, 1, [400, 6]).astype(np.float32)
SOFTMAX_B = RANDOM.uniform(-1, 1, [400]).astype(np.float32)
TARGETS = np.array([0, 1, 2, 399, 17, 17, 60, 5, 200], np.int32)


@pytest.fixture
def session():
  """A session, and the variables of a model that samples, in its graph."""
  with tf1.Graph().as_default(), tf1.Session() as session:
    tf1.set_random_seed(1)
    for name, value in (
      ("softmax_w_rows", SOFTMAX_W),
      ("softmax_b", SOFTMAX_B),
    ):
      tf1.get_variable(name, initializer=value)
    session.run(tf1.global_variables_initializer())
    tf1.get_variable_scope().reuse_variables()
    yield session


@pytest.mark.parametrize("most", [400, 900, 3000, 10**6])
def test_pieces_give_the_same_losses(session, monkeypatch, most):
  monkeypatch.setattr(softmax, "_MAX_LOGITS", most)
  variables = softmax.variables(CONFIG)
  whole = softmax.losses(tf1.constant(ROWS), *variables, TARGETS)
  pieces = softmax.losses_in_pieces(tf1.constant(ROWS), *variables, TARGETS)
  expected, found = session.run([whole, pieces])
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_sample_is_tensorflows():
  """As often as log_uniform_candidate_sampler draws them, and distinct."""
  with tf1.Graph().as_default(), tf1.Session() as session:
    tf1.set_random_seed(1)
    seed = tf1.placeholder(tf1.int64, [2])
    ids, draws = random_draws.log_uniform_sample(20, 60, seed)
    found = [session.run([ids, draws], {seed: [1, n]}) for n in range(1500)]
    again, _ = session.run([ids, draws], {seed: [1, 7]})
    theirs = tf1.random.log_uniform_candidate_sampler([[0]], 1, 20, True, 60)
    theirs = [session.run(theirs[0]) for _ in range(1500)]
  np.testing.assert_array_equal(again, found[7][0])
  assert any((again != found[8][0]).tolist())
  for sample, made in found:
    assert len(set(sample)) == len(sample) == 20 <= made <= 80
    assert sample.min() >= 0 and sample.max() < 60
  own = np.bincount(np.ravel([sample for sample, _ in found]), minlength=60)
  theirs = np.bincount(np.ravel(theirs), minlength=60)
  np.testing.assert_allclose(own / 1500, theirs / 1500, atol=0.07)
  share = np.log1p(1 / np.arange(1, 61)) / np.log(61)
  expected = np.mean([1 - (1 - share) ** made for _, made in found], axis=0)
  np.testing.assert_allclose(own / 1500, expected, atol=0.05)


@pytest.mark.parametrize(
  ("num_samples", "vocab_size"), [(1, 2), (25, 50), (400, 1000), (500, 1000)]
)
def test_the_sample_is_complete(num_samples, vocab_size):
  """Also if it has half of the words, which takes many draws."""
  with tf1.Graph().as_default(), tf1.Session() as session:
    seed = tf1.placeholder(tf1.int64, [2])
    sample = random_draws.log_uniform_sample(num_samples, vocab_size, seed)
    for step in range(100):
      ids, draws = session.run(sample, {seed: [1, step]})
      assert len(set(ids)) == len(ids) == num_samples <= draws
  assert random_draws.draws_for(1024, 10_000) == 4 * 1024


def test_the_estimate_is_what_numpy_computes(session):
  seed = tf1.constant([5, 6], tf1.int64)
  losses = softmax.sampled_losses(CONFIG, tf1.constant(ROWS), TARGETS, seed)
  sample = random_draws.log_uniform_sample(50, 400, seed)
  found, (ids, draws) = session.run([losses, sample])
  share = np.log1p(1 / np.arange(1, 401)) / np.log(401)
  logits = ROWS @ SOFTMAX_W.T + SOFTMAX_B - np.log(1 - (1 - share) ** draws)
  for row, target, loss in zip(logits, TARGETS, found, strict=True):
    kept = [target, *(i for i in ids if i != target)]
    expected = np.log(np.exp(row[kept]).sum()) - row[target]
    assert loss == pytest.approx(expected, rel=1e-4)


def test_the_gradient_has_rows_for_the_words_in_use(session):
  seed = tf1.constant([5, 6], tf1.int64)
  losses = softmax.sampled_losses(CONFIG, tf1.constant(ROWS), TARGETS, seed)
  for gradient in tf1.gradients(losses, tf1.trainable_variables()):
    assert isinstance(gradient, tf1.IndexedSlices)
    indices = session.run(gradient.indices)
    np.testing.assert_array_equal(indices[:9], TARGETS)
    assert len(indices) == 9 + 50


def test_too_many_samples_are_refused():
  config = dataclasses.replace(CONFIG, num_samples=201)
  with pytest.raises(configs.ConfigError, match="more than half of the 400"):
    config.check_samples()
  config = dataclasses.replace(CONFIG, tie_embeddings=True)
  config.check_samples(1)
  with pytest.raises(configs.ConfigError, match="needs one process"):
    config.check_samples(2)
