"""Tests of the model: against TensorFlow 1.15, numpy, and the tutorial."""

import contextlib
import dataclasses
import functools
import json
import math
import pathlib

import numpy as np
import pytest

import configs
import ptb_word_lm
import reader
from conftest import TINY
from lm.base import tf1
from lm.model import random_draws
from lm.model.rnn_modes import LSTM_MODES
from lm.run import checkpoints, trained
from lm.testdata import lstm_numpy
from lm.training import reports
from lm.training.perplexity import DivergedError, state_feed
from lm.workers.workers import ALONE

TESTDATA = pathlib.Path(__file__).parent / "lm" / "testdata"
TRACES = {
  case["name"]: case
  for case in json.loads((TESTDATA / "tf1_trace.json").read_text())["cases"]
}
MODES = pytest.mark.parametrize("rnn_mode", LSTM_MODES)
pytestmark = pytest.mark.usefixtures("cudnn")
# Sizes that are odd and all different, so that a wrong axis does not fit.
ODD = configs.SmallConfig(
  num_steps=5, batch_size=3, hidden_size=7, vocab_size=11, max_grad_norm=0.8
)
LOUD = dataclasses.replace(ODD, init_scale=0.5)
EOS_ID = 4
IDS = np.random.RandomState(0).randint(0, ODD.vocab_size, 3 * 5 * 6 + 3)


@contextlib.contextmanager
def session_of(config, ids=IDS, is_training=True, seed=1, dtype="float32"):
  """Builds a model in a graph of its own, with random weights.

  Yields (session, model, weights), the weights as lstm_numpy has them.
  """
  with tf1.Graph().as_default(), tf1.Session() as session:
    initializer = random_draws.uniform_initializer(config.init_scale, seed)
    with tf1.variable_scope("Model", initializer=initializer):
      input_ = ptb_word_lm.PTBInput(config, ids, eos=EOS_ID)
      model = ptb_word_lm.PTBModel(
        is_training, config, input_, seed=seed, dtype=dtype
      )
    session.run(tf1.global_variables_initializer())
    yield session, model, get_weights(session)


def get_weights(session):
  """Returns the values of the trainable variables by name."""
  return session.run({v.op.name: v for v in tf1.trainable_variables()})


def set_weights(session, weights):
  """Sets the variables with the names of `weights` to its values."""
  for variable in tf1.global_variables():
    if variable.op.name in weights:
      variable.load(weights[variable.op.name], session)


def draw_weights(case):
  """Draws the weights of a trace, as testdata/README.md says."""
  vocab, hidden = case["vocab_size"], case["hidden_size"]
  shapes = {"Model/embedding": [vocab, hidden]}
  for layer in range(case["num_layers"]):
    cell = lstm_numpy.CELL.format(layer)
    shapes[cell + "kernel"] = [2 * hidden, 4 * hidden]
    shapes[cell + "bias"] = [4 * hidden]
  shapes["Model/softmax_w"] = [hidden, vocab]
  shapes["Model/softmax_b"] = [vocab]
  random, scale = np.random.RandomState(case["weight_seed"]), case["init_scale"]
  return {n: random.uniform(-scale, scale, shapes[n]) for n in shapes}


def train_step(session, model, state, workers=ALONE):
  """Trains one step; returns (cost, gradient norm, state)."""
  return workers.run(
    session,
    [model.cost, model.grad_norm, model.final_state, model.train_op],
    state_feed(model.initial_state, state),
  )[:3]


def run_trace(case, ids, rnn_mode):
  """Trains as a trace did; returns (costs, norms, last state, weights)."""
  fields = {field.name for field in dataclasses.fields(configs.Config)}
  config = configs.SmallConfig(
    **{k: case[k] for k in fields & set(case)} | {"rnn_mode": rnn_mode}
  )
  costs, norms = [], []
  with session_of(config, ids) as (session, model, _):
    assert model.input.epoch_size == case["epoch_size"]
    set_weights(session, draw_weights(case))
    model.assign_lr(session, case["learning_rate"])
    for step in range(case["steps"]):
      if step % case["epoch_size"] == 0:
        state = session.run(model.initial_state)
      cost, norm, state = train_step(session, model, state)
      costs.append(cost)
      norms.append(norm)
    return np.array(costs), np.array(norms), state, get_weights(session)


@MODES
@pytest.mark.parametrize("name", ["tiny", "tiny_clipped", "tiny_one_layer"])
def test_tiny_traces_of_tensorflow_1_15(name, rnn_mode):
  case = TRACES[name]
  ids = np.random.RandomState(0).randint(0, 50, 2000)
  costs, norms, state, weights = run_trace(case, ids, rnn_mode)
  np.testing.assert_allclose(costs, case["costs"], rtol=1e-6)
  np.testing.assert_allclose(norms, case["grad_norms"], rtol=1e-6)
  sums = [np.sum(layer.h, dtype=float) for layer in state]
  np.testing.assert_allclose(sums, case["state_h_sum"], atol=2e-6)
  assert weights.keys() == case["final_weights_sum_and_l2"].keys()
  for variable, expected in case["final_weights_sum_and_l2"].items():
    values = weights[variable].astype(float)
    found = [values.sum(), np.sqrt((values**2).sum())]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=5e-6)


# More steps in block, the default mode, than in basic.
@pytest.mark.parametrize(
  ("name", "rnn_mode", "steps"),
  [
    ("ptb_small", "block", 60),
    ("ptb_small", "basic", 10),
    ("ptb_medium_without_dropout", "block", 8),
  ],
)
def test_ptb_traces_of_tensorflow_1_15(name, rnn_mode, steps, ptb_data):
  case = {**TRACES[name], "steps": steps}
  ids = reader.read_corpus(ptb_data).train
  costs, norms, _, _ = run_trace(case, ids, rnn_mode)
  expected, first = np.array(case["costs"][:steps]), slice(min(steps, 20))
  np.testing.assert_allclose(costs[first], expected[first], rtol=1e-5)
  np.testing.assert_allclose(norms[first], case["grad_norms"][first], rtol=1e-3)
  nats = (costs.mean() - expected.mean()) / case["num_steps"]
  # The perplexities differ by at most 2%.
  assert np.exp(nats) == pytest.approx(1, rel=0.02)


@MODES
def test_checkpoint_of_tensorflow_1_15(rnn_mode):
  expected = json.loads((TINY / "expected.json").read_text())
  valid, test = expected["valid"], expected["test"]
  corpus = reader.read_corpus(str(TINY))
  config = configs.SmallConfig(
    num_steps=valid["num_steps"],
    batch_size=valid["batch_size"],
    hidden_size=expected["hidden_size"],
    vocab_size=len(corpus.vocabulary),
    rnn_mode=rnn_mode,
  )
  with session_of(config, corpus.valid) as (_, model, _):
    shapes = {v.op.name: v.shape.as_list() for v in tf1.global_variables()}
    del shapes["Model/learning_rate"]
    assert shapes == expected["variables"]
    steps = model.input.epoch_size * model.input.num_steps
    assert (steps, len(corpus.test) - 1) == (valid["steps"], test["steps"])
  path = str(TINY / expected["checkpoint"])
  model = trained.load_checkpoint(
    path, data_path=str(TINY), config=config, changes={}
  )
  assert model.config == config
  found = ptb_word_lm.evaluate(config, corpus, model)
  expected = (valid["perplexity"], test["perplexity"])
  assert found == pytest.approx(expected, rel=1e-5)


@MODES
@pytest.mark.parametrize("keep_prob", [1.0, 0.6])
@pytest.mark.parametrize("num_layers", [1, 3])
def test_training_steps_against_numpy(num_layers, keep_prob, rnn_mode):
  """Cost, state, clipped gradient and update; dropout in its right places."""
  config = dataclasses.replace(
    ODD, num_layers=num_layers, keep_prob=keep_prob, rnn_mode=rnn_mode
  )
  compare_with_numpy(config)


def compare_with_numpy(config):
  """Trains an epoch and compares each step with lstm_numpy's."""
  batches = list(reader.ptb_iterator(IDS, config.batch_size, config.num_steps))
  clipped = []
  with session_of(config) as (session, model, weights):
    weights = {n: w.astype(float) for n, w in weights.items()}
    model.assign_lr(session, 0.7)
    state = expected_state = session.run(model.initial_state)
    number = tf1.placeholder(tf1.int64, [])
    masks_of_step = ptb_word_lm.dropout_masks(config, [1, number])
    for step, (ids, targets) in enumerate(batches):
      masks = None
      if config.keep_prob < 1:
        masks = session.run(masks_of_step, {number: step})
      expected_cost, expected_state, expected_norm = lstm_numpy.train_step(
        *(weights, ids, targets, expected_state, 0.7, config.max_grad_norm),
        *(masks, config.forget_bias, EOS_ID if config.by_sentence else None),
      )
      cost, norm, state = train_step(session, model, state)
      clipped.append(norm > config.max_grad_norm)
      assert cost == pytest.approx(expected_cost, rel=1e-5)
      assert norm == pytest.approx(expected_norm, rel=1e-4)
      np.testing.assert_allclose(state, expected_state, atol=1e-5)
    assert any(clipped) and not all(clipped)
    for name, values in get_weights(session).items():
      np.testing.assert_allclose(values, weights[name], atol=1e-5)


@MODES
def test_tied_embeddings_and_a_forget_bias_against_numpy(rnn_mode):
  config = dataclasses.replace(
    ODD,
    keep_prob=0.6,
    rnn_mode=rnn_mode,
    tie_embeddings=True,
    forget_bias=1.5,
  )
  compare_with_numpy(config)
  with session_of(config) as (_, model, weights):
    assert "Model/softmax_w" not in weights
    assert not any(isinstance(g, tf1.IndexedSlices) for g in model.gradients)


@MODES
def test_sentences_start_from_zeros_as_in_numpy(rnn_mode):
  config = dataclasses.replace(
    ODD, keep_prob=0.6, rnn_mode=rnn_mode, by_sentence=True
  )
  compare_with_numpy(config)


def test_sentences_need_the_id_of_eos(monkeypatch):
  config = dataclasses.replace(ODD, by_sentence=True)
  monkeypatch.setitem(globals(), "EOS_ID", None)
  with (
    pytest.raises(configs.ConfigError, match="by_sentence=true needs the id"),
    session_of(config),
  ):
    pass


def first_step(config, dtype="float32"):
  """Takes a new model's first step, at the learning rate 1.

  Returns:
    (cost, gradients, norm, weights): the gradients dense, not scaled.
  """
  return first_step_of(dtype, **dataclasses.asdict(config))


@functools.cache
def first_step_of(dtype, **values):
  config = configs.Config(**values)
  with session_of(config, dtype=dtype) as (session, model, weights):
    model.assign_lr(session, 1.0)
    assert all(g.dtype == tf1.float32 for g in model.gradients)
    gradients = {
      name: tf1.convert_to_tensor(gradient)
      / (1024 if dtype == "float16" else 1)
      for name, gradient in zip(weights, model.gradients, strict=True)
    }
    cost, gradients, norm, _ = session.run(
      [model.cost, gradients, model.grad_norm, model.train_op]
    )
    return cost, gradients, norm, get_weights(session)


def skip_what_tensorflow_cannot(dtype, rnn_mode):
  if (dtype, rnn_mode) == ("bfloat16", "cudnn"):
    pytest.skip("TensorFlow's gradients of cuDNN's LSTM are infinite there")


FULL_SIZE = configs.SmallConfig(
  batch_size=4, num_steps=8, vocab_size=997, keep_prob=0.5
)


@pytest.mark.parametrize("config", [LOUD, FULL_SIZE])
@pytest.mark.parametrize("rnn_mode", ["block", "cudnn"])
def test_every_mode_computes_what_basic_does(rnn_mode, config):
  """All gradients, to 1e-5 of each norm, also in small's size with dropout."""
  cost, gradients, *_ = first_step(
    dataclasses.replace(config, rnn_mode="basic")
  )
  other, others, *_ = first_step(dataclasses.replace(config, rnn_mode=rnn_mode))
  assert other == pytest.approx(cost, rel=1e-6)
  assert list(others) == list(gradients)
  for name, gradient in gradients.items():
    error = np.linalg.norm(others[name] - gradient)
    assert error < 1e-5 * np.linalg.norm(gradient)


@MODES
@pytest.mark.parametrize(
  ("dtype", "tolerance"), [("bfloat16", 0.02), ("float16", 0.004)]
)
def test_16_bits(dtype, tolerance, rnn_mode):
  """Near to float32, and not the same: it did compute in 16 bits."""
  skip_what_tensorflow_cannot(dtype, rnn_mode)
  config = dataclasses.replace(LOUD, keep_prob=0.6, rnn_mode=rnn_mode)
  cost, gradients, norm, weights = first_step(config)
  other, others, other_norm, other_weights = first_step(config, dtype)
  assert other == pytest.approx(cost, rel=tolerance)
  assert norm > config.max_grad_norm  # It is clipped.
  assert other_norm == pytest.approx(norm, rel=tolerance)
  for name, gradient in gradients.items():
    error = np.linalg.norm(others[name] - gradient) / np.linalg.norm(gradient)
    assert 1e-5 < error < 2 * tolerance
    step = config.max_grad_norm / norm * np.abs(gradient).max()
    np.testing.assert_allclose(
      other_weights[name], weights[name], atol=3 * tolerance * step
    )


def test_small_gradients_survive_float16():
  """A bias makes the target nearly sure: most gradients are about 1e-7."""
  config = dataclasses.replace(ODD, max_grad_norm=1e30)
  norms = []
  for dtype in ("float32", "float16"):
    with session_of(config, 0 * IDS, dtype=dtype) as (session, model, weights):
      weights["Model/softmax_b"][0] = 9
      set_weights(session, weights)
      norms.append(session.run(model.grad_norm))
  assert norms[1] == pytest.approx(norms[0], rel=0.1) and norms[0] < 0.02


@functools.cache
def perplexity_of_counting(rnn_mode, dtype):
  """Trains two epochs on a text that counts, and returns the perplexity."""
  ids = np.arange(400, dtype=np.int32) % ODD.vocab_size
  config = dataclasses.replace(
    LOUD, rnn_mode=rnn_mode, max_grad_norm=5.0, hidden_size=31
  )
  with session_of(config, ids, dtype=dtype) as (session, model, _):
    assert {v.dtype for v in tf1.trainable_variables()} == {tf1.float32}
    model.assign_lr(session, 1.0)
    ptb_word_lm.run_epoch(session, model, model.train_op)
    return ptb_word_lm.run_epoch(session, model, model.train_op)


@pytest.mark.parametrize(
  ("dtype", "rnn_mode"),
  [
    ("bfloat16", "basic"),
    ("bfloat16", "block"),
    ("float16", "block"),
    ("float16", "cudnn"),
  ],
)
def test_16_bits_learn(dtype, rnn_mode):
  expected = perplexity_of_counting(rnn_mode, "float32")
  assert expected < 1.1
  found = perplexity_of_counting(rnn_mode, dtype)
  assert found == pytest.approx(expected, rel=0.05)


def test_numpy_gradient_is_the_slope_of_the_cost():
  """What the other tests compare with is right itself."""
  random = np.random.RandomState(1)
  weights = draw_weights(
    dict(vocab_size=5, hidden_size=3, num_layers=2, weight_seed=1, init_scale=1)
  )
  ids, targets = random.randint(0, 5, [2, 2, 4])
  state = random.uniform(-1, 1, [2, 2, 2, 3])
  masks = random.randint(0, 2, [3, 4, 2, 3]) / 0.5
  _, _, trace = lstm_numpy.forward(weights, ids, targets, state, masks)
  gradients = lstm_numpy.backward(weights, ids, targets, trace)
  rows = gradients["Model/embedding"]
  gradients["Model/embedding"] = np.zeros([5, 3])
  np.add.at(gradients["Model/embedding"], ids.T, rows)
  for name, values in weights.items():
    slope = np.empty_like(values)
    for place in np.ndindex(values.shape):
      costs = []
      for shift in (1e-5, -2e-5):
        values[place] += shift
        costs.append(lstm_numpy.forward(weights, ids, targets, state, masks)[0])
      values[place] += 1e-5
      slope[place] = (costs[0] - costs[1]) / 2e-5
    np.testing.assert_allclose(gradients[name], slope, atol=1e-8)


def test_run_epoch_carries_the_state_and_sums_over_time():
  """In evaluation, without dropout."""
  config = dataclasses.replace(ODD, init_scale=1.0, keep_prob=0.5)
  with session_of(config, is_training=False) as (session, model, weights):
    perplexity = ptb_word_lm.run_epoch(session, model)
    again = ptb_word_lm.run_epoch(session, model)
    zeros = session.run(model.initial_state)
  batches = list(reader.ptb_iterator(IDS, ODD.batch_size, ODD.num_steps))
  state, carried, forgotten = zeros, 0.0, 0.0
  for ids, targets in batches:
    cost, state, _ = lstm_numpy.forward(weights, ids, targets, state)
    carried += cost
    forgotten += lstm_numpy.forward(weights, ids, targets, zeros)[0]
  words = len(batches) * ODD.num_steps
  assert perplexity == pytest.approx(math.exp(carried / words), rel=1e-5)
  assert perplexity != pytest.approx(math.exp(forgotten / words), rel=1e-2)
  assert again == perplexity  # The second epoch starts at the first batch.


def test_dropout_masks_follow_from_seed_and_step_alone():
  config = dataclasses.replace(
    ODD, keep_prob=0.35, hidden_size=97, num_steps=31
  )

  def draw(*seed_and_step, **rows):
    with tf1.Graph().as_default(), tf1.Session() as session:
      masks = random_draws.dropout_masks(config, seed_and_step, **rows)
      return np.array(session.run(masks))

  masks = draw(3, 8)
  assert masks.shape == (3, 31, 3, 97)
  np.testing.assert_array_equal(masks, draw(3, 8))
  rows = slice(1, 3)  # A worker's masks are its rows of the masks of all.
  np.testing.assert_array_equal(masks[:, :, rows], draw(3, 8, rows=rows))
  for other in (draw(3, 9), draw(4, 8)):
    assert 0.5 < (masks == other).mean() < 0.6  # 0.35^2 + 0.65^2 = 0.545
  for one, other in ((0, 1), (0, 2), (1, 2)):  # No layer gets another's.
    assert 0.5 < (masks[one] == masks[other]).mean() < 0.6
  np.testing.assert_allclose(np.unique(masks), [0, 1 / 0.35], rtol=1e-6)
  deviation = np.sqrt(0.35 * 0.65 / masks.size)
  assert abs((masks > 0).mean() - 0.35) < 4 * deviation


def test_initial_weights_follow_from_the_seed():
  def draw(seed):
    with session_of(ODD, is_training=False, seed=seed) as (_, _, weights):
      return weights

  weights = draw(5)
  for name, values in draw(5).items():
    np.testing.assert_array_equal(values, weights[name])
  for name, values in draw(6).items():
    if name.endswith("bias"):
      assert not values.any() and not weights[name].any()
    else:
      assert (values != weights[name]).mean() > 0.99
      scale = np.abs(weights[name]).max()
      assert 0.09 < scale <= 0.1 or (scale <= 0.1 and values.size < 20)
  cells = [lstm_numpy.CELL.format(layer) + "kernel" for layer in (0, 1)]
  assert (weights[cells[0]] != weights[cells[1]]).mean() > 0.99


@pytest.mark.parametrize(
  ("model", "count"),
  [("small", 4_651_600), ("medium", 19_775_200), ("large", 66_022_000)],
)
def test_number_of_weights(model, count):
  config = dataclasses.replace(configs.CONFIGS[model](), num_steps=2)
  ids = np.zeros(2000, np.int32)
  with tf1.Graph().as_default(), tf1.variable_scope("Model"):
    tf1.set_random_seed(1)
    ptb_word_lm.PTBModel(True, config, ptb_word_lm.PTBInput(config, ids))
    sizes = [math.prod(v.shape) for v in tf1.trainable_variables()]
  assert (len(sizes), sum(sizes)) == (7, count)


@pytest.mark.parametrize(
  ("size", "steps"),
  [
    (2323, range(10, 2323, 232)),
    (1327, range(10, 1327, 132)),
    (110, range(10, 110, 11)),
    (109, range(10, 109, 11)),
    (50, range(4, 50, 5)),
    (12, range(1, 12, 2)),
    (3, range(3)),
    (1, [0]),
  ],
)
def test_lines_of_an_epoch(size, steps):
  assert list(reports._lines_at(size)) == list(steps)
  assert len(steps) <= 10


class StopAt:
  """True once a Progress has come to a step."""

  def __init__(self, progress, step):
    self._progress, self._step = progress, step

  def __bool__(self):
    return self._progress.step >= self._step


@pytest.mark.parametrize("stops", [[2, 5], [1, 2, 3, 4, 5]])
@MODES
def test_run_epoch_goes_on_where_it_stopped(rnn_mode, stops):
  """Bit for bit: the state goes on, each cost counts once."""
  config = dataclasses.replace(LOUD, keep_prob=0.6, rnn_mode=rnn_mode)
  found = []
  for steps in ([6], [*stops, 6]):
    with session_of(config) as (session, model, _):
      model.assign_lr(session, 0.5)
      losses, progress = [], checkpoints.Progress()
      for step in steps:
        perplexity = ptb_word_lm.run_epoch(
          session,
          model,
          model.train_op,
          progress=progress,
          on_step=lambda loss, _, losses=losses: losses.append(loss),
          stop=StopAt(progress, step),
        )
        assert progress.step == step
        progress.state = np.array(progress.state)  # As a checkpoint has it.
        assert progress.state.shape == (2, 2, 3, 7)
      found.append([perplexity, progress.costs, losses, progress.state])
      found[-1] += [*get_weights(session).values()]
  for value, other in zip(*found, strict=True):
    np.testing.assert_array_equal(value, other)


def test_run_epoch_reports_each_step_and_stops():
  found, progress = [], checkpoints.Progress()
  with session_of(ODD) as (session, model, _):
    model.assign_lr(session, 0.5)
    perplexity = ptb_word_lm.run_epoch(
      session,
      model,
      model.train_op,
      progress=progress,
      on_step=lambda *report: found.append((progress.step, *report)),
      stop=StopAt(progress, 4),
    )
    assert session.run(model.global_step) == 4
  steps, losses, speeds = zip(*found, strict=True)
  assert steps == (1, 2, 3, 4)
  assert progress.seconds == pytest.approx(4 * 3 * 5 / speeds[-1])
  assert perplexity == pytest.approx(math.exp(sum(losses) / 4))
  assert min(speeds) > 0


# With 1000, a float64 could hold the perplexity, but a float32 could not.
@pytest.mark.parametrize("learning_rate", [math.inf, 1e30, 1e3])
def test_run_epoch_reports_where_the_loss_diverged(learning_rate):
  with session_of(ODD) as (session, model, _):
    model.assign_lr(session, learning_rate)
    with pytest.raises(
      DivergedError, match=r"^Epoch 7, step . of 6: the loss is not"
    ):
      ptb_word_lm.run_epoch(session, model, model.train_op, title="Epoch 7")


def test_run_epoch_reports_a_gradient_that_is_not_finite():
  with session_of(ODD) as (session, model, _):
    model.assign_lr(session, 0.5)
    model.grad_norm = model.grad_norm * math.inf
    # Without an eval_op, the gradient is not looked at.
    ptb_word_lm.run_epoch(session, model)
    with pytest.raises(DivergedError, match=r"^Epoch 7, step 1 of 6"):
      ptb_word_lm.run_epoch(session, model, model.train_op, title="Epoch 7")
