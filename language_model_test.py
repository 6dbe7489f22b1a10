"""Tests of language_model.py, against the model in plain numpy."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest

import language_model
from conftest import OLD_RUN, TINY
from lm.base import tf1
from lm.run import checkpoints
from lm.testdata import lstm_numpy
from lm.training import stream

RANDOM = np.random.RandomState(5)
LINES = [RANDOM.randint(0, 50, length) for length in (7, 2, 31, 7, 12, 2, 3)]
CHECKPOINT = f"{TINY}/model.ckpt-7680"


def weights_in(path):
  """Returns the weights in a checkpoint as lstm_numpy has them."""
  tensors = tf1.train.load_checkpoint(path)
  return {
    name: tensors.get_tensor(name).astype(float)
    for name in tensors.get_variable_to_shape_map()
    if name.startswith("Model/")
  }


def probs_in_numpy(path, ids):
  """Returns the probabilities [T, V] of the word after each of the ids [T]."""
  weights = weights_in(path)
  size = weights["Model/embedding"].shape[1]
  layers = sum(name.endswith("kernel") for name in weights)
  zeros = [(np.zeros([1, size]), np.zeros([1, size]))] * layers
  ids = np.reshape(ids, [1, -1])
  _, _, (*_, probs) = lstm_numpy.forward(weights, ids, ids, zeros)
  return probs[:, 0]


def check_scores(score, paths, line):
  """Compares (log_probs, ranks) of a line with numpy's."""
  probs = np.mean([probs_in_numpy(path, line[:-1]) for path in paths], axis=0)
  chosen = probs[np.arange(len(line) - 1), line[1:]]
  np.testing.assert_allclose(score[0], np.log(chosen), rtol=1e-5)
  ranks = 1 + (probs > chosen[:, np.newaxis]).sum(axis=1)
  np.testing.assert_array_equal(score[1], ranks)


@pytest.mark.parametrize("most_words", [None, 100, 20, 1])
def test_lines_are_scored_as_in_numpy(model, monkeypatch, most_words):
  if most_words:
    monkeypatch.setattr(language_model, "_MOST_WORDS", most_words)
  for line, score in zip(LINES, model.score_lines(LINES), strict=True):
    check_scores(score, [CHECKPOINT], line)


@pytest.mark.parametrize("least_words", [500, 10, 1])
def test_a_stream_in_pieces_is_scored_as_in_one(
  model, monkeypatch, least_words
):
  """It comes in pieces, and each is cut into pieces of `least_words`."""
  monkeypatch.setattr(language_model, "_WORDS_A_PIECE", least_words)
  monkeypatch.setattr(language_model, "_MOST_WORDS", 9)
  ids = np.concatenate(LINES)
  check_scores(model.score_stream(ids)[:2], [CHECKPOINT], ids)
  found, states = [], None
  for begin, end in ((0, 1), (0, 2), (1, 30), (29, 30), (29, 64)):
    *piece, states = model.score_stream(ids[begin:end], states)
    assert len(piece[0]) == end - begin - 1
    found.append(piece)
  pieces = [np.concatenate(arrays) for arrays in zip(*found, strict=True)]
  check_scores(pieces, [CHECKPOINT], ids)


def test_pieces_that_all_start_from_zeros_are_scored_otherwise(
  model, monkeypatch
):
  """So the test above would notice it."""
  monkeypatch.setattr(language_model, "_WORDS_A_PIECE", 8)
  monkeypatch.setattr(language_model, "_MOST_WORDS", 1)
  monkeypatch.setattr(stream, "_SAME_STATE", (1e9, 1e9))
  ids = np.concatenate(LINES)
  with pytest.raises(AssertionError):
    check_scores(model.score_stream(ids)[:2], [CHECKPOINT], ids)


@pytest.mark.parametrize(
  ("norm", "changes"),
  [(5.0, {}), (1e3, {"forget_bias": 1.0}), (0.3, {"by_sentence": True})],
)
def test_a_model_adapts_as_in_numpy(tf1_models, norm, changes):
  ids = np.concatenate(LINES)
  weights = weights_in(CHECKPOINT)
  state = [(np.zeros([1, 16]), np.zeros([1, 16]))] * 2
  eos = tf1_models[0].vocabulary.index("<eos>")
  options = (
    *(None, changes.get("forget_bias", 0)),
    eos if "by_sentence" in changes else None,
  )
  expected, expected_ranks = [], []
  for begin in range(0, len(ids) - 1, 7):
    piece = ids[np.newaxis, begin : begin + 8]
    x, y = piece[:, :-1], piece[:, 1:]
    _, _, (*_, probs) = lstm_numpy.forward(weights, x, y, state, *options)
    chosen = np.take_along_axis(probs[:, 0], y.T, axis=1)
    expected_ranks += (1 + (probs[:, 0] > chosen).sum(axis=1)).tolist()
    cost, state, own_norm = lstm_numpy.train_step(
      weights, x, y, state, 0.5, norm, *options
    )
    expected.append(cost)
    assert (own_norm > norm) == (norm < 10)  # Clipped or not.
  files = {path: path.read_bytes() for path in TINY.iterdir()}
  config = dataclasses.replace(
    tf1_models[0].config, max_grad_norm=norm, **changes
  )
  models = [dataclasses.replace(tf1_models[0], config=config)]
  with language_model.LanguageModel(models, adapt=0.5, adapt_steps=7) as model:
    first, ranks, states = model.score_stream(ids)
    more, _, _ = model.score_stream(ids, states)
    begin, _, states = model.score_stream(ids[:22])
    end, _, _ = model.score_stream(ids[21:], states)
    lines = [model.score_lines([ids])[0][0] for _ in range(2)]
    second, _, _ = model.score_stream(ids)
  costs = -np.add.reduceat(first, range(0, len(first), 7))
  np.testing.assert_allclose(costs, expected, rtol=1e-5)
  np.testing.assert_array_equal(ranks, expected_ranks)
  np.testing.assert_array_equal(first, second)  # From the trained weights.
  np.testing.assert_allclose([*begin, *end], first, rtol=1e-6)
  assert abs(more - first).max() > 0.1
  np.testing.assert_array_equal(*lines)  # Only a stream adapts.
  assert files == {path: path.read_bytes() for path in TINY.iterdir()}


def test_all_scores_are_computed_before_a_weight_changes(tf1_models):
  with language_model.LanguageModel(tf1_models, adapt=0.3) as model:
    (operation,) = {scores.op.control_inputs[0] for scores in model._adapting}
    updates = ancestors_of(operation, "Resource(Apply|Scatter)")
    assert len(updates) == len(model._variables)
    for update in updates:
      assert {scores.op for scores in model._scores} <= ancestors_of(update)


def ancestors_of(operation, kind=""):
  """Returns the operations before one whose type matches the pattern `kind`."""
  found, new = set(), [operation]
  while new:
    inputs = [tensor.op for tensor in new[-1].inputs]
    others = {*inputs, *new.pop().control_inputs} - found
    found |= others
    new += others
  return {op for op in found if re.match(kind, op.type)}


@pytest.mark.parametrize(
  ("adapt", "steps"), [(0, 5), (-0.1, 5), (np.nan, 5), (0.1, 0), (0.1, 2.5)]
)
def test_rates_and_steps_that_cannot_adapt(tf1_models, adapt, steps):
  with pytest.raises(language_model.ModelError, match="adapt must be a number"):
    language_model.LanguageModel(tf1_models, adapt=adapt, adapt_steps=steps)


def test_no_word_is_scored_by_weights_that_have_seen_it(tf1_models):
  size = len(tf1_models[0].vocabulary)
  texts = {
    "random words": np.random.RandomState(0).randint(0, size, 2000),
    "a repeated sentence": np.tile([3, 1, 4, 1, 5, 9, 2, 6], 50),
  }
  with language_model.LanguageModel(tf1_models, adapt=0.3) as model:
    perplexities = {
      name: np.exp(-model.score_stream(ids)[0].mean())
      for name, ids in texts.items()
    }
  assert perplexities["random words"] > size
  assert perplexities["a repeated sentence"] < 3


def test_each_of_several_models_adapts(runs):
  models = language_model.find([f"{runs}/a", f"{runs}/b"], "last", None)
  ids = np.concatenate(LINES)
  log_probs = []
  for group in (models[:1], models[1:], models):
    with language_model.LanguageModel(group, adapt=0.5) as model:
      log_probs.append(model.score_stream(ids)[0])
  mean = np.logaddexp(log_probs[0], log_probs[1]) - np.log(2)
  np.testing.assert_allclose(log_probs[2], mean, atol=1e-5)


def test_several_runs_can_be_named_in_several_flags(call_command, runs):
  text = f"--file={TINY / 'ptb.test.txt'}"
  a, b = runs / "a", runs / "b"
  together = call_command("score", f"--run={a},{b}", text)
  apart = call_command("score", f"--run={a}", f"--run={b}", text)
  assert together[0] == 0 and apart == together
  status, _, err = call_command("score", f"--run={a}", f"--run={a}/", text)
  assert status == 1 and "--run names a folder twice" in err
  status, _, err = call_command(
    "score", f"--run={a}", "--hparams=forget_bias=1", text
  )
  assert status == 1 and "--hparams has no effect with --run, whose" in err


def test_several_models_average_their_probabilities(runs, monkeypatch):
  models = language_model.find([f"{runs}/a", f"{runs}/b"], "last", None)
  paths = [model.checkpoint for model in models]
  assert [model.config.hidden_size for model in models] == [8, 12]
  with language_model.LanguageModel(models) as model:
    scores = model.score_lines(LINES)
    log_probs, states = model.next_words([3, 4])
    log_probs, _ = model.next_words([7, 0], states)
    monkeypatch.setattr(language_model, "_WORDS_A_PIECE", 7)
    ids = np.concatenate(LINES)
    check_scores(model.score_stream(ids)[:2], paths, ids)
  for line, score in zip(LINES, scores, strict=True):
    check_scores(score, paths, line)
  for row, ids in zip(log_probs, ([3, 7], [4, 0]), strict=True):
    probs = np.mean([probs_in_numpy(path, ids)[-1] for path in paths], axis=0)
    np.testing.assert_allclose(np.exp(row), probs, rtol=1e-5)
    assert np.exp(row, dtype=float).sum() == pytest.approx(1, abs=1e-6)


def test_weights_of_several_models(runs):
  names = [f"{runs}/a", f"{runs}/b"]
  models = language_model.find(names, "last", None, weights="3,1")
  (line,) = LINES[:1]
  with language_model.LanguageModel(models) as model:
    ((log_probs, _),) = model.score_lines([line])
  paths = [model.checkpoint for model in models]
  probs = [
    probs_in_numpy(path, line[:-1])[range(len(line) - 1), line[1:]]
    for path in paths
  ]
  expected = np.average(probs, axis=0, weights=[0.75, 0.25])
  np.testing.assert_allclose(np.exp(log_probs), expected, rtol=1e-5)
  for weights in ("1", "1,2,3", "1,0", "1,-1", "1,nan", "1,inf", "1,x", ""):
    with pytest.raises(language_model.ModelError, match=r"each run \(2 here"):
      language_model.find(names, "last", None, weights=weights)


def test_runs_can_start_with_a_tilde(runs, monkeypatch):
  monkeypatch.setenv("HOME", str(runs))
  folders = language_model._folders_in(["~/a, ~/b"])
  assert folders == [f"{runs}/a", f"{runs}/b"]


@pytest.fixture
def run(tmp_path):
  """A copy of the old run, to damage."""
  return shutil.copytree(OLD_RUN, tmp_path / "run")


def change_config(run, **fields):
  """Changes fields of the "config" in config.json; None removes one."""
  about = json.loads((run / "config.json").read_text())
  config = {**about["config"], **fields}
  about["config"] = {k: v for k, v in config.items() if v is not None}
  (run / "config.json").write_text(json.dumps(about))


def change_vocabulary(run, change):
  path = run / "vocabulary.txt"
  path.write_text("".join(change(path.read_text().splitlines(keepends=True))))


@pytest.mark.parametrize(
  ("damage", "message"),
  [
    (shutil.rmtree, "not the folder of a run"),
    (lambda run: (run / "config.json").unlink(), "not the folder of a run"),
    (lambda run: (run / "config.json").write_text("{"), "json is damaged"),
    (lambda run: change_config(run, num_steps=None), "json is damaged"),
    (lambda run: change_config(run, num_layers="2"), "json is damaged"),
    (lambda run: change_config(run, hidden_size=9),
     r"Model/embedding should have the shape \[50, 9\], but has \[50, 8\]"),
    (lambda run: change_config(run, num_layers=3),
     "it has no Model/RNN/multi_rnn_cell/cell_2/"),
    (lambda run: change_config(run, num_layers=1),
     "it has an additional layer, Model/RNN/multi_rnn_cell/cell_1/"),
    (lambda run: (run / "vocabulary.txt").unlink(), r"txt cannot be read"),
    (lambda run: (run / "vocabulary.txt").write_bytes(b"\xff\n"),
     "was changed after the training"),
    (lambda run: change_vocabulary(run, lambda words: words[:2]),
     "was changed after the training"),
    (lambda run: change_vocabulary(run, lambda words: words + words[:1]),
     "was changed after the training"),
    (lambda run: [p.unlink() for p in run.glob("*.index")], "no checkpoint"),
    (lambda run: [p.write_bytes(b"") for p in run.glob("*.index")], "damaged"),
    (lambda run: [p.unlink() for p in run.glob("*.data*")], "is damaged or be"),
  ],
)  # fmt: skip
def test_a_damaged_run(run, damage, message):
  damage(run)
  with pytest.raises(language_model.InputError, match=message) as error:
    language_model.LanguageModel(language_model.find([str(run)], None, None))
  assert str(error.value).count("\n") == 0
  assert str(error.value).endswith(".")


def test_weights_that_are_not_numbers(run):
  models = language_model.find([str(run)], "last", None)
  path = models[0].checkpoint
  tensors = tf1.train.load_checkpoint(path)
  with tf1.Graph().as_default(), tf1.Session() as session:
    for name in tensors.get_variable_to_shape_map():
      value = tensors.get_tensor(name)
      if name == "Model/softmax_b":
        value[4] = np.nan
      tf1.get_variable(name, initializer=value)
    session.run(tf1.global_variables_initializer())
    tf1.train.Saver().save(session, path, write_meta_graph=False)
  message = "ckpt-191 is damaged or .*: Model/softmax_b has numbers that"
  with pytest.raises(checkpoints.CheckpointError, match=message):
    language_model.LanguageModel(models)


def test_probabilities_that_are_not_numbers(model, monkeypatch):
  """The result of weights that are finite, but far too large."""
  run = model._session.run

  def overflow(fetches, feed):
    return tf1.nest.map_structure(lambda a: a * np.inf, run(fetches, feed))

  monkeypatch.setattr(model._session, "run", overflow)
  with pytest.raises(language_model.ModelError, match="not finite numbers"):
    model.score_lines(LINES)
  with pytest.raises(language_model.ModelError, match="not finite numbers"):
    model.next_words([0])


def test_runs_that_do_not_go_together(run):
  folders = [str(OLD_RUN), str(run)]
  change_vocabulary(run, lambda words: words[::-1])
  with pytest.raises(language_model.ModelError, match="in the vocabulary of"):
    language_model.find(folders, None, None)
  change_vocabulary(run, lambda words: words[::-1])
  about = json.loads((run / "config.json").read_text())
  about["preparation"] = {
    "lower_case": True, "number_word": "N", "punctuation": "drop",
  }  # fmt: skip
  (run / "config.json").write_text(json.dumps(about))
  with pytest.raises(language_model.ModelError, match="in the preparation of"):
    language_model.find(folders, None, None)


@pytest.mark.parametrize(
  ("run", "checkpoint", "data_path", "message"),
  [
    (None, None, None, "Use --run=FOLDER, the folder of a trained run; or --c"),
    (None, "/none", None, "Use --run=FOLDER, the folder of a trained run; or"),
    (None, None, "/none", "Use --run=FOLDER, the folder of a trained run; or"),
    (["/none"], None, "/none", "--data_path has no effect with --run, whos"),
    ([], None, None, "--run has an empty name"),
    (["a", ""], None, None, "--run has an empty name"),
    (["a", "b", "a"], None, None, "--run names a folder twice"),
  ],
)  # fmt: skip
def test_names_of_no_model(run, checkpoint, data_path, message):
  with pytest.raises(language_model.InputError, match=f"^{message}"):
    language_model.find(run, checkpoint, data_path)
