"""Trains the LSTM language model of Zaremba et al. 2014 on the Penn Treebank.

  python ptb_word_lm.py --data_path=simple-examples/data --model=small

The paper: Recurrent Neural Network Regularization, arXiv:1409.2329. Training
uses truncated back-propagation through time: it reads the text in pieces of
num_steps words, and carries the LSTM's state from each piece to the next.

Dimensions in the comments: B = batch_size, T = num_steps, H = hidden_size,
V = vocab_size, L = num_layers. Tensors inside the model are time-major,
[T, B, ...].
"""

from lm.base import imports

if __name__ == "__main__":
  imports.report_failures()

import dataclasses
import math
import os
import sys
import time

import numpy as np

import configs
import language_model
import reader
from configs import LargeConfig, MediumConfig, SmallConfig, TestConfig  # noqa: F401
from lm.base import command, device, tf1
from lm.base.command import tell
from lm.base.signals import StopRequest
from lm.model import choices, network, softmax
from lm.model.config import SIZES, check_sizes_kept, config_of, fields, parse
from lm.model.gradients import (
  clip_factor,
  gradients_of,
  multiplied,
  with_distinct_rows,
)
from lm.model.random_draws import dropout_masks, uniform_initializer
from lm.run import checkpoints, trained
from lm.run.run import Run
from lm.training import training_flags
from lm.training.perplexity import DivergedError, perplexity_of, state_feed
from lm.training.reports import (
  Reporter,
  report_best,
  report_result,
  report_source,
  report_start,
)
from lm.training.stream import stream_perplexity
from lm.workers.tf_config import refuse_workers, workers_in
from lm.workers.workers import ALONE, find_workers

BASIC, BLOCK, CUDNN = "basic", "block", "cudnn"  # The tutorial's constants.


class PTBInput:
  """A data set as batches.

  Attributes:
    batch_size: B.
    num_steps: T.
    vocab_size: the config's V; None if the config has none.
    epoch_size: the number of batches.
    index: int32 scalar, the number of the batch, from 0. Each session.run reads
      the next batch, unless you feed the index.
    input_data: int32 [B, T], the words of the batch; of its rows, only `rows`.
    targets: int32 [B, T], the words that follow.
    rows: a slice, the rows of the batch that this process reads.
    eos: the id of <eos>, which a config with by_sentence needs; or None.
  """

  def __init__(self, config, data, name=None, *, rows=slice(None), eos=None):
    """Adds the tensors of the batches to the default graph.

    Args:
      config: a Config, or any object with batch_size and num_steps.
      data: the ids of the text, whole numbers in one dimension.
      name: the name of the scope of the operations.
      rows: see the attribute.
      eos: see the attribute.

    Raises:
      reader.DataError: if there are too few words for one batch, or if an id is
        negative or not below the config's vocab_size.
      RuntimeError: in eager mode.
    """
    self.vocab_size = getattr(config, "vocab_size", None)
    reader.check_ids(data, self.vocab_size)
    self.batch_size = config.batch_size
    self.num_steps = config.num_steps
    self.epoch_size = reader.epoch_size(
      len(data), self.batch_size, self.num_steps
    )
    self.rows, self.eos = rows, eos
    with tf1.name_scope(name, "PTBInput"):
      self.index = reader.next_index(self.epoch_size)
      self.input_data, self.targets = reader.batch_at(
        self.index, data, self.batch_size, self.num_steps, rows
      )


class PTBModel:
  """The graph: embedding, LSTM layers, softmax, loss and, in training, SGD.

  Build it in a variable scope "Model". Build the model for evaluation in the
  same scope with reuse=True, after the one for training. The variables, the
  loss and the state that is fed and fetched are float32.

  In training, dropout applies to the embedded words and to the outputs of each
  layer, that is, to all connections from layer to layer. It never applies to
  the state, which connects the time steps: that would erase what the LSTM
  remembers (the paper's section 3.2). The code is in lm/model/network.py.

  Attributes:
    input: the PTBInput.
    dtype: the type of the matrix products.
    logits: float32 [T * B, V], of the words that follow, ordered by time step.
      The first access adds them to the graph.
    initial_state: a tuple with a pair (c, h) for each layer, each float32
      [B, H]: zeros, unless you feed it.
    final_state: the state after T steps; feed it as the next initial_state.
    losses: float32 [T, B], in nats: the cross-entropy of each target or, in
      training with num_samples, an estimate of it.
    cost: float32 scalar, the losses summed over time and averaged over the
      batch.
    global_step: int64 scalar, the number of training steps so far.
    lr: float32 scalar, the learning rate. It and the attributes below exist
      only in training.
    gradients: a list with the float32 gradient of each trainable variable, some
      of them tf.IndexedSlices: not clipped, and in float16 times 1024.
    grad_norm: float32 scalar, the global norm of the gradients, without this
      factor.
    train_op: one step of the optimizer, by default SGD.
  """

  def __init__(
    self, is_training, config, input_, *, seed=0, dtype="float32", workers=ALONE
  ):
    """Adds the model to the default graph.

    Args:
      is_training: whether to drop out units and to add a train_op.
      config: a Config, or any object with the TF1 tutorial's attributes.
      input_: a PTBInput, or any object with its attributes input_data and
        targets.
      seed: the seed of the dropout masks, a whole number.
      dtype: "float32", "tf32", "bfloat16" or "float16": the type of the matrix
        products. "tf32" has an effect only in run_epoch and on a GPU.
      workers: a OneWorker or Workers of lm/workers, which adds up the costs and
        the gradients of processes that share a batch.

    Raises:
      ConfigError: if a hyper-parameter is missing or wrong, or does not fit the
        input.
      RuntimeError: in eager mode.
    """
    tf1.require_graph("PTBModel")
    config = config_for(config, input_)
    self.input, self.dtype, self._logits = input_, dtype, None
    dtype = "float32" if dtype == device.TF32 else dtype  # The tensors' type.
    # In the root scope, so that its name is not Model/global_step.
    with tf1.variable_scope(tf1.VariableScope(tf1.AUTO_REUSE, name="")):
      self.global_step = tf1.train.get_or_create_global_step()
    masks, sample_seed = [None] * (config.num_layers + 1), None
    if is_training and config.keep_prob < 1:
      batch_rows = getattr(input_, "rows", slice(None))
      masks = dropout_masks(config, [seed, self.global_step], batch_rows)
    if is_training and config.num_samples:
      # Without the offset, it would repeat the dropout masks' random numbers.
      sample_seed = tf1.stack([seed, self.global_step + (1 << 40)])
    # B, unless processes share a batch.
    own_rows = input_.input_data.shape.as_list()[0] or config.batch_size
    self.initial_state = _zero_state(own_rows, config)

    xs = network.embed(config, input_.input_data)  # [T, B, H]
    eos = getattr(input_, "eos", None)
    kept = network.kept_states(config, input_.input_data, eos)
    rows, self.final_state = network.unrolled_layers(
      config, xs, self.initial_state, masks, dtype, kept
    )  # [T * B, H]
    self._config, self._rows = config, rows
    self._scope = tf1.get_variable_scope()
    self.losses = softmax.model_losses(
      config, rows, input_.targets, is_training, sample_seed
    )  # [T, B]
    # Averaged over the batch but summed over time: the paper's learning rate
    # and clipping norm are for this gradient, T times that of the mean.
    own_cost = tf1.reduce_sum(tf1.reduce_mean(self.losses, axis=1))
    own_cost *= own_rows / config.batch_size
    self.cost = workers.sum(own_cost)
    if is_training:
      # float16 rounds numbers below 6e-8 to zero. With the loss scaled up,
      # small gradients survive; they are scaled down again in float32.
      loss_scale = 1024.0 if dtype == "float16" else 1.0
      gradients, variables = gradients_of(own_cost * loss_scale, config)
      self.gradients = workers.sum_of_gradients(
        gradients, config.num_steps * own_rows
      )
      self._add_training(variables, config.max_grad_norm, loss_scale)

  @property
  def logits(self):
    if self._logits is None:
      with (
        self._rows.graph.as_default(),
        tf1.variable_scope(self._scope, reuse=True),
      ):
        rows = tf1.cast(self._rows, tf1.float32)
        self._logits = tf1.nn.xw_plus_b(rows, *softmax.variables(self._config))
    return self._logits

  def optimizer(self, learning_rate):
    """Returns the optimizer of the train_op; a subclass may return another.

    Args:
      learning_rate: a float32 scalar tensor, the value that `assign_lr` sets.

    Returns:
      A tf.compat.v1.train.Optimizer. It gets the clipped gradients.
    """
    return tf1.train.GradientDescentOptimizer(learning_rate)

  def _add_training(self, variables, max_grad_norm, loss_scale):
    """Adds train_op, a step with clipped gradients (the paper's section 4.1).

    `variables` are those of self.gradients, which are times loss_scale.
    """
    # Checkpoints of a run leave it out: the rate follows from the epoch.
    collections = [tf1.GraphKeys.GLOBAL_VARIABLES, checkpoints.NOT_SAVED]
    self.lr = tf1.Variable(
      0.0, trainable=False, collections=collections, name="learning_rate"
    )
    self._new_lr = tf1.placeholder(tf1.float32, [], "new_learning_rate")
    self._lr_update = self.lr.assign(self._new_lr)
    # The embedding's gradient is sparse: a row for each of the T * B words. As
    # in TF1, a word that occurs twice counts as two rows in the norm.
    self.grad_norm = tf1.global_norm(self.gradients) / loss_scale
    factor = clip_factor(self.grad_norm, max_grad_norm) / loss_scale
    gradients = map(with_distinct_rows, self.gradients)
    if type(self).optimizer is PTBModel.optimizer:
      # Clipping multiplies all gradients by one factor. For SGD, the learning
      # rate times this factor gives the same step, without a pass over them.
      optimizer = self.optimizer(self.lr * factor)
    else:
      optimizer = self.optimizer(self.lr)
      gradients = [multiplied(gradient, factor) for gradient in gradients]
    self.train_op = optimizer.apply_gradients(
      zip(gradients, variables, strict=True), self.global_step
    )

  def assign_lr(self, session, lr_value):
    """Sets the learning rate of the next steps."""
    session.run(self._lr_update, {self._new_lr: lr_value})


def config_for(config, input_):
  """Returns a Config with the sizes of the input's batches.

  Args:
    config: a Config, or any object with the TF1 tutorial's attributes.
    input_: the model's input.

  Raises:
    ConfigError: if a hyper-parameter is missing or wrong, or if the input may
      have ids beyond vocab_size.
  """
  config = config_of(config)
  rows, steps = input_.input_data.shape.as_list()
  sizes = {
    "batch_size": getattr(input_, "batch_size", rows),
    "num_steps": steps,
  }
  for name, size in sizes.items():
    if size is not None:
      setattr(config, name, size)
  size = getattr(input_, "vocab_size", None) or config.vocab_size
  if size > config.vocab_size:
    raise configs.ConfigError(
      f"vocab_size is {size} in the input's config, but {config.vocab_size} in "
      "the model's config: use the same value in both."
    )
  return config


def _zero_state(rows, config):
  """Returns a pair (c, h) for each layer, each float32 [rows, H], zeros.

  Programs feed and fetch these tensors by the names that TensorFlow 1 gave
  them.
  """
  zeros = tf1.zeros([rows, config.hidden_size])
  state = []
  with tf1.name_scope("MultiRNNCellZeroState"):
    for _ in range(config.num_layers):
      with tf1.name_scope("BasicLSTMCellZeroState"):
        c, h = (tf1.identity(zeros, name="zeros") for _ in "ch")
        state.append(tf1.rnn_cell.LSTMStateTuple(c, h))
  return tuple(state)


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
  workers=ALONE,
):
  """Runs the model over all batches of its input, once.

  The LSTM's state starts as zeros and is carried from batch to batch: the text
  is B long streams, and all words of a stream help to predict the next one.

  Args:
    session: a Session with the model's variables initialized.
    model: a PTBModel, or a model with the TF1 tutorial's attributes cost,
      initial_state and final_state (a pair (c, h) for each layer), and an
      input with epoch_size and num_steps.
    eval_op: an operation to run with each batch, such as the model's train_op.
    verbose: whether to print ten lines on the way, if there is no progress bar.
    title: a name for the progress bar and for errors.
    progress: a checkpoints.Progress: where in the epoch to start. Each step
      updates it.
    on_step: a function to call after each step with its mean loss (nats per
      word) and the speed of the epoch so far (words per second).
    stop: an object that is checked after each step; if it is true, the epoch
      ends.
    workers: see PTBModel.

  Returns:
    The perplexity: exp of the mean loss per word, over all words read so far.

  Raises:
    DivergedError: if the loss or the gradient is not a finite number, or the
      perplexity is too large for one.
  """
  size, num_steps = model.input.epoch_size, model.input.num_steps
  progress = progress or checkpoints.Progress()
  fetches = {"cost": model.cost, "state": model.final_state}
  if eval_op is not None:
    fetches["eval_op"] = eval_op
    if hasattr(model, "grad_norm"):
      fetches["grad_norm"] = model.grad_norm
  index = getattr(model.input, "index", None)
  if progress.state is None:
    progress.state = session.run(model.initial_state)
  rows = len(progress.state[0][0])
  batch_size = getattr(model.input, "batch_size", rows)
  start = time.perf_counter() - progress.seconds
  reporter = Reporter(size, title, progress.step, verbose)
  with reporter, device.products_in(getattr(model, "dtype", None)):
    for step in range(progress.step, size):
      feed = state_feed(model.initial_state, progress.state)
      if index is not None:
        feed[index] = step
      values = workers.run(session, fetches, feed)
      progress.state = values["state"]
      # The sum of thousands of costs needs float64.
      progress.costs += float(values["cost"])
      progress.step += 1
      progress.seconds = time.perf_counter() - start
      perplexity = perplexity_of(progress.costs / progress.step / num_steps)
      if not math.isfinite(perplexity + float(values.get("grad_norm", 0))):
        raise DivergedError(title, progress.step, size)
      words = progress.step * num_steps * batch_size
      wps = words / progress.seconds
      reporter.report(step, perplexity, wps)
      if on_step:
        on_step(float(values["cost"]) / num_steps, wps)
      if stop:
        break
  return perplexity


def data_type():
  """Returns the type of the variables, the loss and the state."""
  return tf1.float32


def get_config(model="small"):
  """Returns the Config of a model: small, medium, large or test.

  Raises:
    ConfigError: if there is no model of this name.
  """
  if model not in configs.CONFIGS:
    raise configs.ConfigError(
      f"{model!r} is not a model. Choose one of {', '.join(configs.CONFIGS)}."
    )
  return configs.CONFIGS[model]()


def build_models(
  config, corpus, seed, dtype="float32", workers=ALONE, model_class=PTBModel
):
  """Adds models for training and for evaluation to the default graph.

  They have the same variables.

  Args:
    config: a Config.
    corpus: a reader.Corpus.
    seed: the seed of the weights and the dropout masks.
    dtype: see PTBModel.
    workers: see PTBModel.
    model_class: PTBModel or a subclass.

  Returns:
    (train_model, eval_model), which read corpus.train and corpus.valid.
  """
  initializer = uniform_initializer(config.init_scale, seed)
  options = {"rows": workers.rows, "eos": corpus.eos}
  with tf1.name_scope("Train"):
    input_ = PTBInput(config, corpus.train, "Input", **options)
    with tf1.variable_scope("Model", initializer=initializer):
      train_model = model_class(
        True, config, input_, seed=seed, dtype=dtype, workers=workers
      )
  with tf1.name_scope("Eval"):
    input_ = PTBInput(config, corpus.valid, "Input", **options)
    with tf1.variable_scope("Model", reuse=True):
      eval_model = model_class(False, config, input_, workers=workers)
  return train_model, eval_model


def train(
  run, corpus, folder, *, stop=False, workers=ALONE, model_class=PTBModel
):
  """Trains a model to its last epoch and tests it; prints the perplexities.

  Args:
    run: the Run to train.
    corpus: a reader.Corpus with run.config.vocab_size words.
    folder: a RunFolder, claimed for the run, or a NoRunFolder. Training resumes
      from its newest checkpoint.
    stop: as in run_epoch. If it stops an epoch, the training still saves a
      checkpoint and prints the valid perplexity.
    workers: see PTBModel.
    model_class: PTBModel or a subclass. Resume a run with the same class.

  Returns:
    A dictionary with the numbers of the last and of the best epoch and the test
    perplexity; None if the training was stopped.

  Raises:
    InputError: if the training diverges, or if a file cannot be written.
  """
  config = run.config
  with tf1.Graph().as_default(), workers.device():
    # TF_DETERMINISTIC_OPS wants it; every draw has a seed of its own.
    tf1.set_random_seed(run.seed)
    models = build_models(
      config, corpus, run.seed, run.dtype, workers, model_class
    )
    with workers.session() as session:
      session.run(tf1.global_variables_initializer())
      if run.init_checkpoint:
        checkpoints.restore_variables(session, run.init_checkpoint)
      shape = [config.num_layers, 2, config.batch_size, config.hidden_size]
      progress = folder.restore(session, shape)
      workers.broadcast(session, tf1.global_variables())
      while not config.ends_after(progress.valid_perplexities):
        if stop:
          where = f"before epoch {progress.epoch}"
          if progress.step:
            where = f"in epoch {progress.epoch}, after step {progress.step}"
          tell(f"Stopped {where}.")
          return None
        if not train_epoch(
          session, models, config, progress, folder, stop, workers
        ):
          return None
      best = checkpoints.best_epoch(progress.epochs)
      if len(progress.epochs) < config.max_max_epoch:
        tell(
          f"No better valid perplexity since epoch {best['epoch']}: "
          f"patience={config.patience} ends the training."
        )
      perplexity = stream_perplexity(
        session,
        models[1],
        corpus.test,
        title="Test",
        stop=stop,
        workers=workers,
      )
      if perplexity is None:
        tell("Stopped before the test perplexity was known.")
        return None
      print(f"Test Perplexity: {perplexity:.3f}", flush=True)
      names = "epoch", "train_perplexity", "valid_perplexity"
      numbers = {**progress.epochs[-1], "test_perplexity": perplexity}
      numbers |= {f"best_{name}": best[name] for name in names}
      folder.finish(numbers["global_step"], numbers)
  return numbers


def train_epoch(session, models, config, progress, folder, stop, workers):
  """Trains to the end of an epoch, validates the weights and saves them.

  It starts where `progress` says, and updates it. `models` are those of
  `build_models`; the other arguments are those of `train`.

  Returns:
    Whether the epoch was completed; if not, it was stopped.
  """
  train_model, eval_model = models
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
      folder.summarize(step, "train/", values)
    # The end of the epoch and a stop write a checkpoint anyway.
    if folder.is_due and progress.step < size and not stop:
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
    workers=workers,
  )
  step = steps_before + progress.step
  is_complete = progress.step == size
  if is_complete:
    print(
      f"Epoch: {epoch} Train Perplexity: {train_perplexity:.3f}", flush=True
    )
  else:
    folder.save(session, step, progress)
    tell(f"Stopped in epoch {epoch}, after step {progress.step} of {size}.")
  title = f"Epoch {epoch}, valid"
  valid_perplexity = run_epoch(
    session, eval_model, title=title, workers=workers
  )
  print(f"Epoch: {epoch} Valid Perplexity: {valid_perplexity:.3f}", flush=True)
  if is_complete:
    words = size * config.batch_size * config.num_steps
    numbers = {
      "epoch": epoch,
      "learning_rate": learning_rate,
      "train_perplexity": train_perplexity,
      "valid_perplexity": valid_perplexity,
      "wps": round(words / progress.seconds, 1),
      "train_seconds": round(progress.seconds, 3),
      "global_step": step,
    }
    progress.end_epoch(numbers)
    folder.summarize(step, "epoch/", numbers)
    # Only after the validation: the last update may have ruined the weights.
    folder.save(session, step, progress)
  return is_complete


def check_texts_and_memory(config, corpus):
  """Raises InputError if a text or the memory is too small."""
  reader.check_sizes(corpus, config.batch_size, config.num_steps)
  words = config.batch_size * config.num_steps
  device.check_memory([config], words)


def evaluate(config, corpus, model):
  """Prints and returns the valid and the test perplexity of a Trained."""
  with tf1.Graph().as_default(), device.session() as session:
    tf1.set_random_seed(1)  # Nothing is drawn; TF_DETERMINISTIC_OPS wants it.
    with tf1.variable_scope("Model"):
      input_ = PTBInput(config, corpus.valid, eos=corpus.eos)
      eval_model = PTBModel(False, config, input_)
    description = model.restore(session) or f"{model.checkpoint}."
    tell(f"Evaluating {description}")
    valid_perplexity = run_epoch(session, eval_model, title="Valid")
    print(f"Valid Perplexity: {valid_perplexity:.3f}", flush=True)
    test_perplexity = stream_perplexity(
      session, eval_model, corpus.test, title="Test"
    )
    print(f"Test Perplexity: {test_perplexity:.3f}", flush=True)
  return valid_perplexity, test_perplexity


def evaluate_adapting(corpus, model, learning_rate, num_steps):
  """Prints the perplexities of a Trained that keeps learning while it reads.

  Each text is one stream, and starts from the trained weights.
  """
  with language_model.LanguageModel(
    [model], adapt=learning_rate, adapt_steps=num_steps
  ) as adapting:
    for title, ids in (("Valid", corpus.valid), ("Test", corpus.test)):
      log_probs, _, _ = adapting.score_stream(ids)
      perplexity = perplexity_of(-np.mean(log_probs))
      if math.isinf(perplexity):
        raise command.InputError(
          f"{title}: the perplexity is too large for a floating-point number. "
          "Choose a smaller --adapt."
        )
      print(f"{title} Perplexity: {perplexity:.3f}", flush=True)


def define_flags(define):
  """Defines the command line's flags."""
  training_flags.define_flags(define, list(configs.CONFIGS))
  language_model.define_adapt(define)


def advice_for(flag):
  """Returns advice if an unknown flag is a hyper-parameter; else None."""
  return f"Use --hparams={flag}=VALUE." if flag in fields() else None


@command.entry_point(
  "ptb_word_lm.py",
  define_flags,
  advice_for=advice_for,
  too_large=device.TOO_LARGE,
)
def main(args):
  """Trains or evaluates as the flags say; returns the exit status."""
  return run_evaluation(args) if args.evaluate else run_training(args)


def run_training(args):
  """Trains as the flags say; returns the exit status."""
  addresses, index = workers_in(os.environ.get("TF_CONFIG"))
  training_flags.refuse_for_training(args, len(addresses))
  device.prepare(args.num_gpus, len(addresses), args.deterministic)
  source = find_source(args)
  config, corpus = read_input(args, source)
  config.check_samples(len(addresses))
  options = {"wait": args.wait_for_workers, "fp16": args.exchange_fp16}
  workers = find_workers(addresses, index, config.batch_size, **options)
  with (
    workers,
    workers.output(),
    workers.open_folder(args.save_path, args.checkpoint_minutes) as folder,
  ):
    run = choose_run(args, config, corpus, source, folder.begun)
    # init_checkpoint may differ: perhaps only worker 0 has the run's folder,
    # and a run that has begun no longer needs the source.
    workers.check_alike({**run.to_json(), "init_checkpoint": None})
    folder.claim(run, corpus.vocabulary)
    if folder.result:
      report_result(args.save_path, folder.result)
    else:
      is_kept = args.save_path is not None
      report_start(run, len(corpus.train), workers.size, is_kept)
      if run.init_checkpoint:
        report_source(source, run)
      with StopRequest() as own_stop:
        stop = workers.agree_on(own_stop)
        result = train(run, corpus, folder, stop=stop, workers=workers)
      if result is None:
        return 128 + stop.signum
      if index == 0:
        report_best(result, args.save_path)
    if corpus.best_perplexity is not None:
      print(f"Best reachable test perplexity: {corpus.best_perplexity:.3f}")
  return 0


def find_source(args):
  """Returns the Trained that --init_from names; None without this flag."""
  if args.init_from is None:
    return None
  return trained.load_source(
    args.init_from,
    args.checkpoint,
    args.save_path,
    data_path=args.init_data_path or args.data_path,
    data_flag="--init_data_path",
    config=configs.CONFIGS[args.model](),
    changes=parse(args.hparams),
  )


def read_input(args, source):
  """Returns the Config and the Corpus of a training.

  Their sizes and vocabulary are those of `source`, a Trained, unless it is
  None.

  Raises:
    InputError: if the flags, the texts or the sizes cannot be used.
  """
  changes = parse(args.hparams)
  config = dataclasses.replace(configs.CONFIGS[args.model](), **changes)
  options = {"unknown": args.unknown_word, "vocab_size": args.vocab_size}
  options["word_list"] = args.vocabulary
  if source:
    check_sizes_kept(source.config, changes)
    sizes = {name: getattr(source.config, name) for name in SIZES}
    config = dataclasses.replace(config, **sizes)
    options = {"unknown": source.unknown, "vocabulary": source.vocabulary}
  corpus = reader.read_corpus(
    args.data_path, **options, cache_dir=args.cache_dir
  )
  config = dataclasses.replace(config, vocab_size=len(corpus.vocabulary))
  if config.by_sentence and corpus.eos is None:
    raise configs.ConfigError(
      "by_sentence=true needs a training text with one sentence per line, but "
      "this one has no newline."
    )
  check_texts_and_memory(config, corpus)
  return config, corpus


def choose_run(args, config, corpus, source, begun):
  """Returns the Run that the flags ask for, on this machine.

  If `begun`, the Run to resume, is not None, its rnn_mode, 16-bit type and
  keep_checkpoints are the defaults. This function loads TensorFlow, so call it
  after all checks of the input.
  """
  keep_checkpoints = args.keep_checkpoints
  if keep_checkpoints is None:
    keep_checkpoints = bool(begun and begun.keep_checkpoints)
  rnn_mode = args.rnn_mode or (begun and begun.config.rnn_mode)
  rnn_mode = rnn_mode or choices.fastest_mode(config)
  dtype = begun and begun.dtype
  return Run.on_corpus(
    corpus,
    model=args.model,
    seed=args.seed,
    dtype=choices.choose_type(args.use_fp16, args.tf32, rnn_mode, dtype),
    config=dataclasses.replace(config, rnn_mode=choices.checked_mode(rnn_mode)),
    exchange_fp16=args.exchange_fp16,
    vocab_limit=args.vocab_size,
    keep_checkpoints=keep_checkpoints,
    init_from=args.init_from,
    init_checkpoint=source and source.checkpoint,
  )


def run_evaluation(args):
  """Evaluates as the flags say; returns the exit status."""
  training_flags.refuse_for_evaluation(args)
  refuse_workers("--evaluate")
  device.prepare(args.num_gpus)
  model, config = load_model(args)
  corpus = reader.read_corpus(
    args.data_path,
    args.unknown_word or model.unknown,
    model.vocabulary,
    parts=("valid", "test"),
    cache_dir=args.cache_dir,
  )
  if corpus.preparation != model.preparation:
    tell(
      "The texts in --data_path were not prepared in the same way as the "
      "model's training text. They are read unchanged. For a raw text, use "
      "score.py, which prepares it."
    )
  if args.adapt:
    reader.check_sizes(corpus, batch_size=1, num_steps=1)
    device.check_memory([config], args.adapt_steps)
    evaluate_adapting(corpus, model, args.adapt, args.adapt_steps)
    return 0
  check_texts_and_memory(config, corpus)
  rnn_mode = args.rnn_mode or choices.usable_mode(config.rnn_mode)
  config = dataclasses.replace(config, rnn_mode=choices.checked_mode(rnn_mode))
  evaluate(config, corpus, model)
  return 0


def load_model(args):
  """Returns the Trained to evaluate, and its Config with the flags' changes."""
  is_alone = args.save_path is None
  if is_alone and args.checkpoint in (None, "", "best", "last"):
    raise configs.ConfigError(
      "--evaluate needs --save_path, a run's folder, or --checkpoint, the path "
      "of a checkpoint."
    )
  allowed = ["batch_size", "num_steps"] * (args.adapt is None)
  allowed += ["forget_bias", "tie_embeddings"]
  changes = parse(args.hparams, allowed)
  model = trained.load(
    args.save_path,
    args.checkpoint,
    "--save_path",
    data_path=args.data_path,
    config=configs.CONFIGS[args.model](),
    changes=changes,
    vocab_size=args.vocab_size,
    cache_dir=args.cache_dir,
  )
  if model.run:
    recorded = {
      "unknown_word": model.unknown,
      "vocab_size": model.run.vocab_limit,
    }
    for name, value in recorded.items():
      if args[name].value not in (None, value):
        shown = "not set" if value is None else value
        raise command.FlagError(
          f"--{name} is {shown} in the checkpoint's run: leave the flag out."
        )
  check_sizes_kept(model.config, changes)
  return model, dataclasses.replace(model.config, **changes)


if __name__ == "__main__":
  sys.exit(main())
