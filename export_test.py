"""Tests of `python export.py`, with TensorFlow alone to load what it wrote."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import export
import language_model
from conftest import TF1_CHECKPOINT, TINY
from lm import preparation

# Prints what a SavedModel says of sentences, and of the same word by word. Run
# with -I, Python finds nothing of this project.
USER = """
import json, sys
import tensorflow as tf

folder, how, sentences = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
assert not [m for m in sys.modules if m in ("language_model", "tf1", "reader")]
longest = max(map(len, sentences))
words = [s + ["zzz"] * (longest - len(s)) for s in sentences]
lengths = [len(s) for s in sentences]
size = len(sentences)

def results(score, next_word, shapes):
  scores = score(words=words, lengths=lengths)
  found = {n: v.tolist() for n, v in scores.items()}
  vocabulary = open(f"{folder}/assets/vocabulary.txt").read().split("\\n")[:-1]
  states = {n: [[[[0.0] * h] * 2] * l] * size for n, (l, h) in shapes.items()}
  found["next"] = []
  for column in [["<eos>"] * size, *zip(*words)]:
    column = [w if w in vocabulary else "<eos>" for w in column]
    outputs = next_word(words=column, **states)
    states = {name: outputs[name] for name in states}
    found["next"].append(outputs["log_probs"].tolist())
  return found

if how == "eager":
  model = tf.saved_model.load(folder)
  def call(name):
    def run(**inputs):
      outputs = model.signatures[name](
          **{n: tf.constant(v) for n, v in inputs.items()})
      return {n: v.numpy() for n, v in outputs.items()}
    return run
  spec = model.signatures["next_word"].structured_input_signature[1]
  del spec["words"]
  shapes = {n: (s.shape[1], s.shape[3]) for n, s in spec.items()}
  print(json.dumps(results(call("score"), call("next_word"), shapes)))
else:
  v1 = tf.compat.v1
  with v1.Graph().as_default(), v1.Session() as session:
    about = v1.saved_model.load(session, ["serve"], folder).signature_def
    def call(name):
      def run(**inputs):
        ins, outs = about[name].inputs, about[name].outputs
        return session.run({n: o.name for n, o in outs.items()},
                           {ins[n].name: v for n, v in inputs.items()})
      return run
    spec = about["next_word"].inputs
    shapes = {n: (s.tensor_shape.dim[1].size, s.tensor_shape.dim[3].size)
              for n, s in spec.items() if n != "words"}
    print(json.dumps(results(call("score"), call("next_word"), shapes)))
"""
SENTENCES = ["w01 w02 w03 w04", "", "w10 w00", "w07"]


def use(folder, how):
  """Returns what the SavedModel says of SENTENCES."""
  sentences = json.dumps([s.split() for s in SENTENCES])
  process = subprocess.run(
    [sys.executable, "-I", "-c", USER, str(folder), how, sentences],
    capture_output=True,
    text=True,
    cwd="/",
  )
  assert process.returncode == 0, process.stderr
  return json.loads(process.stdout.splitlines()[-1])


def expected_of(trained):
  """Returns the same, from the model itself."""
  with language_model.LanguageModel(trained) as model:
    eos = model.id_of("<eos>")
    lines = [
      [eos, *(model.id_of(w) for w in s.split()), eos] for s in SENTENCES
    ]
    scores = [log_probs for log_probs, _ in model.score_lines(lines)]
    states, following = None, []
    for i in range(5):
      ids = [line[:-1][i] if i < len(line) - 1 else eos for line in lines]
      log_probs, states = model.next_words(ids, states)
      following.append(log_probs)
  return scores, following


def check(found, expected):
  scores, following = expected
  longest = max(map(len, scores))
  padded = [np.pad(score, (0, longest - len(score))) for score in scores]
  np.testing.assert_allclose(found["log_probs"], padded, rtol=1e-5)
  sums = np.array([score.sum() for score in scores])
  np.testing.assert_allclose(found["log_prob"], sums, rtol=1e-5)
  lengths = np.array([len(score) for score in scores])
  np.testing.assert_allclose(
    found["perplexity"], np.exp(-sums / lengths), rtol=1e-5
  )
  np.testing.assert_allclose(found["next"], following, rtol=1e-5)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
  """The checkpoint of TensorFlow 1.15, exported by a real process."""
  folder = tmp_path_factory.mktemp("new") / "deep" / "model"
  flag = f"--export_dir={folder}"
  process = subprocess.run(
    [sys.executable, export.__file__, *TF1_CHECKPOINT, flag],
    capture_output=True,
    text=True,
    cwd="/",
  )
  assert (process.returncode, process.stderr) == (0, "")
  assert process.stdout == (
    f"Wrote {folder} with the signatures next_word and score.\n"
  )
  return folder


@pytest.mark.parametrize("how", ["eager", "graph"])
def test_tensorflow_alone_gives_the_same_numbers(exported, how):
  trained = language_model.find(None, f"{TINY}/model.ckpt-7680", str(TINY))
  check(use(exported, how), expected_of(trained))


def test_several_runs_are_one_model(call_command, runs, tmp_path):
  folder = tmp_path / "model"
  run = [str(runs / "a"), str(runs / "b")]
  status, _, err = call_command(
    "export", f"--run={','.join(run)}", f"--export_dir={folder}"
  )
  assert (status, err) == (0, "")
  found = use(folder, "eager")
  check(found, expected_of(language_model.find(run, None, None)))


def test_what_is_written(exported):
  files = {str(p.relative_to(exported)) for p in exported.rglob("*.*")}
  assert files == {
    "saved_model.pb",
    "assets/vocabulary.txt",
    "variables/variables.index",
    "variables/variables.data-00000-of-00001",
  }
  assert [p.name for p in exported.parent.iterdir()] == ["model"]
  assert os.stat(exported).st_mode & 0o777 == 0o777 & ~umask()


def umask():
  mask = os.umask(0)
  os.umask(mask)
  return mask


def test_saved_model_cli_shows_it(exported):
  tool = pathlib.Path(sys.executable).parent / "saved_model_cli"
  process = subprocess.run(
    [tool, "show", "--dir", exported, "--all"], capture_output=True, text=True
  )
  assert process.returncode == 0
  shown = " ".join(process.stdout.split())
  for part in (
    "signature_def['next_word']:",
    "inputs['words'] tensor_info: dtype: DT_STRING shape: (-1) name: words:0",
    "inputs['state'] tensor_info: dtype: DT_FLOAT shape: (-1, 2, 2, 16)",
    "outputs['log_probs'] tensor_info: dtype: DT_FLOAT shape: (-1, 50)",
    "signature_def['score']:",
    "inputs['words'] tensor_info: dtype: DT_STRING shape: (-1, -1)",
    "inputs['lengths'] tensor_info: dtype: DT_INT32 shape: (-1)",
    "outputs['perplexity'] tensor_info: dtype: DT_FLOAT shape: (-1)",
  ):
    assert part in shown


def load_here(folder):
  import tensorflow as tf

  return tf, tf.saved_model.load(str(folder)).signatures


def test_wrong_sentences_are_told(exported):
  tf, signatures = load_here(exported)
  score = signatures["score"]
  errors = tf.errors.InvalidArgumentError
  with pytest.raises(errors, match=r"A word is unknown, and vocabulary\.txt"):
    score(words=tf.constant([["w01", "zzz"]]), lengths=tf.constant([2]))
  with pytest.raises(errors, match="A length is larger than the words there"):
    score(words=tf.constant([["w01", "w02"]]), lengths=tf.constant([3]))
  with pytest.raises(errors, match="A length is negative"):
    score(words=tf.constant([["w01", "w02"]]), lengths=tf.constant([-1]))


def trained_on(words, choices=None):
  """Returns a Trained whose checkpoint is the tiny one, under other words."""
  (one,) = language_model.find(None, f"{TINY}/model.ckpt-7680", str(TINY))
  words += one.vocabulary[len(words) :]
  return [language_model.Trained(one.checkpoint, one.config, words, choices)]


def test_unknown_words_are_read_as_unk(tmp_path):
  export.export(trained_on(["a", "<unk>", "<eos>"]), str(tmp_path))
  tf, signatures = load_here(tmp_path)
  found = [
    signatures["score"](words=tf.constant([[w]]), lengths=tf.constant([1]))
    for w in ("zzz", "<unk>", "a")
  ]
  zzz, unk, other = (f["log_prob"].numpy()[0] for f in found)
  assert zzz == unk != other


def test_without_line_ends_there_are_no_sentences(tmp_path):
  words = [f"word{number}" for number in range(50)]
  assert export.export(trained_on(words), str(tmp_path)) == ["next_word"]


def test_the_preparation_is_an_asset(tmp_path):
  choices = preparation.Preparation(
    lower_case=True, number_word="N", punctuation="drop"
  )
  export.export(trained_on([], choices), str(tmp_path))
  assert preparation.read(tmp_path / "assets") == choices


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing(tmp_path, signum):
  with subprocess.Popen(
    [
      sys.executable,
      export.__file__,
      *TF1_CHECKPOINT,
      f"--export_dir={tmp_path}/new",
    ],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  ) as process:
    while not list(tmp_path.iterdir()):
      assert process.poll() is None
      time.sleep(0.001)
    process.send_signal(signum)
    out, err = process.communicate(timeout=60)
  assert (process.returncode, out) == (128 + signum, "")
  assert err == ("Interrupted.\n" if signum == signal.SIGINT else "")
  assert not list(tmp_path.iterdir())


def test_bad_input_gets_one_sentence(call_command, exported, tmp_path):
  (tmp_path / "file").write_text("")
  before = sorted(exported.rglob("*"))
  for args, message in (
    ([], "--export_dir is missing: the folder to make."),
    (["--export_dir="], "--export_dir is missing: the folder to make."),
    ([f"--export_dir={exported}"], f"--export_dir={exported} is there alre"),
    ([f"--export_dir={tmp_path}/file"], f"--export_dir={tmp_path}/file is the"),
    (["--export_dir=/proc/x"], "Cannot make the folder --export_dir=/proc/x: "),
    (
      [f"--export_dir={tmp_path}/new", "--run=/none"],
      "--run has its own vo",
    ),
  ):
    status, out, err = call_command("export", *TF1_CHECKPOINT, *args)
    assert (status, out) == (1, "")
    assert err.startswith(f"export.py: {message}")
    assert err.count("\n") == 1
  assert sorted(exported.rglob("*")) == before
  assert [p.name for p in tmp_path.iterdir()] == ["file"]
