"""Tests of the contract that rnn_modes.py states, also for a new mode."""

import numpy as np
import pytest

import configs
import ptb_word_lm
from lm.base import tf1
from lm.model import network, random_draws, rnn_modes
from lm.testdata import lstm_numpy

pytestmark = pytest.mark.usefixtures("cudnn")
STEPS, BATCH, HIDDEN = 5, 3, 7
CELL = lstm_numpy.CELL.format(0)


@pytest.mark.parametrize("rnn_mode", rnn_modes.LSTM_MODES)
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
      custom_getter=network._cast_once(dtype),
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
  _, [last], (*_, expected, _) = lstm_numpy.forward(
    weights, ids, ids, [tuple(state)]
  )
  for value, other in zip(found, [*expected, *last], strict=True):
    np.testing.assert_allclose(value.astype(float), other, atol=tolerance)


def gru(inputs, c, h, forget_bias=0.0):
  """A cell with variables of its own, arXiv:1406.1078; it does not use c."""
  inputs = rnn_modes.unstacked(inputs)
  size, dtype, outputs = inputs[0].shape[-1], inputs[0].dtype, []
  with tf1.variable_scope("gru"):
    gates = tf1.get_variable("gates", [2 * size, 2 * size])
    kernel = tf1.get_variable("kernel", [2 * size, size])
  h = tf1.cast(h, dtype)
  for x in inputs:
    z_r = tf1.sigmoid(tf1.matmul(tf1.concat([x, h], axis=1), gates))
    z, r = tf1.split(z_r, 2, axis=1)
    new = tf1.tanh(tf1.matmul(tf1.concat([x, r * h], axis=1), kernel))
    h = z * h + (1 - z) * new
    outputs.append(h)
  return outputs, c, tf1.cast(h, tf1.float32)


def stacked_gru(*args):
  """The same, with one tensor of outputs."""
  outputs, c, h = gru(*args)
  return rnn_modes.stacked(outputs), c, h


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("mode", [gru, stacked_gru])
def test_a_new_cell_trains_and_is_used(monkeypatch, mode, dtype):
  """Step by step, for rows of any length, it computes what it was trained to.

  That holds for float32: what is trained in 16 bits is used in 32.
  """
  monkeypatch.setitem(rnn_modes.RNN_MODES, "gru", mode)
  config = configs.SmallConfig(
    rnn_mode="gru",
    num_steps=STEPS,
    batch_size=BATCH,
    hidden_size=HIDDEN,
    vocab_size=11,
    keep_prob=0.9,
    init_scale=0.5,
  )
  ids = np.arange(BATCH * STEPS * 20 + 1) % 11
  initializer = random_draws.uniform_initializer(0.5, 1)
  with tf1.Graph().as_default(), tf1.Session() as session:
    with tf1.variable_scope("Model", initializer=initializer):
      input_ = ptb_word_lm.PTBInput(config, ids)
      model = ptb_word_lm.PTBModel(True, config, input_, dtype=dtype)
    session.run(tf1.global_variables_initializer())
    model.assign_lr(session, 0.3)
    perplexities = [
      ptb_word_lm.run_epoch(session, model, model.train_op) for _ in range(8)
    ]
    weights = session.run({v.op.name: v for v in tf1.trainable_variables()})
  assert perplexities[-1] < perplexities[0] / 2
  cells = [f"Model/{rnn_modes.CELL_SCOPE.format(n)}/gru" for n in range(2)]
  names = [f"{cell}/{name}" for cell in cells for name in ("gates", "kernel")]
  others = ["Model/embedding", "Model/softmax_w", "Model/softmax_b"]
  assert weights.keys() == {*names, *others}
  check_uses_are_alike(config, weights)


@pytest.mark.parametrize(
  ("forget_bias", "by_sentence"), [(0.0, False), (1.5, False), (0.0, True)]
)
@pytest.mark.parametrize("rnn_mode", rnn_modes.LSTM_MODES)
def test_a_loop_computes_what_unrolled_steps_do(
  rnn_mode, forget_bias, by_sentence
):
  config = configs.SmallConfig(
    rnn_mode=rnn_mode,
    num_steps=STEPS,
    batch_size=BATCH,
    hidden_size=HIDDEN,
    forget_bias=forget_bias,
    by_sentence=by_sentence,
  )
  random, weights = np.random.RandomState(1), {}
  for layer in range(config.num_layers):
    cell = lstm_numpy.CELL.format(layer)
    weights[cell + "kernel"] = random.randn(2 * HIDDEN, 4 * HIDDEN)
    weights[cell + "bias"] = random.randn(4 * HIDDEN)
  check_uses_are_alike(config, weights)


def check_uses_are_alike(config, weights):
  """Compares layers_in_a_loop with unrolled_layers, from a random state.

  The loop comes first in a graph of its own, as where a model is used, and so
  makes the variables.
  """
  random = np.random.RandomState(2)
  lengths = np.array([STEPS, 2, 0])
  xs = random.randn(STEPS, BATCH, HIDDEN)
  state = random.uniform(-1, 1, [config.num_layers, 2, BATCH, HIDDEN])
  with tf1.Graph().as_default(), tf1.Session() as session:
    ids = tf1.constant([[1, 2, 0, 2, 2]] * BATCH)
    kept = network.kept_states(config, ids, 0)

    def kept_until(steps):
      return None if kept is None else kept[:steps]

    xs = tf1.placeholder_with_default(xs.astype(np.float32), xs.shape)
    pairs = [tf1.unstack(x) for x in tf1.unstack(state.astype(np.float32))]
    with tf1.variable_scope("Model") as scope:
      outputs, last = network.layers_in_a_loop(
        config, xs, tf1.constant(lengths), pairs, kept
      )
      made = tf1.trainable_variables()
      scope.reuse_variables()
      masks = [None] * (config.num_layers + 1)
      found = []  # Of the first 1, 2, ... words.
      for steps in range(1, STEPS + 1):
        rows, after = network.unrolled_layers(
          config, xs[:steps], pairs, masks, "float32", kept_until(steps)
        )
        found.append((tf1.reshape(rows, [steps, BATCH, HIDDEN]), after))
    assert tf1.trainable_variables() == made
    names = {variable.op.name for variable in made}
    assert names == {name for name in weights if "/RNN/" in name}
    for variable in made:
      variable.load(weights[variable.op.name], session)
    outputs, last, found = session.run([outputs, last, found])
  states = [state, *(np.array(after) for _, after in found)]
  for row, length in enumerate(lengths):
    np.testing.assert_allclose(
      outputs[:length, row], found[-1][0][:length, row], atol=1e-5
    )
    np.testing.assert_allclose(
      np.array(last)[:, :, row], states[length][:, :, row], atol=1e-5
    )
  assert np.abs(outputs[:, 0]).max() > 0.1
