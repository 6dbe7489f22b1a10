"""Tests of cudnn_layer.py: the packing anywhere, the operation on a GPU."""

import numpy as np
import pytest

from lm.base import device, tf1
from lm.model import cudnn_layer
from lm.testdata import cudnn_on_cpu

STEPS, BATCH, HIDDEN = 5, 3, 4


def test_packing_against_numpy():
  """Each weight is at its place, and gets the gradient of this place."""
  kernel = np.arange(2 * HIDDEN * 4 * HIDDEN).reshape(2 * HIDDEN, 4 * HIDDEN)
  bias = -1 - np.arange(4 * HIDDEN)
  gates = dict(zip("ijfo", np.split(kernel, 4, axis=1), strict=True))
  biases = dict(zip("ijfo", np.split(bias, 4), strict=True))
  expected = [
    *(gates[gate][:HIDDEN].T.ravel() for gate in "ifjo"),
    *(gates[gate][HIDDEN:].T.ravel() for gate in "ifjo"),
    *(biases[gate] for gate in "ifjo"),
    np.zeros(4 * HIDDEN),
  ]
  expected = np.concatenate(expected)
  with tf1.Graph().as_default(), tf1.Session() as session:
    weights = [tf1.constant(w, tf1.float32) for w in (kernel, bias)]
    packed = cudnn_layer.pack_weights(*weights)
    assert packed.shape == [8 * HIDDEN * HIDDEN + 8 * HIDDEN]
    # The gradient of half the sum of squares is each weight itself.
    gradients = tf1.gradients(tf1.reduce_sum(tf1.square(packed)) / 2, weights)
    found, gradients = session.run([packed, gradients])
  np.testing.assert_array_equal(found, expected)
  np.testing.assert_array_equal(gradients[0], kernel)
  np.testing.assert_array_equal(gradients[1], bias)


@pytest.mark.parametrize(
  ("dtype", "tolerance"), [("float32", 1e-5), ("float16", 1e-2)]
)
def test_the_operation_computes_what_its_stand_in_does(
  gpu, monkeypatch, dtype, tolerance
):
  """Outputs, states and all gradients; the other tests rely on the stand-in."""
  random = np.random.RandomState(0)
  shapes = [STEPS, BATCH, HIDDEN], [BATCH, HIDDEN], [BATCH, HIDDEN]
  shapes += [2 * HIDDEN, 4 * HIDDEN], [4 * HIDDEN]
  arrays = [random.uniform(-1, 1, shape) for shape in shapes]
  factors = random.uniform(-1, 1, [STEPS, BATCH, HIDDEN])

  def compute():
    with tf1.Graph().as_default(), tf1.Session() as session:
      inputs = [tf1.constant(a, tf1.float32) for a in arrays]
      x, c, h, kernel, bias = inputs
      x, kernel, bias = (tf1.cast(t, dtype) for t in (x, kernel, bias))
      outputs, c, h = cudnn_layer.lstm_layer(x, c, h, kernel, bias)
      outputs = tf1.cast(outputs, tf1.float32)
      mixture = tf1.reduce_sum(outputs * factors) + tf1.reduce_sum(c - h)
      found = [outputs, c, h, *tf1.gradients(mixture, inputs)]
      return session.run(found)

  found = compute()
  monkeypatch.setattr(tf1.raw_ops, "CudnnRNNV3", cudnn_on_cpu.lstm)
  for value, other in zip(found, compute(), strict=True):
    np.testing.assert_allclose(value, other, rtol=tolerance, atol=tolerance)


def test_without_a_gpu_the_operation_cannot_run():
  """That is why main refuses the mode: TensorFlow's error is no help."""
  if device.has_gpu():
    pytest.skip("this machine has a GPU")
  with tf1.Graph().as_default(), tf1.Session() as session:
    zeros = [tf1.zeros(shape) for shape in ([1, 1, 1], [1, 1], [1, 1])]
    found = cudnn_layer.lstm_layer(*zeros, tf1.zeros([2, 4]), tf1.zeros([4]))
    with pytest.raises(tf1.errors.InvalidArgumentError, match="CudnnRNNV3"):
      session.run(found)
