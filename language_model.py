"""Trained models in use: what score.py, generate.py and export.py share.

This module loads the models that the flags name, and builds one graph of them
for any number of texts and words. Several models act as one: it averages their
probabilities (the paper's table 1, "model averaging").

Dimensions in the comments: B = texts read side by side, T = words of each,
V = vocab_size, and for each model H = hidden_size, L = num_layers. B and T may
differ from call to call. Inputs and outputs are batch-major, [B, T, ...]; in
between, tensors are time-major, as in training.
"""

import contextlib
import dataclasses
import itertools
import math
import os

import numpy as np
import tqdm
from absl import flags

import configs
from lm.base import device, tf1
from lm.base.command import InputError, counted, tell
from lm.model import network, softmax
from lm.model.config import parse
from lm.model.gradients import sgd_step
from lm.run import trained
from lm.text import tokenize_ptb
from lm.text.preparation import Preparation
from lm.text.word_ids import EOS
from lm.training import stream

# Words that are scored at a time.
_MOST_WORDS = 1600
# Lines, or pieces of a stream, that are read side by side.
_MOST_ROWS = 64
# A stream has a piece for each 500 words, up to _MOST_ROWS pieces.
_WORDS_A_PIECE = 500


class ModelError(InputError, ValueError):
  """Models that cannot be used, or not together."""


def define_flags(define):
  """Defines the flags that name the models to use, for the calling command."""
  flags.disclaim_key_flags()  # So that --help lists them under the command.
  define.multi_string(
    "run",
    None,
    "The folder of a trained run (its --save_path). The probabilities of "
    "several runs, separated by commas, are averaged.",
  )
  define.string(
    "weights",
    None,
    "The weight of each run in the average, such as 0.7,0.3. (default: equal)",
  )
  define.path(
    "checkpoint",
    None,
    "The checkpoint to use: last (the default), best (the lowest valid "
    "perplexity), or the name of a checkpoint in the run's folder. Without "
    "--run: the path, without .index, of any checkpoint, including those of "
    "TensorFlow 1.15.",
  )
  define.path(
    "data_path",
    None,
    "Without --run: the folder with the ptb.train.txt that the checkpoint was "
    "trained on.",
  )
  help_text = "Without --run: hyper-parameters that the checkpoint of another "
  help_text += "program does not record, such as forget_bias=1. (default: "
  help_text += "forget_bias=0)"
  define.multi_string("hparams", [], help_text)


def define_adapt(define):
  """Defines the flags of dynamic evaluation."""
  help_text = "Let the model learn while it reads (dynamic evaluation), at "
  help_text += "this learning rate, such as 0.1. Requires --evaluate in "
  help_text += "ptb_word_lm.py, --carry_state in score.py."
  define.float("adapt", None, help_text)
  define.validator(  # It also refuses infinity and NaN.
    "adapt",
    lambda rate: rate is None or 0 < rate < math.inf,
    "must be a finite number above 0.",
  )
  help_text = "With --adapt: the number of words per training step."
  define.integer("adapt_steps", 5, help_text, 1, 1000)


def find(run, checkpoint, data_path, hparams=(), weights=None):
  """Loads the models that the flags of these names ask for.

  Args:
    run: a list of runs' folders; a text in it may name several, with commas
      between them. None for a checkpoint alone.
    checkpoint: "last", "best" or a checkpoint's name in the folders; None for
      "last". Without a run, the path of a checkpoint, without .index.
    data_path: without a run, the folder of the checkpoint's training text.
    hparams: without a run, hyper-parameters as in config.parse.
    weights: a text with a number for each model, such as "0.7,0.3"; None for
      equal weights.

  Returns:
    A list of trained.Trained.

  Raises:
    InputError: if a model is missing or damaged, if the models differ in
      vocabulary or preparation, if the arguments do not work together, or if
      the memory is too small.
  """
  folders = [None]  # For a checkpoint alone.
  if run is not None:
    folders = _folders_in(run)
    for flag, value in (("data_path", data_path), ("hparams", hparams)):
      if value:
        raise ModelError(
          f"--{flag} has no effect with --run, whose folder has all that the "
          "model needs: leave one of them out."
        )
  elif checkpoint is None or data_path is None:
    raise ModelError(
      "Use --run=FOLDER, the folder of a trained run; or --checkpoint=PATH "
      "and --data_path=FOLDER, the folder with the ptb.train.txt that the "
      "checkpoint was trained on."
    )
  options = {
    "data_path": data_path,
    "config": configs.SmallConfig(),
    "changes": parse(hparams, ["forget_bias", "tie_embeddings"]),
  }
  models = [
    trained.load(folder, checkpoint, "--run", **options) for folder in folders
  ]
  for folder, model in zip(folders, models, strict=True):
    for name in ("vocabulary", "preparation", "unknown"):
      if getattr(model, name) != getattr(models[0], name):
        part = "word for unknown words" if name == "unknown" else name
        raise ModelError(
          f"{folders[0]} and {folder} differ in the {part} of their training "
          "texts, so their probabilities cannot be averaged."
        )
  if weights is not None:
    numbers = _parse_weights(weights, len(models))
    models = [
      dataclasses.replace(model, weight=number)
      for model, number in zip(models, numbers, strict=True)
    ]
  words = softmax.max_rows(len(models[0].vocabulary))
  advice = "Use a machine with more memory, or fewer runs."
  device.check_memory([model.config for model in models], words, advice)
  return models


def _folders_in(texts):
  """Returns the folders that the texts of --run name, separated by commas.

  The name of an existing folder may have commas. Raises ModelError if a name is
  empty, or if two name the same folder.
  """
  folders = []
  for text in texts:
    is_folder = os.path.isdir(os.path.expanduser(text))
    names = [text] if is_folder else map(str.strip, text.split(","))
    folders += map(os.path.expanduser, names)
  if not folders or not all(folders):
    raise ModelError("--run has an empty name: give the folder of each run.")
  if len(set(map(os.path.realpath, folders))) < len(folders):
    raise ModelError("--run names a folder twice: remove the duplicate.")
  return folders


def _parse_weights(text, count):
  """Returns the numbers of --weights; there must be `count`, all above 0."""
  try:
    weights = [float(number) for number in text.split(",")]
  except ValueError:
    weights = []
  if len(weights) != count or not all(0 < weight < 1e30 for weight in weights):
    raise ModelError(
      f"--weights={text} must have a number above 0 for each run "
      f"({count} here), separated by commas."
    )
  return weights


def zero_states(models, batch_size):
  """Returns states of zeros, float32 [B, L, 2, H] for each model.

  The axis of size 2 holds a layer's c and h.
  """
  sizes = [(m.config.num_layers, m.config.hidden_size) for m in models]
  return [tf1.zeros([batch_size, layers, 2, size]) for layers, size in sizes]


def add_models(models, ids, lengths, states):
  """Adds the models to the default graph; a second call shares the variables.

  Args:
    models: a list of trained.Trained.
    ids: int32 [B, T].
    lengths: int32 [B], how many of the T ids in each row to read.
    states: the states before the first ids, as `zero_states` returns them.

  Returns:
    (heads, states): the argument of `log_probs_of`, with N = B * T; and the
    states after the last id of each text. In the heads, rows beyond a text's
    length have no meaning.
  """
  total = sum(model.weight for model in models)
  heads, new_states = [], []
  for number, (model, state) in enumerate(zip(models, states, strict=True)):
    with tf1.variable_scope(f"model_{number}/Model", reuse=tf1.AUTO_REUSE):
      head, new_state = _add_model(model, ids, lengths, state)
    heads.append((*head, math.log(model.weight / total)))
    new_states.append(new_state)
  return heads, new_states


def _add_model(model, ids, lengths, state):
  """Adds one model; returns its head without the share, and its new state.

  The state is [B, L, 2, H].
  """
  config = model.config
  eos = model.vocabulary.index(EOS) if config.by_sentence else None
  kept = network.kept_states(config, ids, eos)
  pairs = [
    tf1.unstack(layer, axis=1) for layer in tf1.unstack(state, axis=1)
  ]  # (c, h) of each layer, each [B, H].
  outputs, new_state = network.layers_in_a_loop(
    config, network.embed(config, ids), lengths, pairs, kept
  )  # [T, B, H]
  outputs = tf1.transpose(outputs, [1, 0, 2])  # [B, T, H]
  rows = tf1.reshape(outputs, [-1, config.hidden_size])  # [B * T, H]
  new_state = [tf1.stack(layer, axis=1) for layer in new_state]
  return (rows, *softmax.variables(config)), tf1.stack(new_state, axis=1)


def log_probs_of(heads):
  """Returns the log-probabilities of the next words, float32 [N, V], in nats.

  They are the logarithms of the models' average probabilities.

  Args:
    heads: for each model its outputs [N, H], softmax_w [H, V], softmax_b [V]
      and the logarithm of its share in the average.
  """
  log_probs = [
    softmax.log_probs(tf1.nn.xw_plus_b(*layer)) for *layer, _ in heads
  ]
  if len(log_probs) == 1:
    return log_probs[0]
  # Small probabilities would underflow: only their logarithms are computed.
  log_shares = [[[head[-1]]] for head in heads]  # [models, 1, 1]
  return tf1.reduce_logsumexp(tf1.stack(log_probs) + log_shares, axis=0)


def restore(models, session):
  """Restores the weights of the models that `add_models` added; prints which.

  Raises:
    checkpoints.CheckpointError: if a checkpoint is damaged, or has other sizes.
  """
  for number, model in enumerate(models):
    if description := model.restore(session, f"model_{number}/"):
      tell(f"Using {description}")


def scores_of(heads, targets):
  """Scores the words that follow the ids of `add_models`.

  To save memory, it computes the probabilities of a few rows at a time.

  Args:
    heads: the heads that `add_models` returned.
    targets: int32 [B, T], the words that follow.

  Returns:
    (log_probs, ranks): float32 and int32 [B, T]. The likeliest word has rank 1.
  """

  def score(piece):
    words, *rows = piece
    log_probs = log_probs_of(
      [(row, *head[1:]) for row, head in zip(rows, heads, strict=True)]
    )  # [width, V]
    chosen = tf1.gather(log_probs, words, batch_dims=1)  # [width]
    is_likelier = log_probs > chosen[:, tf1.newaxis]  # [width, V]
    return chosen, 1 + tf1.reduce_sum(tf1.cast(is_likelier, tf1.int32), axis=1)

  found = softmax.in_pieces(
    score,
    [tf1.reshape(targets, [-1]), *(head[0] for head in heads)],
    heads[0][1].shape.as_list()[1],  # V
    (tf1.float32, tf1.int32),
  )
  return tuple(tf1.reshape(x, tf1.shape(targets)) for x in found)


class LanguageModel(contextlib.AbstractContextManager):
  """One or more trained models, used as one. It is a context manager.

  Methods with an argument `states` continue from the states that the last call
  returned, a list with an array [B, L, 2, H] for each model; None is the start
  of a text. Methods that compute probabilities raise ModelError if one is not a
  finite number.

  With `adapt`, a learning rate, `score_stream` is dynamic evaluation (Krause et
  al. 2018, arXiv:1709.07432, section 3): it scores adapt_steps words, trains
  each model on them by a step of clipped SGD, and continues with the next ones.
  A new stream, without `states`, starts from the trained weights. The weights
  belong to the object, not to the states: the other methods use the weights
  that the last stream left. The checkpoints do not change.

  Attributes:
    vocabulary: the words in the order of their ids.
    unknown: the word for words outside the vocabulary, which may lack it.
  """

  def __init__(self, models, tokenize=None, adapt=None, adapt_steps=5):
    """Loads the models into a graph of their own.

    Args:
      models: what `find` returned.
      tokenize: "ptb" to split raw English as the Penn Treebank does; or None.
      adapt: the learning rate of dynamic evaluation; None for none.
      adapt_steps: the number of words from one step to the next.

    Raises:
      InputError: if a model is damaged, if adapt or adapt_steps is not above 0,
        or if `tokenize` does not suit the models' training text.
    """
    self.vocabulary = models[0].vocabulary
    self.unknown = models[0].unknown
    self._preparation = models[0].preparation
    is_possible = adapt is None or 0 < adapt < math.inf
    if not is_possible or not isinstance(adapt_steps, int) or adapt_steps < 1:
      raise ModelError(
        "adapt must be a number above 0, and adapt_steps a whole number above "
        f"0, but adapt={adapt} and adapt_steps={adapt_steps}."
      )
    if tokenize and self._preparation:
      raise ModelError(
        "prepare_text.py made the model's training text, so the input is "
        f"prepared in the same way: leave out --tokenize={tokenize}."
      )
    if tokenize:
      self._preparation = tokenize_ptb.Tokenizer()
    self._word_to_id = {word: i for i, word in enumerate(self.vocabulary)}
    with tf1.Graph().as_default():
      tf1.set_random_seed(1)  # Nothing is drawn; TF_DETERMINISTIC_OPS wants it.
      self._ids = tf1.placeholder(tf1.int32, [None, None])  # [B, T]
      self._targets = tf1.placeholder(tf1.int32, [None, None])  # [B, T]
      self._lengths = tf1.placeholder(tf1.int32, [None])  # [B]
      self._states = [
        tf1.placeholder_with_default(zeros, [None, *zeros.shape.as_list()[1:]])
        for zeros in zero_states(models, tf1.size(self._lengths))
      ]
      heads, self._new_states = add_models(
        models, self._ids, self._lengths, self._states
      )
      self._log_probs = log_probs_of(heads)  # [B * T, V]
      self._scores = scores_of(heads, self._targets)
      self._adapt_steps = adapt_steps if adapt else None
      if adapt:
        self._add_adapting(models, heads, adapt)
      self._session = device.session()
      restore(models, self._session)
      if adapt:
        self._trained_weights = self._session.run(self._variables)

  def _add_adapting(self, models, heads, learning_rate):
    """Adds the scores that train the models when they are fetched."""
    labels = tf1.reshape(self._targets, [-1])
    # All is computed with the weights as they were before the step.
    with tf1.control_dependencies([*self._scores, *self._new_states]):
      costs = [
        tf1.reduce_sum(softmax.losses(*head, labels)) for *head, _ in heads
      ]
      steps = [
        sgd_step(cost, model.config, learning_rate)
        for cost, model in zip(costs, models, strict=True)
      ]
    with tf1.control_dependencies(steps):
      self._adapting = [tf1.identity(scores) for scores in self._scores]
    self._variables = tf1.trainable_variables()

  def __exit__(self, *exception):
    self._session.close()

  def words_of(self, line):
    """Returns the words of a line, prepared as the training text was."""
    return [word for word, _ in self.words_and_places(line)]

  def words_and_places(self, line):
    """Returns a line's words as pairs (word, place of its field in the line).

    Spaces separate the fields; the first has the place 1.
    """
    if isinstance(self._preparation, tokenize_ptb.Tokenizer):
      return self._preparation.split_with_places(line)
    split = self._preparation.split if self._preparation else str.split
    return [
      (word, place)
      for place, field in enumerate(line.split(), 1)
      for word in split(field)
    ]

  @property
  def is_prepared(self):
    """Whether scripts/prepare_text.py made the training text."""
    return isinstance(self._preparation, Preparation)

  @property
  def drops_blank_lines(self):
    """Whether a blank line is no sentence: prepared texts have none."""
    return self._preparation is not None

  def id_of(self, word):
    """Returns a word's id; for an unknown word, that of `unknown`, or None."""
    return self._word_to_id.get(word, self._word_to_id.get(self.unknown))

  def knows(self, word):
    """Returns whether the vocabulary has a word."""
    return word in self._word_to_id

  @property
  def eos(self):
    """The id of <eos>; None if the vocabulary has none."""
    return self._word_to_id.get(EOS)

  def score_lines(self, lines):
    """Predicts each word of a line from the words before it in the line.

    Args:
      lines: a list of lines, each a sequence of at least two ids. The first id
        is given, not predicted.

    Returns:
      For each line a pair of arrays (log_probs, ranks), one element shorter
      than the line: the log-probability of each word in nats, and its rank, 1
      for the likeliest word.

    Raises:
      ModelError: if a line has fewer than two ids, or one that is not an id of
        the vocabulary.
    """
    for line in lines:
      self._check_ids(line, least=2)
    order = np.argsort([len(line) for line in lines], kind="stable")
    scores = {}
    for begin in range(0, len(lines), _MOST_ROWS):
      # Of similar length: little padding.
      batch = order[begin : begin + _MOST_ROWS]
      batch_scores = self._score_side_by_side([lines[i] for i in batch])
      scores.update(zip(batch, batch_scores, strict=True))
    return [scores[i] for i in range(len(lines))]

  def _check_ids(self, ids, least=1):
    """Raises ModelError unless there are `least` ids of the vocabulary."""
    if len(ids) < least:
      raise ModelError(
        f"A text to score must have at least {counted(least, 'id')} (the first "
        f"one is not scored), but this one has {len(ids)}."
      )
    try:
      ids = np.asarray(ids).astype(int, casting="safe")
    except TypeError:
      ids = np.array([-1])
    if ids.min() < 0 or ids.max() >= len(self.vocabulary):
      raise ModelError(
        f"Ids must be whole numbers from 0 to {len(self.vocabulary) - 1}. "
        "id_of returns None for a word without an id."
      )

  def _score_side_by_side(self, lines):
    """Scores lines as one batch; returns a list of (log_probs, ranks)."""
    width = _most_steps(len(lines))
    ids = np.array([*itertools.zip_longest(*lines, fillvalue=0)]).T  # [B, T+1]
    lengths = np.array([len(line) - 1 for line in lines])
    scores, states = [], None
    for begin in range(0, ids.shape[1] - 1, width):
      piece = ids[:, begin : begin + width + 1]
      is_read = np.clip(lengths - begin, 0, width)
      values, states = self._score(piece[:, :-1], piece[:, 1:], is_read, states)
      scores.append(values)
    log_probs, ranks = np.concatenate(scores, axis=2)  # Each float64 [B, T].
    rows = zip(log_probs, ranks.astype(int), lengths, strict=True)
    return [(p[:length], r[:length]) for p, r, length in rows]

  def score_stream(self, ids, states=None):
    """Predicts each word of a stream from all words before it.

    It cuts a long stream into pieces and reads them side by side. If the model
    adapts, it reads them one after the other.

    Args:
      ids: at least one id. The first id is given, not predicted.
      states: the states before the first id; None for the start of a stream.

    Returns:
      (log_probs, ranks, states): arrays as `score_lines` returns them, and the
      states before the last id. To continue the stream, give these states, and
      ids that begin with this last id.

    Raises:
      ModelError: if there is no id, or one that is not an id of the vocabulary.
    """
    self._check_ids(ids)
    count = len(ids) - 1
    if count == 0:
      return np.zeros(0), np.zeros(0, int), states
    if self._adapt_steps:
      return self._score_adapting(ids, states)
    pieces = min(math.ceil(count / _WORDS_A_PIECE), _MOST_ROWS)
    x, y, is_real = stream.cut(ids, pieces, min(_most_steps(pieces), count))
    lengths = is_real.sum(axis=2)  # [steps, B]
    used = is_real[0, :, 0].sum()  # How many pieces have a word to predict.

    def starts_of(ends):
      size = {self._lengths: lengths[0]}
      starts = self._session.run(self._states, size)  # Zeros.
      for number, start in enumerate(starts):
        if states is not None:
          start[:1] = states[number]
        if ends is not None:
          start[1:] = ends[number][:-1]
      return starts

    def read(step, state):
      feed = {self._ids: x[step], self._lengths: lengths[step]}
      return self._run((), feed, state)[1]

    def is_same(ends, others):
      return all(
        stream.are_close(end[:used], other[:used])
        for end, other in zip(ends, others, strict=True)
      )

    ends = stream.find_starts(read, starts_of, is_same, len(x), used)
    scores = []
    for step in range(len(x)):
      values, ends = self._score(x[step], y[step], lengths[step], ends)
      scores.append(values)
    log_probs, ranks = (
      np.concatenate(values, axis=1).ravel()[:count]
      for values in zip(*scores, strict=True)
    )
    return log_probs, ranks, [end[used - 1 : used] for end in ends]

  def _score_adapting(self, ids, states):
    """Does what `score_stream` does, and trains the models meanwhile."""
    if states is None:
      pairs = zip(self._variables, self._trained_weights, strict=True)
      with self._session.graph.as_default():
        for variable, weights in pairs:
          variable.load(weights, self._session)
    scores = []
    begins = range(0, len(ids) - 1, self._adapt_steps)
    for begin in tqdm.tqdm(begins, "Adapting", leave=False, disable=None):
      piece = ids[begin : begin + self._adapt_steps + 1]
      x, y, lengths = [piece[:-1]], [piece[1:]], [len(piece) - 1]
      values, states = self._score(x, y, lengths, states, self._adapting)
      scores.append(values)
    log_probs, ranks = np.concatenate(scores, axis=2)[:, 0]
    return log_probs, ranks.astype(int), states

  def _score(self, ids, targets, lengths, states, fetches=None):
    """Scores the targets, [B, T]; returns ((log_probs, ranks), states).

    `fetches` are the tensors of the scores; None for those that train nothing.
    """
    feed = {self._ids: ids, self._targets: targets, self._lengths: lengths}
    return self._run(fetches or self._scores, feed, states)

  def next_words(self, ids, states=None):
    """Reads one more word of each text, and predicts the next.

    Args:
      ids: B ids, a word of each text.
      states: the states before the ids; None for the start of the texts.

    Returns:
      (log_probs, states): float32 [B, V], in nats, of the word that follows;
      and the states after the ids.
    """
    feed = {
      self._ids: np.reshape(ids, [-1, 1]),
      self._lengths: np.ones(len(ids), np.int32),
    }
    return self._run(self._log_probs, feed, states)

  def _run(self, fetches, feed, states):
    """Runs the graph from these states; returns the values and new states."""
    if states is not None:
      feed.update(zip(self._states, states, strict=True))
    with device.products_in("float32"):
      values, states = self._session.run((fetches, self._new_states), feed)
    if not np.isfinite(values).all():
      advice = "Choose a smaller --adapt."
      if self._adapt_steps is None:
        advice = "Use another checkpoint."
      raise ModelError(
        "The model's probabilities are not finite numbers: its weights are too "
        f"large, for example because training diverged. {advice}"
      )
    return values, states


def _most_steps(rows):
  """Returns how many words of each of the rows are scored at a time."""
  return min(max(_MOST_WORDS // rows, 1), 500)
