"""Tests of language_model.py against the model in plain numpy."""

import json
import shutil

import numpy as np
import pytest

import language_model
import reader
from conftest import TINY
from lm import checkpoints, lstm_numpy, run_folder, tf1

RANDOM = np.random.RandomState(5)
LINES = [RANDOM.randint(0, 50, length) for length in (7, 2, 31, 7, 12, 2, 3)]


def tf1_checkpoint():
  return language_model.find(None, f"{TINY}/model.ckpt-7680", str(TINY))


def weights_of(path):
  """Returns a checkpoint's weights by their names, in float64."""
  tensors = tf1.train.load_checkpoint(path)
  return {
    name: tensors.get_tensor(name).astype(float)
    for name in tensors.get_variable_to_shape_map()
    if name.startswith("Model/")
  }


def probs_in_numpy(path, ids):
  """Returns the probabilities [T, V] of what follows each of the ids [T]."""
  weights = weights_of(path)
  size = weights["Model/embedding"].shape[1]
  layers = sum(name.endswith("kernel") for name in weights)
  zeros = [(np.zeros([1, size]), np.zeros([1, size]))] * layers
  ids = np.reshape(ids, [1, -1])
  _, _, (*_, probs) = lstm_numpy.forward(weights, ids, ids, zeros)
  return probs[:, 0]


def scores_in_numpy(paths, line):
  """Returns (log_probs, ranks) of a line's words after the first."""
  probs = np.mean([probs_in_numpy(path, line[:-1]) for path in paths], axis=0)
  chosen = probs[np.arange(len(line) - 1), line[1:]]
  return np.log(chosen), 1 + (probs > chosen[:, None]).sum(axis=1)


@pytest.mark.parametrize("most_words", [None, 100, 20, 1])
def test_lines_are_scored_as_in_numpy(most_words):
  trained = tf1_checkpoint()
  with language_model.LanguageModel(trained) as model:
    if most_words:
      model._most_words = most_words
    scores = model.score_lines(LINES)
  for line, score in zip(LINES, scores, strict=True):
    log_probs, ranks = scores_in_numpy([trained[0].checkpoint], line)
    np.testing.assert_allclose(score[0], log_probs, rtol=1e-5)
    np.testing.assert_array_equal(score[1], ranks)


def test_a_stream_in_pieces_is_scored_as_in_one():
  trained = tf1_checkpoint()
  ids = np.concatenate(LINES)
  expected = scores_in_numpy([trained[0].checkpoint], ids)
  with language_model.LanguageModel(trained) as model:
    model._most_words = 9
    *score, _ = model.score_stream(ids)
    found, states = [], None
    for begin, end in ((0, 1), (0, 2), (1, 30), (29, 30), (29, 64)):
      *piece, states = model.score_stream(ids[begin:end], states)
      assert len(piece[0]) == end - begin - 1
      found.append(piece)
  pieces = [np.concatenate(arrays) for arrays in zip(*found, strict=True)]
  for one in (score, pieces):
    np.testing.assert_allclose(one[0], expected[0], rtol=1e-5)
    np.testing.assert_array_equal(one[1], expected[1])


def test_several_models_average_their_probabilities(runs):
  trained = language_model.find(
    [str(runs / "a"), str(runs / "b")], "last", None
  )
  paths = [one.checkpoint for one in trained]
  assert [one.config.hidden_size for one in trained] == [8, 12]
  with language_model.LanguageModel(trained) as model:
    scores = model.score_lines(LINES)
    log_probs, states = model.next_words([3, 4])
    log_probs, _ = model.next_words([7, 0], states)
  for line, score in zip(LINES, scores, strict=True):
    expected, ranks = scores_in_numpy(paths, line)
    np.testing.assert_allclose(score[0], expected, rtol=1e-5)
    np.testing.assert_array_equal(score[1], ranks)
  for row, ids in zip(log_probs, ([3, 7], [4, 0]), strict=True):
    probs = np.mean([probs_in_numpy(path, ids)[-1] for path in paths], axis=0)
    np.testing.assert_allclose(np.exp(row), probs, rtol=1e-5)
    assert np.exp(row, dtype=float).sum() == pytest.approx(1, abs=1e-6)


def test_which_checkpoint_of_a_run(runs, monkeypatch):
  folder = str(runs / "a")
  with monkeypatch.context() as patch:
    patch.setattr(checkpoints, "find", lambda folder, which: which)
    for given, which in ((None, "last"), ("best", "best"), ("last", "last")):
      (one,) = language_model.find([folder], given, None)
      assert one.checkpoint == which
  (one,) = language_model.find([folder], "model.ckpt-128", None)
  assert one.checkpoint == f"{folder}/model.ckpt-128"
  assert one.vocabulary == reader.read_corpus(str(TINY)).vocabulary
  assert one.preparation is None


@pytest.fixture
def run(runs, tmp_path):
  """A copy of run "a", to be damaged."""
  return shutil.copytree(runs / "a", tmp_path / "run")


def append(path, text):
  with path.open("a") as f:
    f.write(text)


def change_config(run, **fields):
  about = run_folder.read_config(str(run))
  about["config"].update(fields)
  (run / "config.json").write_text(json.dumps(about))


@pytest.mark.parametrize(
  ("damage", "message"),
  [
    (lambda run: (run / "config.json").unlink(), "not the folder of a run"),
    (lambda run: (run / "config.json").write_text("{"), "damaged, or not of t"),
    (lambda run: (run / "vocabulary.txt").unlink(), r"txt cannot be read"),
    (lambda run: (run / "vocabulary.txt").write_bytes(b"\xff\n"),
     r"vocabulary\.txt cannot be read"),
    (lambda run: (run / "vocabulary.txt").write_text("a\nb\n"),
     "has 2 lines with 2 different words, but the model knows 50"),
    (lambda run: [p.unlink() for p in run.glob("*.index")], "no checkpoint"),
    (lambda run: [p.write_bytes(b"") for p in run.glob("*.index")], "damaged"),
    (lambda run: [p.unlink() for p in run.glob("*.data*")], "damaged or anoth"),
    (lambda run: change_config(run, hidden_size=9),
     r"another model's: Model/embedding should be of shape \[50, 9\], and is "),
    (lambda run: change_config(run, num_layers=3), "is None"),
    (lambda run: change_config(run, num_layers=1),
     "another model's: it has a layer more, Model/RNN/multi_rnn_cell/cell_1/"),
    (lambda run: append(run / "vocabulary.txt", "w45\n"),
     "has 51 lines with 50 different words, but the model knows 50"),
    (lambda run: change_config(run, num_layers="2"), "no whole config"),
    (shutil.rmtree, "not the folder of a run"),
  ],
)  # fmt: skip
def test_half_a_run(run, damage, message):
  damage(run)
  with pytest.raises(language_model.InputError, match=message) as error:
    language_model.LanguageModel(language_model.find([str(run)], None, None))
  assert str(error.value).count("\n") == 0
  assert str(error.value).endswith(".")


def test_weights_that_are_no_numbers(run):
  path = checkpoints.find(str(run), "last")
  trained = language_model.find([str(run)], "last", None)
  tensors = tf1.train.load_checkpoint(path)
  with tf1.Graph().as_default(), tf1.Session() as session:
    for name in tensors.get_variable_to_shape_map():
      value = tensors.get_tensor(name)
      if name == "Model/softmax_b":
        value[4] = np.nan
      tf1.get_variable(name, initializer=value)
    session.run(tf1.global_variables_initializer())
    tf1.train.Saver().save(session, path, write_meta_graph=False)
  with pytest.raises(language_model.ModelError, match="not finite numbers"):
    language_model.LanguageModel(trained)


def test_probabilities_that_are_no_numbers(monkeypatch):
  """Of weights that are finite, but far too large."""
  with language_model.LanguageModel(tf1_checkpoint()) as model:
    run = model._run

    def overflow(fetches, feed, states):
      found, states = run(fetches, feed, states)
      return tf1.nest.map_structure(lambda a: a * np.inf, found), states

    monkeypatch.setattr(model, "_run", overflow)
    for use in (
      lambda: model.score_lines(LINES),
      lambda: model.score_stream(LINES[0]),
      lambda: model.next_words([0]),
    ):
      with pytest.raises(language_model.ModelError, match="not finite numbers"):
        use()


def test_models_that_do_not_go_together(runs, run):
  words = (run / "vocabulary.txt").read_text().split("\n")
  swapped = [words[1], words[0], *words[2:]]
  (run / "vocabulary.txt").write_text("\n".join(swapped))
  folders = [str(runs / "b"), str(run)]
  with pytest.raises(language_model.ModelError, match="on other vocabularies"):
    language_model.find(folders, None, None)
  (run / "vocabulary.txt").write_text("\n".join(words))
  about = run_folder.read_config(str(run))
  about["preparation"] = dict(
    lower_case=True, number_word="N", punctuation="drop"
  )
  (run / "config.json").write_text(json.dumps(about))
  with pytest.raises(language_model.ModelError, match="prepared in other ways"):
    language_model.find(folders, None, None)


@pytest.mark.parametrize(
  ("run", "checkpoint", "data_path", "message"),
  [
    (None, None, None, "Name the folder of a trained run, --run; or a --check"),
    (None, "/none", None, "Name the folder of a trained run, --run; or a --ch"),
    (None, None, "/none", "Name the folder of a trained run, --run; or a --ch"),
    (["/none"], None, "/none", "--run has its own vocabulary: leave --data_p"),
    (["/none"], None, None, "/none is not the folder of a run"),
    ([], None, None, "--run has an empty name"),
    (["a", ""], None, None, "--run has an empty name"),
    (["a", "b", "a"], None, None, "--run names a folder twice"),
    (["*"], None, None, r"--run=\* has one of the characters"),
    (None, "/none", "/none", "There is no checkpoint /none"),
    (None, f"{TINY}/model.ckpt-7680", "/none", "There is no folder '/none'"),
  ],
)  # fmt: skip
def test_what_names_no_model(run, checkpoint, data_path, message):
  with pytest.raises(language_model.InputError, match=f"^{message}"):
    language_model.find(run, checkpoint, data_path)


def test_a_checkpoint_of_another_text_or_model(tmp_path):
  (tmp_path / "ptb.train.txt").write_text("a b c\n")
  with pytest.raises(
    language_model.ModelError, match=r"of a model of 50 words, but .* has 4 di"
  ):
    language_model.find(None, f"{TINY}/model.ckpt-7680", str(tmp_path))
  with tf1.Graph().as_default(), tf1.Session() as session:
    tf1.get_variable("Model/embedding", [4, 3])
    session.run(tf1.global_variables_initializer())
    tf1.train.Saver().save(session, str(tmp_path / "ckpt"))
  with pytest.raises(checkpoints.CheckpointError, match="it has no kernel of"):
    language_model.find(None, str(tmp_path / "ckpt"), str(tmp_path))
