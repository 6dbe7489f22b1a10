"""Tests of gradients.py."""

import dataclasses

import numpy as np
import pytest

import configs
from lm.base import tf1
from lm.model import gradients, network, softmax

CONFIG = configs.SmallConfig(
  num_steps=5, batch_size=3, hidden_size=7, vocab_size=11, num_layers=1
)
RANDOM = np.random.RandomState(0)
IDS, TARGETS = RANDOM.randint(0, 11, [2, 3, 5]).astype(np.int32)  # [B, T]


def gradients_of(tied=False, num_samples=0, is_linear=False):
  """Returns a model's gradients and their values, by the variables' names.

  The model has a bias in place of the LSTM; if `is_linear`, the cost is the sum
  of its logits.
  """
  config = dataclasses.replace(
    CONFIG, tie_embeddings=tied, num_samples=num_samples
  )
  with tf1.Graph().as_default(), tf1.Session() as session:
    tf1.set_random_seed(1)
    xs = network.embed(config, tf1.constant(IDS))  # [T, B, H]
    rows = tf1.reshape(xs, [-1, 7]) + tf1.get_variable("b", [7])
    if is_linear:
      cost = tf1.reduce_sum(tf1.nn.xw_plus_b(rows, *softmax.variables(config)))
    else:
      seed = tf1.constant([1, 2], tf1.int64) if num_samples else None
      cost = tf1.reduce_sum(
        softmax.model_losses(config, rows, tf1.constant(TARGETS), True, seed)
      )
    tf1.get_variable("of_another_model", [3])
    found, variables = gradients.gradients_of(cost, config)
    names = [variable.op.name for variable in variables]
    session.run(tf1.global_variables_initializer())
    dense = session.run([tf1.convert_to_tensor(g) for g in found])
    weights = session.run(variables)
  return (dict(zip(names, x, strict=True)) for x in (found, dense, weights))


def test_an_embedding_has_a_row_for_each_word_that_is_read():
  found, dense, weights = gradients_of(is_linear=True)
  sparse = [n for n, g in found.items() if isinstance(g, tf1.IndexedSlices)]
  assert sparse == ["embedding"]
  assert found["embedding"].values.shape == (15, 7)
  of_a_word = weights["softmax_w"].sum(axis=1)
  counts = np.bincount(IDS.ravel(), minlength=11)
  np.testing.assert_allclose(
    dense["embedding"], np.outer(counts, of_a_word), rtol=1e-5, atol=1e-6
  )
  np.testing.assert_allclose(dense["b"], 15 * of_a_word, rtol=1e-5)


def test_a_tied_embedding_has_a_dense_gradient():
  """It is the sum of what it gets as an embedding and as softmax_w."""
  found, dense, weights = gradients_of(tied=True, is_linear=True)
  assert list(found) == ["embedding", "b", "softmax_b"]
  assert not any(isinstance(g, tf1.IndexedSlices) for g in found.values())
  embedding = weights["embedding"]
  counts = np.bincount(IDS.ravel(), minlength=11)
  of_rows = (embedding[IDS.ravel()] + weights["b"]).sum(axis=0)
  expected = np.outer(counts, embedding.sum(axis=0)) + of_rows
  np.testing.assert_allclose(dense["embedding"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tied", [False, True])
def test_a_sampled_softmax_has_rows_for_the_words_in_use(tied):
  found, dense, _ = gradients_of(tied, num_samples=4)
  rows = {n: g for n, g in found.items() if isinstance(g, tf1.IndexedSlices)}
  words = {"embedding": 15 + tied * 19, "softmax_w_rows": 19, "softmax_b": 19}
  if tied:
    del words["softmax_w_rows"]
  assert {n: g.values.shape[0] for n, g in rows.items()} == words
  assert found.keys() - rows.keys() == {"b"}
  assert all(np.abs(value).max() > 0 for value in dense.values())


@pytest.mark.parametrize("size", [1023, 1024, 5000])
def test_many_rows_of_a_word_have_one_sum(size):
  random = np.random.RandomState(1)
  ids, values = random.randint(0, 30, size), random.rand(size, 3)
  with tf1.Graph().as_default(), tf1.Session() as session:
    slices = tf1.IndexedSlices(tf1.constant(values), tf1.constant(ids), [30, 3])
    found = gradients.with_distinct_rows(slices)
    dense = session.run(tf1.convert_to_tensor(found))
    indices = session.run(found.indices)
  expected = np.zeros([30, 3])
  np.add.at(expected, ids, values)
  np.testing.assert_allclose(dense, expected, rtol=1e-9)
  assert len(indices) == (size if size < 1024 else len(set(ids)))
  assert gradients.with_distinct_rows("dense") == "dense"
