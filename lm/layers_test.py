"""Tests of the gradients written by hand, against TensorFlow's own."""

import numpy as np
import pytest

from lm import layers, tf1

STEPS, BATCH, HIDDEN, VOCAB = 5, 3, 7, 11


def lstm_of_single_ops(inputs, c, h, kernel, bias):
  """The equations of lstm_layer, left to TensorFlow to differentiate."""
  outputs = []
  for x in tf1.unstack(inputs):
    z = tf1.matmul(tf1.concat([x, h], 1), kernel) + bias
    i, j, f, o = tf1.split(z, 4, axis=1)
    c = tf1.sigmoid(f) * c + tf1.sigmoid(i) * tf1.tanh(j)
    h = tf1.sigmoid(o) * tf1.tanh(c)
    outputs.append(h)
  return tf1.stack(outputs), c, h


def losses_of_tensorflow(rows, w, b, targets):
  logits = tf1.matmul(rows, w) + b
  return tf1.nn.sparse_softmax_cross_entropy_with_logits(
    labels=targets, logits=logits
  )


def evaluate(function, arrays, *rest):
  """Returns the outputs, and the gradients of a random mixture of them."""
  random = np.random.RandomState(1)
  with tf1.Graph().as_default(), tf1.Session() as session:
    inputs = [tf1.constant(array, tf1.float32) for array in arrays]
    outputs = function(*inputs, *rest)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    mixture = tf1.add_n(
      [tf1.reduce_sum(y * random.uniform(-1, 1, y.shape)) for y in outputs]
    )
    return session.run([outputs, tf1.gradients(mixture, inputs)])


def compare(found, expected):
  for values, others in zip(found, expected, strict=True):
    for value, other in zip(values, others, strict=True):
      assert np.abs(other).max() > 1e-3
      np.testing.assert_allclose(value, other, rtol=1e-5, atol=1e-6)


def test_lstm_layer_has_tensorflows_gradients():
  """Of outputs and of the last state, with respect to all that goes in."""
  random = np.random.RandomState(0)
  shapes = [
    [STEPS, BATCH, HIDDEN],
    [BATCH, HIDDEN],
    [BATCH, HIDDEN],
    [2 * HIDDEN, 4 * HIDDEN],
    [4 * HIDDEN],
  ]
  arrays = [random.uniform(-1, 1, shape) for shape in shapes]
  compare(
    evaluate(layers.lstm_layer, arrays), evaluate(lstm_of_single_ops, arrays)
  )


def test_softmax_losses_have_tensorflows_gradients():
  random = np.random.RandomState(0)
  shapes = [[STEPS * BATCH, HIDDEN], [HIDDEN, VOCAB], [VOCAB]]
  arrays = [random.uniform(-2, 2, shape) for shape in shapes]
  targets = random.randint(0, VOCAB, STEPS * BATCH).astype(np.int32)
  compare(
    evaluate(layers.softmax_losses, arrays, targets),
    evaluate(losses_of_tensorflow, arrays, targets),
  )


@pytest.mark.parametrize("size", [1e-3, 90.0, 1e4])
def test_softmax_losses_of_any_size(size):
  """Logits whose exp no float32 holds; a loss near 0, and far from it."""
  rows = np.array([[size], [size]])
  w, b = np.array([[-1.0, 0.0, 1.0]]), np.zeros(3)
  targets = np.array([0, 2], np.int32)
  compare_to = evaluate(losses_of_tensorflow, [rows, w, b], targets)
  found = evaluate(layers.softmax_losses, [rows, w, b], targets)
  for values, others in zip(found, compare_to, strict=True):
    for value, other in zip(values, others, strict=True):
      np.testing.assert_allclose(value, other, rtol=1e-5, atol=1e-6)
