"""Tests of the gradients written by hand, against TensorFlow's own."""

import numpy as np
import pytest

from lm.base import tf1
from lm.model import block_layer, softmax

STEPS, BATCH, HIDDEN, VOCAB = 5, 3, 7, 11


def lstm_layer(inputs, *args):
  """Calls lstm_layer with one tensor [T, B, H] in place of a list."""
  outputs, c, h = block_layer.lstm_layer(tf1.unstack(inputs), *args)
  return tf1.stack(outputs), c, h


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
  """Returns the outputs and the gradients of a random mixture of them."""
  random = np.random.RandomState(1)
  with tf1.Graph().as_default(), tf1.Session() as session:
    inputs = [tf1.constant(array, tf1.float32) for array in arrays]
    outputs = function(*inputs, *rest)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    mixture = tf1.add_n(
      [tf1.reduce_sum(y * random.uniform(-1, 1, y.shape)) for y in outputs]
    )
    found = session.run([outputs, tf1.gradients(mixture, inputs)])
  return tf1.nest.flatten(found)


def compare(function, reference, arrays, *rest, least=1e-3):
  """Compares outputs and gradients, of which each must reach `least`."""
  found = evaluate(function, arrays, *rest)
  expected = evaluate(reference, arrays, *rest)
  for value, other in zip(found, expected, strict=True):
    assert np.abs(other).max() >= least
    np.testing.assert_allclose(value, other, rtol=1e-5, atol=1e-6)


def test_lstm_layer_has_tensorflows_gradients():
  """Of the outputs and the last state, with respect to all inputs."""
  random = np.random.RandomState(0)
  shapes = [
    [STEPS, BATCH, HIDDEN],
    [BATCH, HIDDEN],
    [BATCH, HIDDEN],
    [2 * HIDDEN, 4 * HIDDEN],
    [4 * HIDDEN],
  ]
  arrays = [random.uniform(-1, 1, shape) for shape in shapes]
  compare(lstm_layer, lstm_of_single_ops, arrays)


def test_softmax_losses_have_tensorflows_gradients():
  random = np.random.RandomState(0)
  shapes = [[STEPS * BATCH, HIDDEN], [HIDDEN, VOCAB], [VOCAB]]
  arrays = [random.uniform(-2, 2, shape) for shape in shapes]
  targets = random.randint(0, VOCAB, STEPS * BATCH).astype(np.int32)
  compare(softmax.losses, losses_of_tensorflow, arrays, targets)


@pytest.mark.parametrize("size", [1e-3, 90.0, 1e4])
def test_softmax_losses_of_any_size(size):
  """Logits whose exp overflows a float32; losses near 0 and far from it."""
  arrays = [[[size], [size]], [[-1.0, 0.0, 1.0]], np.zeros(3)]
  targets = np.array([0, 2], np.int32)
  compare(softmax.losses, losses_of_tensorflow, arrays, targets, least=0)


@pytest.mark.parametrize("base", [0.0, 1000.0])
def test_a_nearly_certain_word_keeps_its_digits(base):
  """Its loss and its gradient are as exact as those of the others."""
  logits = base + np.array([13, 0, 0, 0, 0])
  arrays = [np.ones([1, 1]), np.zeros([1, 5]), logits]
  loss, _, _, d_logits = evaluate(softmax.losses, arrays, np.int32([0]))
  others = 4 / (4 + np.exp(13))
  assert loss[0] == pytest.approx(-np.log1p(-others), rel=0.02)
  assert d_logits[0] / -d_logits[1:].sum() == pytest.approx(1, rel=0.02)
