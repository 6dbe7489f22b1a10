"""Trains the LSTM language model of Zaremba et al. 2014 on the Penn Treebank.

  python ptb_word_lm.py --data_path=simple-examples/data --model=small

The paper: Recurrent Neural Network Regularization, arXiv:1409.2329. Trained
with truncated back-propagation: the text passes in pieces of num_steps words,
and the LSTM's state is fed from each piece to the next.

Dimensions in the comments: B = batch_size, T = num_steps, H = hidden_size,
V = vocab_size, L = num_layers. Tensors are time-major, [T, B, ...], as the
unrolled steps take them.
"""

import dataclasses
import itertools
import math
import os
import pathlib
import sys
import time
import warnings

import numpy as np
import tqdm
from absl import app, flags

import configs
import reader
from lm import (
  checkpoints,
  command,
  device,
  layers,
  preparation,
  run_folder,
  sample_corpus,
  tf1,
)
from lm.command import InputError, refuse, tell
from lm.stop_request import StopRequest
from lm.workers import OneWorker, find_workers, workers_in


class DivergedError(InputError, ArithmeticError):
  """The loss or its gradient is no longer a finite number."""


class PTBInput:
  """A data set as batches.

  Attributes:
    batch_size: B.
    num_steps: T.
    epoch_size: batches of an epoch.
    input_data: int32 [B, T], the next batch each time it is fetched.
    targets: int32 [B, T], the words that follow.
  """

  def __init__(self, config, data, name=None):
    """Cuts the ids `data`, of one dimension, as the config says.

    Raises:
      reader.DataError: if there are too few words for one batch.
    """
    self.batch_size = config.batch_size
    self.num_steps = config.num_steps
    self.epoch_size = reader.epoch_size(
      len(data), self.batch_size, self.num_steps
    )
    self.input_data, self.targets = reader.ptb_producer(
      data, self.batch_size, self.num_steps, name
    )

  def skip(self, session, steps):
    """Passes over the next batches."""
    for _ in range(steps):
      session.run(self.input_data)


class PTBModel:
  """The graph: embedding, LSTM layers, softmax, loss, and in training SGD.

  Build it in a variable scope "Model"; build those for evaluation in the same
  scope with reuse=True, after the one for training. The variables, the losses
  and the state that is fed and fetched are float32. The rest of the LSTM may be
  of 16 bits: in the mode basic all of the cells, in block only the products.

  Attributes:
    input: the PTBInput.
    initial_state: a tuple with a pair (c, h) for each layer, each [B, H] and
      zero unless it is fed.
    final_state: the same after T steps; feed it as the next initial_state.
    losses: float32 [T, B], the cross-entropy of each target in nats.
    cost: float32, the losses summed over time and averaged over the batch.
    global_step: int64, how many steps the variables were trained.
    lr: the learning rate (training only, like the rest).
    gradients: float32, of each trainable variable, before they are clipped.
      Those of float16 are scaled as the loss is.
    grad_norm: float32, their global norm, not scaled.
    train_op: one step of SGD.
  """

  def __init__(
    self,
    is_training,
    config,
    input_,
    *,
    seed=0,
    dtype="float32",
    workers=None,
  ):
    """Adds the model to the default graph.

    Args:
      is_training: whether to drop out units and to make a train_op.
      config: a configs.Config.
      input_: a PTBInput.
      seed: of the dropout masks, a whole number.
      dtype: "float32", "bfloat16" or "float16", what to compute in. The loss is
        scaled by 1024 for float16, or small gradients would be lost.
      workers: a OneWorker or Workers. Between embedding and loss each has its
        rows of the batch; what is fed and fetched is of all.
    """
    self.input = input_
    self.workers = workers = workers or OneWorker()
    # Created before the model's variables, and at the root of the names.
    with tf1.variable_scope(tf1.VariableScope(tf1.AUTO_REUSE, name="")):
      self.global_step = tf1.train.get_or_create_global_step()
    masks = [None] * (config.num_layers + 1)  # Of the embedding, each layer.
    if is_training and config.keep_prob < 1:
      masks = dropout_masks(config, [seed, self.global_step])

    inputs = embed(config, input_.input_data, masks[0], dtype)  # [T, B, H]
    self.initial_state = _zero_state(config)
    inputs = workers.rows_of(inputs, axis=1)
    masks = [m if m is None else workers.rows_of(m, axis=1) for m in masks[1:]]
    state = workers.rows_of(self.initial_state, axis=0)
    targets = workers.rows_of(input_.targets, axis=0)
    with tf1.variable_scope(
      tf1.get_variable_scope(), custom_getter=_cast_once(dtype)
    ):
      unroll = {"basic": unroll_basic, "block": unroll_block}[config.rnn_mode]
      outputs, state = unroll(config, inputs, state, masks)  # [T, B, H]
      losses = softmax_loss(config, outputs, targets)  # [T, B]
    self.final_state = workers.total(workers.all_rows(state, axis=0))
    losses = workers.all_rows(losses, axis=1)
    self.losses = workers.total(losses)
    # Averaged over the batch but summed over time: the paper's learning rate
    # and clipping norm are for this gradient, T times that of the mean.
    cost = tf1.reduce_sum(tf1.reduce_mean(losses, axis=1))
    self.cost = workers.total(cost)
    if is_training:
      # float16 rounds what is below 6e-8 to zero. With the loss scaled up,
      # small gradients survive; they are scaled down again in float32.
      loss_scale = 1024.0 if dtype == "float16" else 1.0
      self._add_training(cost, config.max_grad_norm, loss_scale)

  def _add_training(self, cost, max_grad_norm, loss_scale):
    """Adds a step of SGD with a clipped gradient (the paper's section 4.1).

    Args:
      cost: of this worker's rows.
      max_grad_norm: for the norm of all workers' gradients, added up.
      loss_scale: a factor on the cost, taken back in grad_norm and the step.
    """
    # A local variable: which epoch has which rate is the config's matter, so
    # the rate is not a part of a checkpoint.
    self.lr = tf1.Variable(
      0.0,
      trainable=False,
      name="learning_rate",
      collections=[tf1.GraphKeys.LOCAL_VARIABLES],
    )
    self._new_lr = tf1.placeholder(tf1.float32, [], "new_learning_rate")
    self._lr_update = self.lr.assign(self._new_lr)
    variables = tf1.trainable_variables()
    # The embedding's gradient is sparse: a row for each of the T * B words
    # read. In the norm a word read twice counts as two rows, as TF1 had it.
    gradients = layers.gradients_of(cost * loss_scale, variables)
    self.gradients = [self.workers.total_gradient(g) for g in gradients]
    self.grad_norm = tf1.global_norm(self.gradients) / loss_scale
    # Clipping is a factor on all gradients. On the learning rate it does the
    # same without a pass over them.
    factor = max_grad_norm / tf1.maximum(self.grad_norm, max_grad_norm)
    sgd = tf1.train.GradientDescentOptimizer(self.lr * factor / loss_scale)
    self.train_op = sgd.apply_gradients(
      zip(self.gradients, variables, strict=True), self.global_step
    )

  def assign_lr(self, session, lr_value):
    """Sets the learning rate of the steps to come."""
    session.run(self._lr_update, {self._new_lr: lr_value})


def dropout_masks(config, seed_and_step):
  """Draws the dropout masks of one training step.

  They are drawn statelessly: a step's masks depend on the seed and the step
  alone, not on the draws before it, so that a resumed run draws the same.

  Args:
    config: a Config.
    seed_and_step: two whole numbers, or scalar tensors of them.

  Returns:
    L + 1 tensors float32 [T, B, H], of 0 and 1 / keep_prob: the mask of the
    embedded inputs, then that of each layer's outputs.
  """
  shape = [
    config.num_layers + 1,
    config.num_steps,
    config.batch_size,
    config.hidden_size,
  ]
  seed = tf1.stack([tf1.cast(x, tf1.int64) for x in seed_and_step])
  uniform = tf1.random.stateless_uniform(shape, seed, alg="philox")
  kept = tf1.cast(uniform < config.keep_prob, tf1.float32)
  return tf1.unstack(kept / config.keep_prob)


def _cast_once(dtype):
  """Makes variables float32 and reads them, cast to dtype, once for all uses.

  Returns:
    a custom_getter for variable scopes.
  """

  def get(getter, *args, **kwargs):
    kwargs["dtype"] = tf1.float32
    return tf1.cast(getter(*args, **kwargs).read_value(), dtype)

  return get


def embed(config, ids, mask, dtype):
  """Looks up the embeddings of ids [B, T]; returns them as [T, B, H]."""
  embedding = tf1.get_variable(
    "embedding", [config.vocab_size, config.hidden_size], tf1.float32
  )
  # Few of its rows are used, so those are cast, and not the whole of it.
  inputs = tf1.nn.embedding_lookup(embedding, tf1.transpose(ids))  # [T, B, H]
  return tf1.cast(inputs if mask is None else inputs * mask, dtype)


def unroll_basic(config, inputs, state, masks):
  """Runs the stack of LSTM cells over T steps, one after the other.

  Args:
    config: a Config.
    inputs: [T, B, H].
    state: before the first step, as PTBModel has it.
    masks: for each layer, the dropout mask of its outputs [T, B, H], or None.

  Returns:
    (outputs, state): [T, B, H] of the inputs' type, and the state after the
    last step.
  """
  cells = [
    cell if mask is None else OutputDropout(cell, mask)
    for cell, mask in zip(lstm_cells(config, inputs.dtype), masks, strict=True)
  ]
  stack = tf1.nn.rnn_cell.MultiRNNCell(cells)
  state = _cast_state(state, inputs.dtype)
  outputs = []
  with tf1.variable_scope("RNN"):
    for x in tf1.unstack(inputs):  # [B, H]
      output, state = stack(x, state)  # [B, H]
      outputs.append(output)
  return tf1.stack(outputs), _cast_state(state, tf1.float32)


def lstm_cells(config, dtype):
  """Returns TensorFlow's cell for each layer, a list."""
  with warnings.catch_warnings():
    warnings.filterwarnings("ignore", ".*is deprecated", UserWarning)
    return [
      # No bias on the forget gate: the paper's equations have none.
      tf1.nn.rnn_cell.BasicLSTMCell(
        config.hidden_size, forget_bias=0.0, dtype=dtype
      )
      for _ in range(config.num_layers)
    ]


def unroll_block(config, inputs, state, masks):
  """Runs each LSTM layer over all T steps: like `unroll_basic`, in one go."""
  final_state = []
  size = config.hidden_size
  for layer, (c, h) in enumerate(state):
    # The cell's own names: a checkpoint of one mode fits the other.
    with tf1.variable_scope(f"RNN/multi_rnn_cell/cell_{layer}/basic_lstm_cell"):
      kernel = tf1.get_variable("kernel", [2 * size, 4 * size])
      bias = tf1.get_variable(
        "bias", [4 * size], initializer=tf1.zeros_initializer()
      )
    inputs, c, h = layers.lstm_layer(inputs, c, h, kernel, bias)
    final_state.append(tf1.nn.rnn_cell.LSTMStateTuple(c, h))
    if masks[layer] is not None:
      inputs *= tf1.cast(masks[layer], inputs.dtype)
  return inputs, tuple(final_state)


def _zero_state(config):
  """Returns a state of zeros, as PTBModel has it."""
  shape = [config.batch_size, config.hidden_size]
  return tuple(
    tf1.nn.rnn_cell.LSTMStateTuple(tf1.zeros(shape), tf1.zeros(shape))
    for _ in range(config.num_layers)
  )


def _cast_state(state, dtype):
  """Returns the state in another type."""
  return tf1.nest.map_structure(lambda tensor: tf1.cast(tensor, dtype), state)


class OutputDropout:
  """An RNN cell whose output is dropped out, with masks drawn beforehand.

  The state goes on untouched: dropout on the recurrent connections would wipe
  out what the LSTM remembers (the paper's section 3.2).
  """

  def __init__(self, cell, masks):
    """Wraps `cell`; its call number t uses masks[t] of `masks` [T, B, H]."""
    self._cell = cell
    self._masks = iter(tf1.unstack(masks))
    self.state_size, self.output_size = cell.state_size, cell.output_size

  def __call__(self, inputs, state, scope=None):
    """Returns the cell's output [B, H], dropped out, and its state."""
    output, state = self._cell(inputs, state, scope)
    return output * tf1.cast(next(self._masks), output.dtype), state


def softmax_loss(config, outputs, targets):
  """Returns the cross-entropy in nats of each target.

  Args:
    config: a Config.
    outputs: [T, B, H], of the last layer.
    targets: int32 [B, T].

  Returns:
    float32 [T, B].
  """
  softmax_w, softmax_b = softmax_variables(config)
  rows = tf1.reshape(outputs, [-1, config.hidden_size])  # [T * B, H]
  labels = tf1.reshape(tf1.transpose(targets), [-1])  # [T * B]
  losses = layers.softmax_losses(rows, softmax_w, softmax_b, labels)
  return tf1.reshape(losses, [config.num_steps, -1])


def softmax_variables(config):
  """Returns softmax_w [H, V] and softmax_b [V] of the variable scope."""
  size = [config.hidden_size, config.vocab_size]
  softmax_w = tf1.get_variable("softmax_w", size, tf1.float32)
  return softmax_w, tf1.get_variable("softmax_b", size[1:], tf1.float32)


def uniform_initializer(init_scale, seed):
  """Like tf.random_uniform_initializer, but drawn statelessly.

  A variable's values depend on the seed and on how many were made before it.
  """
  drawn = itertools.count(1)

  def initialize(shape, dtype=None, partition_info=None):
    del partition_info
    # Negative, since the steps of dropout_masks are not: no number is drawn
    # for both.
    return tf1.random.stateless_uniform(
      shape, [seed, -next(drawn)], -init_scale, init_scale, dtype, alg="philox"
    )

  return initialize


def run_epoch(
  session,
  model,
  eval_op=None,
  verbose=False,
  *,
  title="",
  progress=None,
  on_step=None,
  stop=False,
):
  """Runs the model over all batches of its input, once.

  The LSTM's state starts as zeros and goes on from batch to batch: the text is
  one long stream, and what the model has read so far tells what comes next.
  On a terminal, a progress bar shows how far it is.

  Args:
    session: a Session with the model's variables initialized.
    model: a PTBModel.
    eval_op: run with each batch, such as the model's train_op.
    verbose: whether to print ten lines on the way, if there is no bar.
    title: of the bar, and of the epoch in an error.
    progress: a checkpoints.Progress, if not a new one: where in the epoch to go
      on. The input must not have been read. It says after each step, and at
      the end, how far the epoch is.
    on_step: called after each step with its loss (nats a word) and the speed so
      far (words per second).
    stop: asked for its truth after each step; if true, the epoch ends there.

  Returns:
    The perplexity: exp of the mean loss a word.

  Raises:
    DivergedError: if the loss or the gradient is not a finite number, or the
      perplexity too large for one.
  """
  fetches = {"cost": model.cost, "state": model.final_state}
  if eval_op is not None:
    fetches.update(eval_op=eval_op, grad_norm=model.grad_norm)
  size, num_steps = model.input.epoch_size, model.input.num_steps
  lines = _lines_at(size) if verbose else []
  progress = progress or checkpoints.Progress()
  model.input.skip(session, progress.step)
  if progress.state is None:
    progress.state = session.run(model.initial_state)
  start = time.perf_counter() - progress.seconds
  with _bar(size, title, progress.step) as bar:
    for step in range(progress.step, size):
      # Fed, not kept in a variable: so any number of streams can be read with
      # the same graph, each from its own state.
      feed = _feed(model.initial_state, progress.state)
      values = model.workers.run(session, fetches, feed)
      cost = float(values["cost"])  # Thousands are added up: in float64.
      progress.state = values["state"]
      progress.costs += cost
      progress.step = step + 1
      progress.seconds = time.perf_counter() - start
      iters = progress.step * num_steps
      perplexity = _perplexity(progress.costs / iters)
      if not math.isfinite(perplexity + values.get("grad_norm", 0.0)):
        raise DivergedError(_DIVERGED.format(title, progress.step, size))
      wps = iters * model.input.batch_size / progress.seconds
      if on_step:
        on_step(cost / num_steps, wps)
      bar.set_postfix_str(f"perplexity {perplexity:.1f}, {wps:.0f} wps", False)
      bar.update()
      if step in lines and bar.disable:
        print(
          f"{step / size:.3f} perplexity: {perplexity:.3f} "
          f"speed: {wps:.0f} wps",
          flush=True,
        )
      if stop:
        break
  return perplexity


_DIVERGED = (
  "{}, step {} of {}: the loss is not a finite number, or far too large. Try a "
  "smaller learning_rate, init_scale or max_grad_norm."
)


def stream_perplexity(session, model, ids, *, title="", stop=False):
  """Reads a text as one stream; predicts each word from all words before it.

  It returns what run_epoch does with batch_size 1 and num_steps 1, and leaves
  out no tail, but it takes B * T words at a time. For that the stream is cut
  into B pieces, which are read side by side, first from zeros, then each from
  the state that the piece before it left, and so on until no state changes. An
  LSTM forgets: a trained one has after some hundred words the state that it
  had the first time, whatever it started from. Then the rest of the losses
  stand, and the second reading can end. An LSTM that does not forget takes more
  readings, B at most, since after n of them the first n pieces are right.

  Args:
    session: a Session with the model's variables initialized.
    model: a PTBModel for evaluation. Its own input is not read.
    ids: of one dimension, at least two.
    title: of the progress bar, and of the text in an error.
    stop: asked for its truth after each step; if true, the reading ends there.

  Returns:
    The perplexity: exp of the mean loss of the len(ids) - 1 targets; None if it
    was stopped.

  Raises:
    DivergedError: if a loss is not a finite number, or the perplexity too large
      for one.
  """
  inputs, targets, is_real = reader.side_by_side(
    ids, model.input.batch_size, model.input.num_steps
  )  # Each [steps, B, T].
  size = len(inputs)
  is_used = is_real[0, :, 0]  # [B], the pieces that have a target.
  check_each = size // 100 + 1  # Steps. A state for each would fill the memory.
  nats = np.zeros(size)  # Of each step.
  states = {}  # After a step, when last read: [L, 2, B, H].
  state = np.array(session.run(model.initial_state))
  with _bar(size, title) as bar:
    for reading, step in itertools.product(
      range(model.input.batch_size), range(size)
    ):
      if step == 0:
        bar.reset()
        bar.set_description(f"{title}, reading {reading + 1}")
        # Each piece starts with what the one before it left; the first, as
        # there is nothing before it, with zeros.
        state = np.roll(state, 1, axis=2)
        state[:, :, 0] = 0
      feed = _feed(model.initial_state, state)
      feed[model.input.input_data] = inputs[step]
      feed[model.input.targets] = targets[step]
      state, losses = model.workers.run(
        session, [model.final_state, model.losses], feed
      )
      nats[step] = losses.T[is_real[step]].sum(dtype=float)
      if not math.isfinite(nats[step]):
        raise DivergedError(_DIVERGED.format(title, step + 1, size))
      bar.update()
      if stop:
        return None
      if step % check_each == 0 or step == size - 1:
        state = np.array(state)
        if step in states and np.allclose(
          state[:, :, is_used], states[step][:, :, is_used], *_SAME_STATE
        ):
          break
        states[step] = state
  perplexity = _perplexity(nats.sum() / (len(ids) - 1))
  if math.isinf(perplexity):
    raise DivergedError(_DIVERGED.format(title, size, size))
  return perplexity


# How much the states of two readings may differ, relatively and absolutely.
_SAME_STATE = (1e-4, 1e-4)


def _bar(size, title, done=0):
  """Returns a progress bar of `size` steps; it shows on a terminal only."""
  return tqdm.tqdm(
    total=size,
    initial=done,
    desc=title,
    disable=None,
    leave=False,
    file=sys.stdout,
  )


def _feed(initial_state, state):
  """Returns the feed_dict that starts each layer from its (c, h) in state."""
  feed = {}
  for (c, h), (c_value, h_value) in zip(initial_state, state, strict=True):
    feed[c], feed[h] = c_value, h_value
  return feed


def _perplexity(nats):
  """Returns exp(nats), infinite where it is too large for a float."""
  try:
    return math.exp(nats)
  except OverflowError:
    return math.inf


def _lines_at(size):
  """Returns the steps, from 0, after which to print: ten in an epoch.

  In a long epoch they are the tutorial's: 10, and each tenth of an epoch on.
  """
  if size >= 110:
    return range(10, size, size // 10)
  every = math.ceil(size / 10)
  return range(every - 1, size, every)


def build_models(config, corpus, seed, dtype="float32", workers=None):
  """Adds the two models to the default graph, with shared variables.

  Returns:
    (train_model, eval_model): of the training and the valid text. The latter
    computes in float32.
  """
  initializer = uniform_initializer(config.init_scale, seed)
  with tf1.name_scope("Train"):
    input_ = PTBInput(config, corpus.train, name="Input")
    with tf1.variable_scope("Model", initializer=initializer):
      train_model = PTBModel(
        True, config, input_, seed=seed, dtype=dtype, workers=workers
      )
  with tf1.name_scope("Eval"):
    input_ = PTBInput(config, corpus.valid, name="Input")
    with tf1.variable_scope("Model", reuse=True):
      eval_model = PTBModel(False, config, input_, workers=workers)
  return train_model, eval_model


def check_sizes(config, corpus):
  """Raises reader.DataError if a text is too short for a single batch."""
  sizes = (config.batch_size, config.num_steps)
  for part, ids, size in (
    ("train", corpus.train, sizes),
    ("valid", corpus.valid, sizes),
    ("test", corpus.test, (1, 1)),
  ):
    try:
      reader.epoch_size(len(ids), *size)
    except reader.DataError as error:
      raise reader.DataError(f"ptb.{part}.txt: {error}") from None


def check_memory(config):
  """Raises configs.ConfigError if the model cannot fit into memory.

  Only the least is counted: TensorFlow itself, the weights and their gradients,
  the gates of all steps, and the logits. What passes may still need too much.
  """
  size, layers_ = config.hidden_size, config.num_layers
  weights = layers_ * 8 * size**2 + 2 * size * config.vocab_size
  words = config.batch_size * config.num_steps
  activations = words * (layers_ * 4 * size + config.vocab_size)
  least = 500_000_000 + 4 * (2 * weights + activations)
  free = device.free_memory()
  if least > free and not device.has_gpu():
    raise configs.ConfigError(
      f"The model needs {least / 1e9:.1f} GB of memory at least, and there are "
      f"{free / 1e9:.1f} GB. {_MAKE_SMALLER}"
    )


def train(
  config, corpus, folder, *, seed, dtype="float32", stop=False, workers=None
):
  """Trains a model for all its epochs, then tests it; prints what it reaches.

  Args:
    config: a Config.
    corpus: a reader.Corpus, with as many words as config.vocab_size says.
    folder: a RunFolder or NoRunFolder, to keep the results. If it has a
      checkpoint, the training goes on from there.
    seed: of the initial weights and the dropout masks.
    dtype: that of training, as PTBModel takes it.
    stop: asked for its truth after each step; if true, a checkpoint is written,
      the valid perplexity is printed, and that is the end.
    workers: a OneWorker or Workers, that train together. The run is in the
      folder of the first; the others have a NoRunFolder.

  Returns:
    The last epoch's numbers, a dictionary, with the test perplexity; None if it
    was stopped.

  Raises:
    DivergedError: if the loss is no longer a finite number.
    run_folder.RunFolderError: if the folder cannot be written.
    checkpoints.CheckpointError: if it has checkpoints, but none is whole.
    WorkersError: if another worker was lost.
  """
  workers = workers or OneWorker()
  with tf1.Graph().as_default(), workers.device():
    train_model, eval_model = build_models(config, corpus, seed, dtype, workers)
    with workers.session() as session:
      session.run(tf1.global_variables_initializer())
      progress = folder.restore(session, train_model)
      progress = workers.copy_first(session, progress)
      while len(progress.epochs) < config.max_max_epoch:
        if stop:
          tell(f"Stopped before epoch {progress.epoch}.")
          return None
        if not train_epoch(
          session, train_model, eval_model, config, progress, folder, stop
        ):
          return None
      perplexity = stream_perplexity(
        session, eval_model, corpus.test, title="Test", stop=stop
      )
      if perplexity is None:
        tell("Stopped before the test perplexity was known.")
        return None
      print(f"Test Perplexity: {perplexity:.3f}", flush=True)
      numbers = {**progress.epochs[-1], "test_perplexity": perplexity}
      folder.finish(numbers["global_step"], numbers)
  return numbers


def train_epoch(
  session, train_model, eval_model, config, progress, folder, stop
):
  """Trains to the end of an epoch, validates the weights and saves them.

  Args:
    session: a Session with the variables.
    train_model: the PTBModel in training.
    eval_model: that for evaluation, of the valid text.
    config: a Config.
    progress: a checkpoints.Progress. If it is in the middle of an epoch, the
      training goes on from there; afterwards it is in the middle if `stop` was
      true, else at the start of the next epoch.
    folder: as in `train`, like `stop` and what it raises.
    stop: asked for its truth after each step.

  Returns:
    Whether the epoch came to its end.
  """
  epoch = progress.epoch
  learning_rate = config.learning_rate_of(epoch)
  train_model.assign_lr(session, learning_rate)
  print(f"Epoch: {epoch} Learning rate: {learning_rate:.3f}", flush=True)
  size = train_model.input.epoch_size
  steps_before = (epoch - 1) * size

  def on_step(loss, wps):
    step = steps_before + progress.step
    if progress.step % math.ceil(size / 100) == 0:
      values = {"loss": loss, "learning_rate": learning_rate, "wps": wps}
      folder.add_step(step, values)
    # After the last step the epoch's end will save, and a stop will.
    if folder.is_due() and progress.step < size and not stop:
      folder.save(session, step, progress)

  train_perplexity = run_epoch(
    session,
    train_model,
    train_model.train_op,
    verbose=True,
    title=f"Epoch {epoch}",
    progress=progress,
    on_step=on_step,
    stop=stop,
  )
  is_whole = progress.step == size
  global_step = steps_before + progress.step
  if is_whole:
    print(
      f"Epoch: {epoch} Train Perplexity: {train_perplexity:.3f}", flush=True
    )
  else:
    folder.save(session, global_step, progress)
    tell(f"Stopped in epoch {epoch}, after step {progress.step} of {size}.")
  title = f"Epoch {epoch}, valid"
  valid_perplexity = run_epoch(session, eval_model, title=title)
  print(f"Epoch: {epoch} Valid Perplexity: {valid_perplexity:.3f}", flush=True)
  if is_whole:
    words = size * config.batch_size * config.num_steps
    numbers = {
      "epoch": epoch,
      "learning_rate": learning_rate,
      "train_perplexity": train_perplexity,
      "valid_perplexity": valid_perplexity,
      "wps": round(words / progress.seconds, 1),
      "train_seconds": round(progress.seconds, 3),
      "global_step": global_step,
    }
    progress.end_epoch(numbers)
    folder.add_epoch(global_step, numbers)
    # Not before they were validated: the last update may have ruined them.
    folder.save(session, global_step, progress)
  return is_whole


def evaluate(config, corpus, checkpoint):
  """Prints the valid and the test perplexity of a checkpoint.

  Args:
    config: a Config.
    corpus: a reader.Corpus, with as many words as config.vocab_size says.
    checkpoint: its path, without .index.

  Returns:
    (valid_perplexity, test_perplexity).

  Raises:
    checkpoints.CheckpointError: if it is damaged, or one of another model.
  """
  with tf1.Graph().as_default():
    with tf1.variable_scope("Model"):
      model = PTBModel(False, config, PTBInput(config, corpus.valid))
    with tf1.Session() as session:
      checkpoints.restore_variables(session, checkpoint)
      tell(f"Evaluating {checkpoint}.")
      valid_perplexity = run_epoch(session, model, title="Valid")
      print(f"Valid Perplexity: {valid_perplexity:.3f}", flush=True)
      test_perplexity = stream_perplexity(
        session, model, corpus.test, title="Test"
      )
      print(f"Test Perplexity: {test_perplexity:.3f}", flush=True)
  return valid_perplexity, test_perplexity


def define_flags():
  """Defines the command line's flags."""
  flags.DEFINE_string(
    "data_path",
    None,
    "The folder with ptb.train.txt, ptb.valid.txt, and ptb.test.txt.",
  )
  flags.DEFINE_enum(
    "model", "small", list(configs.CONFIGS), "The hyper-parameters to take."
  )
  flags.DEFINE_string(
    "hparams",
    "",
    "Hyper-parameters to change, as in max_max_epoch=1,hidden_size=300.",
  )
  flags.DEFINE_enum(
    "rnn_mode",
    None,
    list(configs.RNN_MODES),
    "How the LSTM is computed: basic unrolls TensorFlow's BasicLSTMCell, block "
    "does the same as one layer over all steps. (default: basic for small, "
    "else block)",
  )
  flags.DEFINE_boolean(
    "use_fp16",
    False,
    "Train in 16 bits: bfloat16, or float16 on a GPU that has no bfloat16. "
    "Weights, loss and evaluation stay float32.",
  )
  flags.DEFINE_integer(
    "seed",
    1,
    "What the initial weights and the dropout masks are drawn from.",
    lower_bound=0,
    upper_bound=2**31 - 1,
  )
  flags.DEFINE_string(
    "save_path",
    None,
    "The folder for checkpoints, TensorBoard summaries and results. If it has "
    "the same run in it, that run goes on. Without it, nothing is written.",
  )
  flags.DEFINE_float(
    "checkpoint_minutes",
    10.0,
    "Minutes between checkpoints; each epoch ends with one, too.",
  )
  flags.register_validator(
    "checkpoint_minutes",
    lambda minutes: minutes >= 0,  # And no NaN.
    "--checkpoint_minutes must be 0 or more.",
  )
  flags.DEFINE_integer(
    "num_gpus",
    None,
    "Train with a worker on each of so many GPUs. (default: one process, with "
    "the GPU that TensorFlow takes, if there is one)",
    lower_bound=1,
  )
  flags.DEFINE_float(
    "wait_for_workers",
    300.0,
    "Seconds to wait for the other workers that TF_CONFIG lists.",
  )
  flags.register_validator(
    "wait_for_workers",
    lambda seconds: seconds >= 0,  # And no NaN.
    "--wait_for_workers must be 0 or more.",
  )
  flags.DEFINE_boolean(
    "exchange_fp16",
    False,
    "Workers exchange gradients in bfloat16: half of the traffic.",
  )
  flags.DEFINE_boolean(
    "evaluate",
    False,
    "Do not train: print the valid and the test perplexity of a checkpoint.",
  )
  flags.DEFINE_string(
    "checkpoint",
    None,
    "Which one to evaluate: last (the default), best by its valid perplexity, "
    "or another name in --save_path; or a path, without .index. Without "
    "--save_path, the sizes are those of the checkpoint, and --model and "
    "--hparams say how to batch.",
  )


def main(argv):
  """Trains as the flags say; returns the exit status."""
  return command.run(
    "ptb_word_lm.py",
    argv,
    lambda: _main(flags.FLAGS),
    too_large=_MAKE_SMALLER,
  )


def _main(args):
  """Trains or evaluates; returns the exit status."""
  if args.data_path is None:
    raise reader.DataError(
      "--data_path is missing: the folder with ptb.train.txt, ptb.valid.txt "
      "and ptb.test.txt (scripts/download_ptb.sh makes simple-examples/data)."
    )
  addresses, index = workers_in(os.environ.get("TF_CONFIG"))
  if args.evaluate and len(addresses) > 1:
    raise configs.ConfigError(
      "--evaluate is for one process: start it without TF_CONFIG."
    )
  if args.num_gpus is not None and not args.evaluate:
    _take_gpus(args, len(addresses))
  return _evaluate(args) if args.evaluate else _train(args, addresses, index)


def _take_gpus(args, size):
  """Starts a worker for each of --num_gpus, in place of this process, if many.

  Args:
    args: the flags.
    size: how many workers TF_CONFIG lists.

  Raises:
    configs.ConfigError: if there are fewer, or this is a worker already.
  """
  found = len(tf1.config.list_physical_devices("GPU"))
  if args.num_gpus > found:
    raise configs.ConfigError(
      f"--num_gpus={args.num_gpus} are more than the {found} that TensorFlow "
      "finds here. Make it smaller, or leave it out."
    )
  if args.num_gpus > 1 and size > 1:
    raise configs.ConfigError(
      f"--num_gpus={args.num_gpus} starts workers, but TF_CONFIG says that "
      "this is one already. Leave either out."
    )
  if args.num_gpus > 1:
    script = pathlib.Path(__file__).parent / "scripts" / "launch_local.py"
    argv = [sys.executable, str(script), "-n", str(args.num_gpus), "--gpus"]
    os.execv(sys.executable, [*argv, *sys.argv[1:], "--num_gpus=1"])


def _train(args, addresses, index):
  """Trains as the flags say; returns the exit status.

  Args:
    args: the flags.
    addresses: of the workers, if there are several.
    index: which one this is.
  """
  if args.checkpoint is not None:
    raise configs.ConfigError(
      "--checkpoint is for --evaluate. A run goes on from its newest one."
    )
  if args.save_path is None:
    refuse(args, ["checkpoint_minutes"], "no --save_path")
  if len(addresses) < 2:
    refuse(args, _OF_WORKERS, "a single worker")
  config = configs.override(configs.CONFIGS[args.model](), args.hparams)
  corpus = reader.read_corpus(args.data_path)
  choices = preparation.read(args.data_path)
  best_perplexity = sample_corpus.best_perplexity(args.data_path)
  config = dataclasses.replace(
    config,
    vocab_size=len(corpus.vocabulary),
    rnn_mode=args.rnn_mode or config.rnn_mode,
  )
  check_sizes(config, corpus)
  check_memory(config)
  dtype = "float32"
  if args.use_fp16:
    dtype = device.half_precision(config.vocab_size)
  about = {
    "model": args.model,
    "seed": args.seed,
    "dtype": dtype,
    "config": dataclasses.asdict(config),
    "data_sha256": corpus.sha256,
  }
  if choices is not None:
    about["preparation"] = dataclasses.asdict(choices)
  if args.exchange_fp16:
    about["exchange_fp16"] = True
  workers = find_workers(
    addresses,
    index,
    config.batch_size,
    wait=args.wait_for_workers,
    fp16=args.exchange_fp16,
  )
  with workers, workers.output():
    workers.check_alike(about)
    folder = run_folder.NoRunFolder()
    if args.save_path is not None and index == 0:
      folder = run_folder.RunFolder(
        args.save_path, about, corpus.vocabulary, args.checkpoint_minutes
      )
    with folder:
      result = workers.of_first(folder.result)
      if result:
        _print_result(args.save_path, result)
      else:
        _tell_start(args, config, corpus, dtype, workers.size)
        with StopRequest() as own_stop:
          stop = workers.stop_of_any(own_stop)
          numbers = train(
            config,
            corpus,
            folder,
            seed=args.seed,
            dtype=dtype,
            stop=stop,
            workers=workers,
          )
        if numbers is None:
          return 128 + stop.signum
    if best_perplexity is not None:
      print(f"Best reachable test perplexity: {best_perplexity:.3f}")
  return 0


def _tell_start(args, config, corpus, dtype, size):
  """Says what will be trained, on what, by how many workers."""
  one_of = f"one of {size} workers, " if size > 1 else ""
  tell(
    f"Training the {args.model} model on {one_of}{device.name()} with "
    f"TensorFlow {tf1.version.VERSION}, rnn_mode {config.rnn_mode}, in {dtype}"
    f": {len(corpus.train):,} words, {config.vocab_size:,} different ones."
  )
  if args.use_fp16 and not device.has_units_for(dtype):
    tell(
      f"This processor has no units for {dtype}: training will be slower than "
      "without --use_fp16."
    )


def _print_result(path, result):
  """Prints what a finished run reached."""
  tell(f"The run in {path} is finished." if path else "The run is finished.")
  for part in ("train", "valid"):
    value = result[f"{part}_perplexity"]
    print(f"Epoch: {result['epoch']} {part.title()} Perplexity: {value:.3f}")
  print(f"Test Perplexity: {result['test_perplexity']:.3f}")


def _evaluate(args):
  """Evaluates as the flags say; returns the exit status."""
  refuse(
    args,
    ["seed", "use_fp16", "checkpoint_minutes", "num_gpus", *_OF_WORKERS],
    "--evaluate",
  )
  corpus = reader.read_corpus(args.data_path)
  if args.save_path is not None:
    config, checkpoint = _checkpoint_of_run(args, corpus)
  elif args.checkpoint not in (None, "", "best", "last"):
    config, checkpoint = _checkpoint_alone(args, corpus)
  else:
    raise configs.ConfigError(
      "--evaluate needs the folder of a run, --save_path, or the path of a "
      "--checkpoint."
    )
  check_sizes(config, corpus)
  evaluate(config, corpus, checkpoint)
  return 0


def _checkpoint_of_run(args, corpus):
  """Returns (config, path) of the checkpoint to evaluate in --save_path."""
  refuse(args, ["model", "hparams", "rnn_mode"], "--evaluate --save_path")
  config = run_folder.config_of(args.save_path, corpus.vocabulary)
  return config, checkpoints.find(args.save_path, args.checkpoint or "last")


def _checkpoint_alone(args, corpus):
  """Returns (config, path) of a checkpoint that is in no run's folder."""
  model = configs.CONFIGS[args.model]()
  config = configs.override(model, args.hparams)
  batch = {"batch_size": config.batch_size, "num_steps": config.num_steps}
  if config != dataclasses.replace(model, **batch):
    raise configs.ConfigError(
      "Only batch_size and num_steps have an effect with --evaluate "
      "--checkpoint; leave the other --hparams out."
    )
  config = dataclasses.replace(
    config,
    **checkpoints.sizes_in(args.checkpoint),
    rnn_mode=args.rnn_mode or config.rnn_mode,
  )
  if config.vocab_size != len(corpus.vocabulary):
    raise reader.DataError(
      f"{args.checkpoint} is of a model of {config.vocab_size:,} words, but "
      f"ptb.train.txt has {len(corpus.vocabulary):,} different ones. Name the "
      "folder of the text that it was trained on."
    )
  return config, args.checkpoint


_OF_WORKERS = ("wait_for_workers", "exchange_fp16")

_MAKE_SMALLER = "Make hidden_size, num_layers, batch_size or num_steps smaller."


if __name__ == "__main__":
  define_flags()
  app.run(main)
