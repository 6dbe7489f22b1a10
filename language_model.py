"""Trained models in use: what comes next, and how likely is a text?

score.py, generate.py and export.py share this. Several models are used as one
by averaging their probabilities (the paper's table 1, "model averaging").

Dimensions in the comments: B = streams read side by side, T = words of each,
V = vocab_size, and for a model H = hidden_size, L = num_layers. B and T may
differ from call to call. What goes in and out is batch-major, [B, T, ...], as
who uses a model thinks in lines; in between it is time-major, as in training.
"""

import contextlib
import dataclasses
import math

import numpy as np
from absl import flags

import configs
import ptb_word_lm
import reader
from lm import checkpoints, run_folder, tf1
from lm.command import InputError
from lm.preparation import UNKNOWN, Preparation
from lm.preparation import read as read_preparation


class ModelError(InputError, ValueError):
  """Models that cannot be used, or not together."""


@dataclasses.dataclass(frozen=True)
class Trained:
  """Where the weights of a trained model are, and what they are of."""

  checkpoint: str  # Path, without .index.
  config: configs.Config
  vocabulary: list[str]  # The words in the order of their ids.
  preparation: Preparation | None  # Of the text that it was trained on.


def define_flags():
  """Defines the flags that say which models to use."""
  flags.DEFINE_list(
    "run",
    None,
    "The folder of a trained run (its --save_path), or several with commas "
    "between them, whose probabilities are averaged.",
  )
  flags.DEFINE_string(
    "checkpoint",
    None,
    "Which one to take: last (the default), best by its valid perplexity, or "
    "another name in the run's folder. With --data_path, the path of any, also "
    "one of TensorFlow 1.15, without .index.",
  )
  flags.DEFINE_string(
    "data_path",
    None,
    "Without --run: the folder with the ptb.train.txt that the checkpoint was "
    "trained on, which gives the vocabulary.",
  )


def find(run, checkpoint, data_path):
  """Finds the models that the flags name.

  Args:
    run: the folders, a list that is not empty, or None.
    checkpoint: which one in each; without a run, the path of one.
    data_path: without a run, the folder with ptb.train.txt; else None.

  Returns:
    A list with a Trained for each.

  Raises:
    InputError: if one is not there, damaged, or if they have not all the same
      vocabulary and preparation; and for values that do not go together.
  """
  if run is not None and (not all(run) or not run):
    raise ModelError("--run has an empty name: name folders of trained runs.")
  if run is not None and len(set(run)) < len(run):
    raise ModelError("--run names a folder twice: leave it out once.")
  if run is not None and data_path is not None:
    raise ModelError(
      "--run has its own vocabulary: leave --data_path out, or give it with "
      "--checkpoint alone."
    )
  if run is not None:
    found = [_trained_of_run(folder, checkpoint) for folder in run]
  elif checkpoint is None or data_path is None:
    raise ModelError(
      "Name the folder of a trained run, --run; or a --checkpoint and, as "
      "--data_path, the folder with the ptb.train.txt that it was trained on."
    )
  else:
    found = [_trained_alone(checkpoint, data_path)]
  for folder, one in zip(run or (), found, strict=False):
    if one.vocabulary != found[0].vocabulary:
      raise ModelError(
        f"{folder} and {run[0]} were trained on other vocabularies: their "
        "probabilities cannot be averaged."
      )
    if one.preparation != found[0].preparation:
      raise ModelError(
        f"{folder} and {run[0]} were trained on texts prepared in other ways: "
        "no text suits both."
      )
  return found


def _trained_of_run(folder, which):
  """Returns the Trained of a run's folder."""
  run = run_folder.read_run(folder, "--run")
  path = checkpoints.find(folder, "last" if which is None else which)
  return Trained(path, run.config, run.vocabulary, run.preparation)


def _trained_alone(checkpoint, data_path):
  """Returns the Trained of a checkpoint that is in no run's folder."""
  sizes = checkpoints.sizes_in(checkpoint)
  vocabulary = reader.read_vocabulary(data_path)
  if len(vocabulary) != sizes["vocab_size"]:
    raise ModelError(
      f"{checkpoint} is of a model of {sizes['vocab_size']:,} words, but "
      f"ptb.train.txt in {data_path} has {len(vocabulary):,} different ones. "
      "Name the folder of the text that it was trained on."
    )
  config = dataclasses.replace(configs.SmallConfig(), **sizes)
  return Trained(checkpoint, config, vocabulary, read_preparation(data_path))


def zero_states(trained, batch_size):
  """Returns the states that a text starts with.

  Args:
    trained: a list of Trained.
    batch_size: B, a number or a scalar tensor.

  Returns:
    For each model float32 [B, L, 2, H]: of each layer c and h.
  """
  return [
    tf1.zeros([batch_size, one.config.num_layers, 2, one.config.hidden_size])
    for one in trained
  ]


def add_models(trained, ids, lengths, states):
  """Adds the models to the default graph; they share the variables of a call.

  Args:
    trained: a list of Trained.
    ids: int32 [B, T].
    lengths: int32 [B], how many of each row's T ids to read.
    states: as those of `zero_states`.

  Returns:
    (log_probs, states): float32 [B, T, V], the logarithm of the models' mean
    probability that a word comes after each of the ids, in nats; without
    meaning beyond the length. And the states after the last id of each row.
  """
  found, new_states = [], []
  for number, (one, state) in enumerate(zip(trained, states, strict=True)):
    with tf1.variable_scope(_scope(number) + "Model", reuse=tf1.AUTO_REUSE):
      logits, new_state = _add_model(one.config, ids, lengths, state)
      found.append(tf1.nn.log_softmax(logits))  # [B, T, V]
      new_states.append(new_state)
  if len(found) == 1:
    return found[0], new_states
  # The mean of small probabilities, without leaving the logarithms.
  log_sum = tf1.reduce_logsumexp(tf1.stack(found), axis=0)
  return log_sum - math.log(len(found)), new_states


def _scope(number):
  """Returns the scope of a model's variables, before their own names."""
  return f"model_{number}/"


def _add_model(config, ids, lengths, state):
  """Adds one model; returns its logits [B, T, V] and its state."""
  inputs = ptb_word_lm.embed(config, ids, None, tf1.float32)  # [T, B, H]
  stack = tf1.nn.rnn_cell.MultiRNNCell(
    ptb_word_lm.lstm_cells(config, tf1.float32)
  )
  # A loop over time, as T is not known here. The scope's name makes the
  # variables' names those of the unrolled graph.
  outputs, new_state = tf1.nn.dynamic_rnn(
    stack,
    inputs,
    lengths,
    tuple(
      tf1.nn.rnn_cell.LSTMStateTuple(state[:, layer, 0], state[:, layer, 1])
      for layer in range(config.num_layers)
    ),
    time_major=True,
    scope="RNN",
  )  # [T, B, H]
  softmax_w, softmax_b = ptb_word_lm.softmax_variables(config)
  outputs = tf1.transpose(outputs, [1, 0, 2])  # [B, T, H]
  rows = tf1.reshape(outputs, [-1, config.hidden_size])  # [B * T, H]
  logits = tf1.nn.xw_plus_b(rows, softmax_w, softmax_b)  # [B * T, V]
  shape = tf1.concat([tf1.shape(ids), [config.vocab_size]], axis=0)
  new_state = tf1.stack([tf1.stack(cell, axis=1) for cell in new_state], axis=1)
  return tf1.reshape(logits, shape), new_state


def restore(trained, session):
  """Reads the weights of the models that `add_models` added.

  Raises:
    checkpoints.CheckpointError: if one is damaged, or of other sizes.
    ModelError: if a weight is not a finite number.
  """
  for number, one in enumerate(trained):
    checkpoints.restore_variables(session, one.checkpoint, _scope(number))
  for variable in tf1.trainable_variables():
    _check_finite(session.run(variable))


def scores_of(log_probs, targets):
  """Looks up the words that came.

  Args:
    log_probs: float32 [B, T, V].
    targets: int32 [B, T].

  Returns:
    (log_probs, ranks): float32 and int32 [B, T]: those of the targets. The most
    likely word has rank 1.
  """
  chosen = tf1.gather(log_probs, targets, batch_dims=2)  # [B, T]
  is_likelier = log_probs > chosen[:, :, tf1.newaxis]
  return chosen, 1 + tf1.reduce_sum(tf1.cast(is_likelier, tf1.int32), axis=2)


class LanguageModel(contextlib.AbstractContextManager):
  """One or more trained models, as one, in a session. Close it, or use `with`.

  Attributes:
    vocabulary: the words in the order of their ids.
  """

  def __init__(self, trained):
    """Loads the models.

    Args:
      trained: a list of Trained with the same vocabulary and preparation.

    Raises:
      checkpoints.CheckpointError: if one is damaged, or of other sizes.
    """
    self.vocabulary = trained[0].vocabulary
    self._preparation = trained[0].preparation
    self._word_to_id = {word: i for i, word in enumerate(self.vocabulary)}
    # What a step computes at once: log-probabilities of 64 MB.
    self._most_words = max(16_000_000 // len(self.vocabulary), 1)
    graph = tf1.Graph()
    with graph.as_default():
      self._ids = tf1.placeholder(tf1.int32, [None, None])
      self._targets = tf1.placeholder(tf1.int32, [None, None])
      self._lengths = tf1.placeholder(tf1.int32, [None])
      self._zeros = zero_states(trained, tf1.size(self._lengths))
      self._states = [
        tf1.placeholder_with_default(zeros, [None, *zeros.shape[1:]])
        for zeros in self._zeros
      ]
      self._log_probs, self._new_states = add_models(
        trained, self._ids, self._lengths, self._states
      )
      self._scores = scores_of(self._log_probs, self._targets)
    self._session = tf1.Session(graph=graph)
    try:
      with graph.as_default():
        restore(trained, self._session)
    except BaseException:
      self._session.close()
      raise

  def __exit__(self, *exception):
    """Closes the session."""
    self._session.close()

  def words_of(self, line):
    """Returns the words of a line, prepared as the training text was."""
    if self._preparation is None:
      return line.split()
    return self._preparation.words_of(line)

  def id_of(self, word):
    """Returns a word's id; that of <unk>, or None, if it is unknown."""
    return self._word_to_id.get(word, self._word_to_id.get(UNKNOWN))

  def knows(self, word):
    """Says whether the vocabulary has a word."""
    return word in self._word_to_id

  def score_lines(self, lines):
    """Predicts the words of each line from those before them in the line.

    Args:
      lines: arrays of ids, at least two each. The first is not predicted.

    Returns:
      A (log_probs, ranks) for each: arrays of one element less; in nats, and 1
      for the most likely word.
    """
    scores = [None] * len(lines)
    # Those of similar length side by side, so that few places stay empty.
    order = sorted(range(len(lines)), key=lambda i: len(lines[i]))
    while order:
      count = 1
      while (
        count < len(order)
        and (count + 1) * len(lines[order[count]]) <= self._most_words
      ):
        count += 1
      batch, order = order[:count], order[count:]
      found, _ = self._score([lines[i] for i in batch], None)
      for i, score in zip(batch, found, strict=True):
        scores[i] = score
    return scores

  def score_stream(self, ids, states=None):
    """Predicts the words of a stream from all before them.

    Args:
      ids: an array, at least one.
      states: those after the ids before these; None at the stream's start.

    Returns:
      (log_probs, ranks, states): arrays of one element less, as those of
      `score_lines`; and the states before the last id.
    """
    ((log_probs, ranks),), states = self._score([ids], states)
    return log_probs, ranks, states

  def _score(self, lines, states):
    """Scores lines side by side; returns their scores and states."""
    lengths = np.array([len(line) - 1 for line in lines])
    ids = np.zeros([len(lines), max(lengths) + 1], np.int32)
    for row, line in zip(ids, lines, strict=True):
      row[: len(line)] = line
    found = []
    width = max(min(self._most_words // len(lines), 500), 1)
    for begin in range(0, max(lengths), width):
      end = min(begin + width, max(lengths))
      feed = {
        self._ids: ids[:, begin:end],
        self._targets: ids[:, begin + 1 : end + 1],
        self._lengths: np.clip(lengths - begin, 0, end - begin),
      }
      scores, states = self._run(self._scores, feed, states)
      found.append(scores)
    if not found:
      return [(np.zeros(0), np.zeros(0, int))] * len(lines), states
    log_probs, ranks = (np.concatenate(f, 1) for f in zip(*found, strict=True))
    scores = [
      (p[:n].astype(float), r[:n])
      for p, r, n in zip(log_probs, ranks, lengths, strict=True)
    ]
    for p, _ in scores:
      _check_finite(p)
    return scores, states

  def next_words(self, ids, states=None):
    """Reads one more word of each stream.

    Args:
      ids: B.
      states: those after the ids before these; None at the streams' start.

    Returns:
      (log_probs, states): float32 [B, V], of the word that comes, in nats; and
      the states after the ids.
    """
    feed = {
      self._ids: np.reshape(ids, [-1, 1]),
      self._lengths: np.ones(len(ids), np.int32),
    }
    log_probs, states = self._run(self._log_probs, feed, states)
    _check_finite(log_probs)
    return log_probs[:, 0], states

  def _run(self, fetches, feed, states):
    """Runs the graph from these states; returns what it fetched, and states."""
    if states is not None:
      feed.update(zip(self._states, states, strict=True))
    return self._session.run((fetches, self._new_states), feed)


def _check_finite(log_probs):
  """Raises ModelError if there is an infinity or no number among them."""
  if not np.isfinite(log_probs).all():
    raise ModelError(
      "The model's probabilities are not finite numbers: its weights are "
      "damaged, or its training diverged. Take another checkpoint."
    )
