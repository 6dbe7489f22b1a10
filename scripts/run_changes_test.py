"""Tests of runs that end elsewhere than planned, or start from another run."""

import functools
import json
import re
import shutil

import numpy as np
import pytest

from conftest import OLD_RUN, TINY, call_main
from lm.base import tf1
from lm.text import sample_corpus

CHECKPOINT = f"{TINY}/model.ckpt-7680"
# With OVERFITS, the valid perplexity is best after the second epoch.
HPARAMS = dict(hidden_size=8, num_steps=5, init_scale=0.3, keep_prob=0.8)
OVERFITS = dict(lr_decay=1.0, hidden_size=100, keep_prob=1.0)
SPEED = ("wps", "train_seconds")


@pytest.fixture
def train(call_command, caplog):
  """Trains with these arguments; returns (exit status, stdout, stderr)."""

  def train(folder, *args, data=TINY, **hparams):
    hparams = ",".join(f"{k}={v}" for k, v in {**HPARAMS, **hparams}.items())
    flags = [f"--data_path={data}", f"--hparams={hparams}"]
    caplog.clear()
    status, out, err = call_command(
      "ptb_word_lm", *flags, f"--save_path={folder}", *args
    )
    return status, out, caplog.text + err

  return train


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory):
  """The folder of a run of one epoch with HPARAMS."""
  folder = tmp_path_factory.mktemp("runs") / "plain"
  hparams = ",".join(f"{k}={v}" for k, v in HPARAMS.items())
  flags = [f"--data_path={TINY}", f"--hparams={hparams},max_max_epoch=1"]
  assert call_main("ptb_word_lm", *flags, f"--save_path={folder}") == 0
  return folder


def read_json(path):
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  return [{k: v for k, v in line.items() if k not in SPEED} for line in lines]


def reached(folder):
  """Returns all that a finished run reached: numbers, weights and state."""
  result = json.loads((folder / "result.json").read_text())
  names = {"checkpoint", "best_checkpoint"}
  values = {name: (folder / name).read_text() for name in names}
  values["epochs"] = read_json(folder / "epochs.jsonl")
  values["result"] = {k: v for k, v in result.items() if k not in SPEED}
  values["config"] = json.loads((folder / "config.json").read_text())
  reader = tf1.train.load_checkpoint(str(folder))
  for name in reader.get_variable_to_shape_map():
    if name != "progress/json":
      values[name] = reader.get_tensor(name).tobytes()
  return values


@pytest.fixture
def stop_after(monkeypatch):
  """A function: training stops as if by a signal after a number of steps."""

  def stop_after(steps):
    import ptb_word_lm

    class Stop:
      signum, _checks = 2, 0

      def __enter__(self):
        return self

      def __exit__(self, *exception):
        pass

      def __bool__(self):
        self._checks += 1
        return self._checks > steps

    monkeypatch.setattr(ptb_word_lm, "StopRequest", Stop)

  return stop_after


def test_a_run_ends_sooner_and_is_prolonged_as_if_planned(
  train, tmp_path, monkeypatch, stop_after
):
  assert train(tmp_path / "planned", max_max_epoch=3)[0] == 0
  folder = tmp_path / "run"
  with monkeypatch.context():
    stop_after(150)  # Within the second epoch.
    assert train(folder, max_max_epoch=5)[0] == 130
  monkeypatch.undo()
  before = {p.name: p.read_bytes() for p in folder.iterdir()}
  status, out, err = train(folder, max_max_epoch=1)
  assert (status, out) == (1, "") and err.endswith(
    f"The run in {folder} is already in epoch 2: max_max_epoch=1 is too small. "
    "Make it larger, or use another --save_path.\n"
  )
  assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
  assert train(folder, max_max_epoch=2)[0] == 0
  status, _, err = train(folder, max_max_epoch=1)
  assert status == 1 and "has already trained 2 epochs: max_max" in err
  status, out, err = train(folder, max_max_epoch=3)
  assert status == 0 and "Resuming " in err
  assert out.startswith("Epoch: 3 Learning rate: 1.000\n")
  assert reached(folder) == reached(tmp_path / "planned")
  status, out, _ = train(folder, max_max_epoch=3)
  assert status == 0 and out.count("\n") == 3  # It is finished.


def test_patience_ends_a_run_and_the_best_epoch_is_named(train, tmp_path):
  folder = tmp_path / "run"
  status, out, err = train(folder, max_max_epoch=9, patience=2, **OVERFITS)
  assert status == 0
  result = json.loads((folder / "result.json").read_text())
  best, last = result["best_epoch"], result["epoch"]
  assert last == best + 2 < 9
  perplexities = [
    epoch["valid_perplexity"] for epoch in read_json(folder / "epochs.jsonl")
  ]
  assert perplexities[best - 1] == min(perplexities)
  number = r"\d+\.\d{3}"
  sentence = (
    f"Epoch {best} was better on valid: Train Perplexity {number}, Valid "
    rf"Perplexity {min(perplexities):.3f}\. --checkpoint=best uses it\.\n"
  )
  assert re.search(sentence, err)
  assert (
    f"No better valid perplexity since epoch {best}: patience=2 ends" in err
  )
  assert f"Epoch: {last} Valid" in out and f"Epoch: {last + 1}" not in out
  status, out, err = train(folder, max_max_epoch=9, patience=2, **OVERFITS)
  assert status == 0 and re.search(sentence, err) and out.count("\n") == 3
  # Without it, the run goes on to its planned end.
  status, out, _ = train(folder, max_max_epoch=last + 1, **OVERFITS)
  assert status == 0 and f"Epoch: {last + 1} Valid" in out


@pytest.fixture
def corpora(tmp_path):
  """Folders of two sample corpora of one language, the second one short."""
  for name, words in (("first", 20_000), ("second", 3_000)):
    sample_corpus.write_corpus(tmp_path / name, train_words=words)
  first = (tmp_path / "first" / "ptb.valid.txt").read_bytes()
  second = tmp_path / "second"
  (second / "ptb.train.txt").write_bytes(first)  # Unseen by the first model.
  (second / "source.json").unlink()
  return tmp_path / "first", second


def test_a_run_starts_from_another(train, call_command, tmp_path, corpora):
  first, second = corpora
  small = dict(hidden_size=32, num_layers=1, batch_size=10, init_scale=0.1)
  small["keep_prob"] = 1.0
  first_run = tmp_path / "first_run"
  assert train(first_run, data=first, max_max_epoch=4, **small)[0] == 0
  alone = tmp_path / "alone"
  assert train(alone, data=second, max_max_epoch=3, **small)[0] == 0
  tuned, again = tmp_path / "tuned", tmp_path / "again"
  hparams = dict(small, learning_rate=0.5, max_max_epoch=3)
  del hparams["hidden_size"], hparams["num_layers"]
  call = functools.partial(train, data=second)

  def tune(folder, *args, **more):
    flags = [f"--init_from={first_run}", "--checkpoint=best"]
    hparams_ = {**hparams, "hidden_size": 32, **more}
    return call(folder, *flags, *args, **hparams_)

  status, _, err = tune(tuned)
  assert status == 0
  assert f"Starting from the model {first_run}/model.ckpt-" in err
  assert "learning_rate is 1.0 there, 0.5 here" in err
  config = json.loads((tuned / "config.json").read_text())
  assert config["init_from"] == str(first_run)
  assert config["init_checkpoint"].startswith(f"{first_run}/model.ckpt-")
  assert config["config"]["num_layers"] == 1
  words = [(f / "vocabulary.txt").read_text() for f in (first_run, tuned)]
  assert words[0] == words[1]
  results = [
    json.loads((folder / "result.json").read_text())["test_perplexity"]
    for folder in (tuned, alone)
  ]
  assert results[0] < 0.8 * results[1]
  # It resumes, is evaluated and scores.
  assert tune(again, max_max_epoch=2)[0] == 0
  # By another name of the same folder, as completion makes it.
  assert tune(again, f"--init_from={first_run}/")[0] == 0
  assert reached(again) == reached(tuned)
  status, out, _ = call_command(
    "ptb_word_lm", "--evaluate", f"--data_path={second}", f"--save_path={tuned}"
  )
  assert status == 0 and f"Test Perplexity: {results[0]:.3f}" in out
  test_text = second / "ptb.test.txt"
  args = [f"--run={tuned}", "--carry_state", "--json", f"--file={test_text}"]
  status, out, _ = call_command("score", *args)
  scored = json.loads(out.splitlines()[-1])["perplexity"]
  assert scored == pytest.approx(results[0], rel=1e-4)
  status, _, err = tune(tmp_path / "no", hidden_size=16)
  assert status == 1 and "hidden_size is 32 in the trained model" in err
  status, _, err = tune(tmp_path / "no", hidden_size=" 16")
  assert status == 1 and "hidden_size is 32 in the trained model" in err
  status, _, err = tune(tmp_path / "no", "--init_data_path=x")
  assert status == 1 and "--init_data_path has no effect with a run's" in err
  config = json.loads((again / "config.json").read_text())
  shutil.move(first_run, tmp_path / "moved")  # It is not needed any more.
  assert tune(again, max_max_epoch=4)[0] == 0
  assert json.loads((again / "config.json").read_text()) == {
    **config,
    "config": {**config["config"], "max_max_epoch": 4},
  }
  shutil.move(tmp_path / "moved", first_run)
  for file in first_run.glob("*.data*"):
    file.write_bytes(file.read_bytes()[:5000])
  status, _, err = tune(tmp_path / "no")
  assert status == 1 and re.search(r"model\.ckpt-\d+ is damaged", err)
  assert not (tmp_path / "no").exists()
  status, _, err = call(tuned, **{**small, "max_max_epoch": 3})
  assert (
    status == 1 and f"--init_from is {first_run} there, not set here" in err
  )


def test_a_run_starts_from_a_checkpoint_of_tensorflow_1_15(train, tmp_path):
  args = [f"--init_from={CHECKPOINT}", f"--init_data_path={TINY}"]
  folder = tmp_path / "run"
  data = shutil.copytree(TINY, tmp_path / "other")
  text = (data / "ptb.train.txt").read_text()
  (data / "ptb.train.txt").write_text(text.replace("w01", "w02"))
  hparams = dict(hidden_size=16, max_max_epoch=1, learning_rate=1e-9)
  status, out, err = train(folder, *args, data=data, **hparams)
  assert status == 0 and f"Starting from the model {CHECKPOINT}" in err
  expected = json.loads((TINY / "expected.json").read_text())
  perplexity = float(re.search("Test Perplexity: (.*)", out)[1])
  assert perplexity == pytest.approx(expected["test"]["perplexity"], rel=1e-3)
  weights = tf1.train.load_checkpoint(CHECKPOINT).get_tensor("Model/softmax_w")
  new_weights = tf1.train.load_checkpoint(str(folder)).get_tensor(
    "Model/softmax_w"
  )
  np.testing.assert_allclose(new_weights, weights, atol=1e-6)
  (tmp_path / "ptb.train.txt").write_text("a b c\n")
  for flag, message in {
    f"--init_data_path={tmp_path}": "has a vocabulary of 50 words, but the ptb."
    f"train.txt in {tmp_path} has 4 different words. Set --init_data_path to ",
    "--init_from=/none": "--init_from=/none is neither the folder of a run",
    "--init_from=": "--init_from is empty: give a run's folder or a checkpo",
    f"--init_data_path={folder}": f"{folder}/ptb.train.txt is missing.",
    "--checkpoint=best": "--checkpoint has no effect with a checkpoint's pat",
  }.items():
    status, _, err = train(tmp_path / "no", *args, flag, data=data, **hparams)
    assert status == 1 and message in err and err.count("\n") == 1


UNK = ["the cat sat on the mat", "the dog ran to the {}"]
UNK += ["a bird sang in the tree", "the cat and the dog ran"]


@pytest.mark.parametrize("word", ["UNK", None])
def test_a_run_and_score_agree_on_a_text_with_unknown_words(
  train, call_command, tmp_path, word
):
  lines = "\n".join(UNK).format(word or "house")
  (tmp_path / "ptb.train.txt").write_text(f"{lines}\n" * 30)
  for part in ("valid", "test"):
    text = "the cat zebra sat on the yak\nthe dog ran to the gnu\n" * 30
    (tmp_path / f"ptb.{part}.txt").write_text(text)
  hparams = dict(batch_size=2, num_steps=5, hidden_size=16, num_layers=1)
  args = ["--unknown_word=UNK"] * (word == "UNK")
  run = tmp_path / "run"
  status, out, err = train(
    run, *args, data=tmp_path, **hparams, max_max_epoch=1
  )
  assert status == 0
  told = f"read as {word}." if word else "left out, because it has no <unk>."
  told = f"the vocabulary lacks 90 of 450 words. Such words are {told}"
  assert f"test.txt: {told}" in err
  printed = float(re.search("Test Perplexity: (.*)", out)[1])
  args = ["--carry_state", "--json", f"--file={tmp_path}/ptb.test.txt"]
  status, out, _ = call_command("score", f"--run={run}", *args)
  scored = json.loads(out.splitlines()[-1])["perplexity"]
  assert scored == pytest.approx(printed, abs=1e-3)
  status, out, _ = call_command(
    "ptb_word_lm", "--evaluate", f"--save_path={run}", f"--data_path={tmp_path}"
  )
  assert out.splitlines()[-1] == f"Test Perplexity: {printed:.3f}"


def test_tied_embeddings_and_a_forget_bias_in_use(
  train, call_command, tmp_path, plain_run
):
  """A run with both, and an ensemble with one without: all commands agree."""
  options = dict(tie_embeddings="true", forget_bias=1, max_max_epoch=1)
  runs = tmp_path / "tied", plain_run
  status, out, _ = train(runs[0], **options)
  assert status == 0 and "softmax_w" not in str(
    tf1.train.list_variables(str(runs[0]))
  )
  printed = float(re.search("Test Perplexity: (.*)", out)[1])
  file = f"--file={TINY}/ptb.test.txt"

  def score(*names):
    args = [f"--run={','.join(map(str, names))}", "--carry_state", "--json"]
    return json.loads(call_command("score", *args, file)[1].splitlines()[-1])

  tied, plain, both = score(runs[0]), score(runs[1]), score(*runs)
  assert tied["perplexity"] == pytest.approx(printed, abs=1e-3)
  assert both["log_prob"] > min(tied["log_prob"], plain["log_prob"])
  assert call_command("generate", f"--run={runs[0]}", "--num_words=5")[0] == 0
  status, _, err = call_command(
    "export", f"--run={runs[0]}", f"--export_dir={tmp_path}/exported"
  )
  assert status == 0, err
  checkpoint = f"{runs[0]}/model.ckpt-128"
  args = [f"--data_path={TINY}", "--evaluate", f"--checkpoint={checkpoint}"]
  hparams = "--hparams=num_steps=5,forget_bias=1"
  status, out, _ = call_command("ptb_word_lm", *args, hparams)
  assert status == 0 and f"Test Perplexity: {printed:.3f}" in out


def last_number(out):
  return float(out.splitlines()[-1].split()[-1])


def copy_checkpoint(run, folder):
  """Copies a run's last checkpoint alone; returns its path."""
  name = re.search(r'"(.*)"', (run / "checkpoint").read_text())[1]
  folder.mkdir()
  for path in run.glob(f"{name}.*"):
    shutil.copy(path, folder)
  return folder / name


def test_a_checkpoint_alone_says_how_it_was_trained(
  train, call_command, tmp_path, corpora
):
  first, second = corpora
  run, new = tmp_path / "run", tmp_path / "new"
  limit = "--vocab_size=100"
  hparams = dict(forget_bias=1.0, max_max_epoch=1)
  assert train(run, limit, data=first, **hparams)[0] == 0
  checkpoint = copy_checkpoint(run, tmp_path / "alone")
  data, text = f"--data_path={first}", f"--file={first / 'ptb.valid.txt'}"
  alone = (f"--checkpoint={checkpoint}", data)
  evaluate = ("ptb_word_lm", "--evaluate")
  expected = call_command(*evaluate, f"--save_path={run}", data)[1]
  assert call_command(*evaluate, *alone)[1] == expected
  expected = call_command("score", f"--run={run}", text)[1]
  assert call_command("score", *alone, text)[1] == expected
  for command in (evaluate, ("score", text)):
    status, _, err = call_command(*command, *alone, "--hparams=forget_bias=0")
    assert status == 1
    assert "forget_bias is 1.0 in the trained model: leave it out of" in err
  args = [f"--init_from={checkpoint}", f"--init_data_path={first}"]
  assert train(new, *args, data=second, max_max_epoch=1)[0] == 0
  config = json.loads((new / "config.json").read_text())
  assert config["config"]["forget_bias"] == 1.0
  for flag in ("--vocab_size=50", "--unknown_word=UNK"):
    status, _, err = call_command(*evaluate, *alone, flag)
    name = flag.partition("=")[0]
    assert status == 1 and f"{name} is " in err
    assert "in the checkpoint's run: leave the flag out." in err
  # A vocabulary of the same size is not the same vocabulary.
  for command in (evaluate, ("score", text)):
    args = [f"--checkpoint={checkpoint}", f"--data_path={second}"]
    status, out, err = call_command(*command, *args)
    assert (status, out) == (1, "")
    assert "a vocabulary other than that of the ptb.train.txt in " in err
  # The vocabulary of a run with --init_from is that of the other model's text.
  checkpoint = copy_checkpoint(new, tmp_path / "new_alone")
  args = [f"--checkpoint={checkpoint}", f"--data_path={second}"]
  status, out, err = call_command("score", *args, text)
  assert status == 1 and "use the run's folder instead" in err


def test_a_checkpoint_of_an_older_version_alone(call_command, tmp_path):
  checkpoint = copy_checkpoint(OLD_RUN, tmp_path / "alone")
  data, text = f"--data_path={TINY}", f"--file={TINY / 'ptb.test.txt'}"
  args = ["score", f"--checkpoint={checkpoint}", data, text]
  status, out, err = call_command(*args)
  assert (status, out) == (1, "") and "was written by an older version" in err
  expected = call_command("score", f"--run={OLD_RUN}", text)[1]
  assert call_command(*args, "--hparams=forget_bias=0")[1] == expected
  for name in ("config.json", "vocabulary.txt"):
    shutil.copy(OLD_RUN / name, checkpoint.parent)
  assert call_command(*args)[1] == expected


def test_another_runs_checkpoint_is_refused_by_any_name(
  train, call_command, tmp_path, plain_run
):
  run, other = tmp_path / "run", tmp_path / "other"
  shutil.copytree(plain_run, run)
  assert train(other, "--seed=2", max_max_epoch=1)[0] == 0
  name = copy_checkpoint(other, tmp_path / "alone").name
  data, text = f"--data_path={TINY}", f"--file={TINY / 'ptb.test.txt'}"
  status, _, err = call_command(
    "score", f"--run={run}", f"--checkpoint={other / name}", text
  )
  assert status == 1 and "it belongs to a run with another config.json" in err
  for path in other.glob(f"{name}.*"):
    shutil.copy(path, run)
  (tmp_path / "link").symlink_to(run)
  for folder in (f"{run}/", tmp_path / "link"):
    for args in (
      ["score", f"--run={folder}", text],
      ["export", f"--run={folder}", f"--export_dir={tmp_path / 'export'}"],
      ["ptb_word_lm", "--evaluate", f"--save_path={folder}", data],
      ["ptb_word_lm", f"--init_from={folder}", data],
    ):
      status, out, err = call_command(*args)
      assert (status, out) == (1, ""), args
      assert "it belongs to a run with another config.json" in err


def test_another_programs_checkpoint_is_not_a_runs(
  train, call_command, tmp_path
):
  run = tmp_path / "run"
  assert train(run, hidden_size=16, forget_bias=1, max_max_epoch=1)[0] == 0
  text, data = f"--file={TINY / 'ptb.test.txt'}", f"--data_path={TINY}"
  flag = f"--checkpoint={CHECKPOINT}"
  for args in (
    ["score", f"--run={run}", text, flag],
    ["ptb_word_lm", "--evaluate", f"--save_path={run}", data, flag],
    ["ptb_word_lm", f"--init_from={run}", data, flag],
  ):
    status, out, err = call_command(*args)
    assert (status, out) == (1, "")
    told = f"{CHECKPOINT} was not written by the run in {run}, but by another"
    assert told in err


def test_evaluation_says_if_the_texts_were_prepared_otherwise(
  call_command, tmp_path
):
  for part in ("train", "valid", "test"):
    (tmp_path / part).write_text("The cat sat.\n\nA dog ran !\n" * 60)
  names = [f"--{part}={tmp_path / part}" for part in ("train", "valid", "test")]
  new, raw, run = (tmp_path / name for name in ("new", "raw", "run"))
  assert call_command("prepare_text", *names, f"--output={new}")[0] == 0
  small = "--hparams=hidden_size=8,num_steps=2,batch_size=4,max_max_epoch=1"
  args = [f"--data_path={new}", f"--save_path={run}", small]
  assert call_command("ptb_word_lm", *args)[0] == 0
  raw.mkdir()
  for part in ("valid", "test"):
    shutil.copy(tmp_path / part, raw / f"ptb.{part}.txt")
  for folder, is_told in ((new, False), (raw, True)):
    args = ["--evaluate", f"--save_path={run}", f"--data_path={folder}"]
    status, _, err = call_command("ptb_word_lm", *args)
    assert (
      status == 0 and ("were not prepared in the same way" in err) == is_told
    )
