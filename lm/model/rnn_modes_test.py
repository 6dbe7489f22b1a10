"""Tests of the contract that rnn_modes.py states, for each registered mode."""

import numpy as np
import pytest

from lm.base import tf1
from lm.model import block_layer, rnn_modes
from lm.testdata import lstm_numpy

pytestmark = pytest.mark.usefixtures("cudnn")
STEPS, BATCH, HIDDEN = 5, 3, 7
CELL = lstm_numpy.CELL.format(0)


@pytest.mark.parametrize("rnn_mode", rnn_modes.RNN_MODES)
@pytest.mark.parametrize(
  ("dtype", "tolerance"),
  [("float32", 1e-6), ("bfloat16", 0.03), ("float16", 4e-3)],
)
@pytest.mark.parametrize("is_list", [True, False])
def test_contract(rnn_mode, dtype, tolerance, is_list):
  """Types, shapes, names, and the values that numpy computes."""
  random = np.random.RandomState(0)
  x = random.uniform(-1, 1, [STEPS, BATCH, HIDDEN])
  state = random.uniform(-1, 1, [2, BATCH, HIDDEN])  # c and h.
  with tf1.Graph().as_default(), tf1.Session() as session:
    inputs = tf1.constant(x, dtype)
    inputs = tf1.unstack(inputs) if is_list else inputs
    c, h = tf1.unstack(tf1.constant(state, tf1.float32))
    with tf1.variable_scope(
      f"Model/{rnn_modes.CELL_SCOPE.format(0)}",
      initializer=tf1.random_uniform_initializer(-0.5, 0.5, seed=1),
      custom_getter=block_layer.cast_once(dtype),
    ):
      outputs, c, h = rnn_modes.RNN_MODES[rnn_mode](inputs, c, h)
    outputs = rnn_modes.unstacked(outputs)
    assert {(y.dtype.name, *y.shape) for y in outputs} == (
      {(dtype, BATCH, HIDDEN)}
    )
    for tensor in (c, h):
      assert (tensor.dtype, tensor.shape) == (tf1.float32, (BATCH, HIDDEN))
    variables = {v.op.name: v for v in tf1.global_variables()}
    assert {n: (v.dtype, v.shape) for n, v in variables.items()} == {
      CELL + "kernel": (tf1.float32, (2 * HIDDEN, 4 * HIDDEN)),
      CELL + "bias": (tf1.float32, (4 * HIDDEN,)),
    }
    assert tf1.trainable_variables() == tf1.global_variables()
    session.run(tf1.global_variables_initializer())
    weights = session.run(variables)
    assert weights[CELL + "kernel"].any() and not weights[CELL + "bias"].any()
    found = session.run([*outputs, c, h])
  # In numpy, the words are the rows of x, in the order of time.
  ids = np.arange(STEPS * BATCH).reshape(STEPS, BATCH).T
  weights |= {
    "Model/embedding": x.reshape(-1, HIDDEN),
    "Model/softmax_w": np.zeros([HIDDEN, STEPS * BATCH]),
    "Model/softmax_b": np.zeros(STEPS * BATCH),
  }
  _, [last], (_, _, expected, _) = lstm_numpy.forward(
    weights, ids, ids, [tuple(state)]
  )
  for value, other in zip(found, [*expected, *last], strict=True):
    np.testing.assert_allclose(value.astype(float), other, atol=tolerance)
