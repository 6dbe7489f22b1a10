"""Tests of `python export.py`; only TensorFlow loads what it wrote."""

import dataclasses
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import export
import language_model
from conftest import TF1_CHECKPOINT, TINY, call_main
from lm.base import tf1
from lm.text import preparation

# Prints the scores of a SavedModel for sentences, and for their words one by
# one, in eager and in graph mode. With -I, Python finds nothing of the project.
USER = """
import json, sys
import numpy as np
import tensorflow as tf

folder, sentences = sys.argv[1], json.loads(sys.argv[2])
assert not {"language_model", "lm", "reader"} & set(sys.modules)
longest = max(map(len, sentences))
words = [s + ["zzz"] * (longest - len(s)) for s in sentences]
lengths = [len(s) for s in sentences]
vocabulary = open(f"{folder}/assets/vocabulary.txt").read().split("\\n")[:-1]

def results(call, shapes):
  result = call("score", words=words, lengths=lengths)
  states = {name: np.zeros([len(words), *shape[1:]], np.float32)
            for name, shape in shapes.items() if name != "words"}
  result["next"] = []
  for column in [["<eos>"] * len(words), *zip(*words)]:
    column = [w if w in vocabulary else "<eos>" for w in column]
    outputs = call("next_word", words=column, **states)
    states = {name: outputs[name] for name in states}
    result["next"].append(outputs["log_probs"])
  return tf.nest.map_structure(lambda array: array.tolist(), result)

signatures = tf.saved_model.load(folder).signatures
def in_eager_mode(name, **inputs):
  inputs = {n: tf.constant(v) for n, v in inputs.items()}
  return {n: v.numpy() for n, v in signatures[name](**inputs).items()}
spec = signatures["next_word"].structured_input_signature[1]
shapes = {name: tensor.shape for name, tensor in spec.items()}
print(json.dumps(results(in_eager_mode, shapes)))

v1 = tf.compat.v1
with v1.Graph().as_default(), v1.Session() as session:
  signatures = v1.saved_model.load(session, ["serve"], folder).signature_def
  def in_graph_mode(name, **inputs):
    feed = {signatures[name].inputs[n].name: v for n, v in inputs.items()}
    outputs = signatures[name].outputs.items()
    return session.run({n: tensor.name for n, tensor in outputs}, feed)
  print(json.dumps(results(in_graph_mode, shapes)))
"""
SENTENCES = [s.split() for s in ("w01 w02 w03 w04", "", "w10 w00", "w07")]


def check(folder, models):
  """Compares the SavedModel's scores of SENTENCES with those of the models."""
  process = subprocess.run(
    [sys.executable, "-I", "-c", USER, str(folder), json.dumps(SENTENCES)],
    capture_output=True, text=True, cwd="/",
  )  # fmt: skip
  assert process.returncode == 0, process.stderr
  with language_model.LanguageModel(models) as model:
    eos = model.id_of("<eos>")
    lines = [[eos, *map(model.id_of, words), eos] for words in SENTENCES]
    scores = [log_probs for log_probs, _ in model.score_lines(lines)]
    states, following = None, []
    for i in range(5):
      ids = [line[i] if i < len(line) - 1 else eos for line in lines]
      log_probs, states = model.next_words(ids, states)
      following.append(log_probs)
  sums = np.array([sum(score) for score in scores])
  expected = {
    "log_probs": [np.pad(score, (0, 5 - len(score))) for score in scores],
    "log_prob": sums,
    "perplexity": [np.exp(-np.mean(score)) for score in scores],
    "next": following,
  }
  for mode in process.stdout.splitlines()[-2:]:
    result = json.loads(mode)
    assert result.keys() == expected.keys()
    for name, value in expected.items():
      np.testing.assert_allclose(result[name], value, rtol=1e-5)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
  """The folder of the checkpoint of TensorFlow 1.15, exported."""
  folder = tmp_path_factory.mktemp("new") / "deep" / "model"
  assert call_main("export", *TF1_CHECKPOINT, f"--export_dir={folder}") == 0
  return folder


def test_tensorflow_alone_gives_the_same_numbers(exported, tf1_models):
  check(exported, tf1_models)


def test_several_runs_are_one_model(call_command, runs, tmp_path):
  names, folder = [f"{runs}/a", f"{runs}/b"], tmp_path / "model"
  status, out, err = call_command(
    "export", f"--run={','.join(names)}", f"--export_dir={folder}"
  )
  told = f"Wrote {folder} with the signatures next_word and score.\n"
  assert (status, out) == (0, told)
  for name, line in zip(names, err.splitlines(), strict=True):
    assert line.startswith(f"Using {name}/model.ckpt-256: epoch 2, valid perp")
  check(folder, language_model.find(names, None, None))


def test_the_files(exported):
  files = {str(p.relative_to(exported)) for p in exported.rglob("*.*")}
  assert files == {
    "saved_model.pb",
    "assets/vocabulary.txt",
    "variables/variables.index",
    "variables/variables.data-00000-of-00001",
  }
  assert [p.name for p in exported.parent.iterdir()] == ["model"]


def score(folder, words, lengths):
  """Returns the outputs of the signature "score", loaded in this process."""
  signature = tf1.saved_model.load_v2(str(folder)).signatures["score"]
  return signature(words=tf1.constant(words), lengths=tf1.constant(lengths))


@pytest.mark.parametrize(
  ("words", "length", "message"),
  [
    (["w01", "zzz"], 2, r"A word is unknown, and vocabulary\.txt has no <unk>"),
    (["w01", "w02"], 3, "A length is larger than the number of words"),
  ],
)
def test_wrong_sentences_are_refused(exported, words, length, message):
  with pytest.raises(tf1.errors.InvalidArgumentError, match=message):
    score(exported, [words], [length])


@pytest.fixture
def export_with(tf1_models, tmp_path):
  """A function that exports the tiny model under other words."""

  def export_with(words, choices=None):
    words += tf1_models[0].vocabulary[len(words) :]
    other = dataclasses.replace(
      tf1_models[0], vocabulary=words, preparation=choices
    )
    return export.export([other], str(tmp_path))

  return export_with


def test_a_model_of_a_prepared_text_with_unk(export_with, tmp_path):
  choices = preparation.Preparation(
    lower_case=True, number_word="N", punctuation="drop"
  )
  export_with(["a", "<unk>", "<eos>"], choices)
  assert preparation.read_preparation(tmp_path / "assets") == choices
  scores = score(tmp_path, [["zzz"], ["<unk>"], ["a"]], [1, 1, 1])
  zzz, unk, a = scores["log_prob"].numpy()
  assert zzz == unk != a


def test_without_line_ends_there_are_no_sentences(export_with):
  assert export_with([f"word{number}" for number in range(50)]) == ["next_word"]


def test_a_signal_leaves_nothing(tmp_path):
  flag = f"--export_dir={tmp_path}/new"
  with subprocess.Popen(
    [sys.executable, export.__file__, *TF1_CHECKPOINT, flag],
    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
  ) as process:  # fmt: skip
    while not list(tmp_path.iterdir()):
      assert process.poll() is None
      time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
  # Python reports an object of TensorFlow whose constructor the signal ended.
  assert out == "" and (err == "" or err.startswith("Exception ignored in: "))
  assert process.returncode == 128 + signal.SIGTERM
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ("folder", "message"),
  [
    ("", "--export_dir is missing: give the folder to create."),
    (TINY, f"--export_dir={TINY} already exists"),
    ("/proc/x", "Cannot create the folder --export_dir=/proc/x: "),
  ],
)
def test_bad_input_gets_one_sentence(call_command, folder, message):
  args = [*TF1_CHECKPOINT, f"--export_dir={folder}"]
  status, out, err = call_command("export", *args)
  assert (status, out) == (1, "")
  assert err.startswith(f"export.py: {message}") and err.count("\n") == 1
