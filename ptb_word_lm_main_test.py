"""Tests of `python ptb_word_lm.py`, as real processes."""

import concurrent.futures
import contextlib
import ctypes
import fcntl
import functools
import json
import multiprocessing
import os
import pathlib
import pty
import re
import resource
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time

import numpy as np
import pytest
from tensorboard.backend.event_processing import event_accumulator

import configs
import ptb_word_lm
import reader
from lm import checkpoints, device, run_folder, sample_corpus, tf1

ROOT = pathlib.Path(__file__).parent
TINY = str(ROOT / "lm" / "testdata" / "tf1_tiny")
COMMAND = [sys.executable, str(ROOT / "ptb_word_lm.py")]
PROGRESS = ("progress/lstm_state", "progress/json")
SMALLER = "hidden_size=8,num_steps=5,max_max_epoch=2,keep_prob=0.8"


def run(*args, cwd="/", **kwargs):
  """Runs the command to its end, from a folder that is not the project's."""
  return subprocess.run(
    [*COMMAND, *args], capture_output=True, text=True, cwd=cwd, **kwargs
  )


@pytest.fixture
def call(call_command):
  """A function: of the arguments to (exit status, stdout, stderr)."""
  return functools.partial(call_command, "ptb_word_lm")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A finished run with a folder: (process, folder)."""
  folder = tmp_path_factory.mktemp("runs") / "new" / "run"
  args = [f"--data_path={TINY}", f"--hparams={SMALLER}", "--seed=3"]
  return run(*args, f"--save_path={folder}"), folder


def epochs_of(folder):
  """Returns the epochs' lines of a run, without what differs in time."""
  lines = [
    json.loads(s) for s in (folder / "epochs.jsonl").read_text().splitlines()
  ]
  for line in lines:
    assert line.pop("wps") > 0 and line.pop("train_seconds") > 0
  return lines


def test_prints_what_the_tutorial_printed(finished):
  process, folder = finished
  number = r"\d+\.\d{3}"
  epoch = [r"Epoch: {} Learning rate: 1\.000"]
  fractions = (f"{step / 128:.3f}" for step in range(10, 128, 12))
  epoch += [
    rf"{fraction} perplexity: {number} speed: \d+ wps" for fraction in fractions
  ]
  epoch += [
    f"Epoch: {{}} {part} Perplexity: {number}" for part in ("Train", "Valid")
  ]
  expected = [s.replace("{}", n) for n in "12" for s in epoch]
  expected.append(f"Test Perplexity: {number}")
  lines = process.stdout.splitlines()
  assert len(lines) == len(expected)
  for line, pattern in zip(lines, expected, strict=True):
    assert re.fullmatch(pattern, line), (line, pattern)
  assert re.fullmatch(
    r"Training the small model on .* with TensorFlow 2\.\d+\.\d+, rnn_mode "
    r"basic, in float32: 12,825 words, 50 different ones\.\n",
    process.stderr,
  )
  assert process.returncode == 0
  result = json.loads((folder / "result.json").read_text())
  assert f"{result['test_perplexity']:.3f}" == lines[-1].split()[-1]
  assert f"{result['valid_perplexity']:.3f}" == lines[-2].split()[-1]


@pytest.mark.parametrize("has_units", [False, True])
def test_16_bits_in_the_basic_mode(monkeypatch, call, has_units):
  """It says which 16 bits, and whether they will be slower."""
  features = {"amx_bf16"} if has_units else {"avx2"}
  monkeypatch.setattr(device, "cpu_features", lambda: features)
  status, out, err = call(
    f"--data_path={TINY}",
    "--model=test",
    "--hparams=hidden_size=8",
    "--rnn_mode=basic",
    "--use_fp16",
  )
  assert status == 0
  assert "rnn_mode basic, in bfloat16" in err
  assert ("no units for bfloat16: " in err) != has_units
  assert re.search(r"^Test Perplexity: \d+\.\d+$", out, re.MULTILINE)


def test_the_folder_has_all_of_the_run(finished):
  _, folder = finished
  names = {re.sub(r"(tfevents\.).*", r"\1", p.name) for p in folder.iterdir()}
  bundles = {
    f"model.ckpt-{step}.{end}"
    for step in (128, 256)
    for end in ("index", "data-00000-of-00001")
  }
  assert names == bundles | {
    "checkpoint",
    "best_checkpoint",
    "config.json",
    "vocabulary.txt",
    "epochs.jsonl",
    "result.json",
    "events.out.tfevents.",
  }
  about = json.loads((folder / "config.json").read_text())
  corpus = reader.read_corpus(TINY)
  words = (folder / "vocabulary.txt").read_text().split("\n")
  assert words == [*corpus.vocabulary, ""]
  assert about["data_sha256"] == corpus.sha256
  assert (about["model"], about["dtype"], about["seed"]) == (
    ("small", "float32", 3)
  )
  assert about["config"]["rnn_mode"] == "basic"
  assert about["config"]["hidden_size"] == 8
  assert about["config"]["vocab_size"] == 50
  configs.SmallConfig(**about["config"])
  lines = epochs_of(folder)
  assert [line["epoch"] for line in lines] == [1, 2]
  assert [line["global_step"] for line in lines] == [128, 256]


def test_summaries_show_in_tensorboard(finished):
  _, folder = finished
  events = event_accumulator.EventAccumulator(str(folder))
  events.Reload()
  steps = {
    t: [e.step for e in events.Scalars(t)] for t in events.Tags()["scalars"]
  }
  along = [*range(2, 129, 2), *range(130, 257, 2)]
  for name in ("loss", "learning_rate", "wps"):
    assert steps[f"train/{name}"] == along
  for name in ("train_perplexity", "valid_perplexity", "learning_rate", "wps"):
    assert steps[f"epoch/{name}"] == [128, 256]
  assert steps["result/test_perplexity"] == [256]
  valid = [e.value for e in events.Scalars("epoch/valid_perplexity")]
  expected = [line["valid_perplexity"] for line in epochs_of(folder)]
  np.testing.assert_allclose(valid, expected, rtol=1e-6)


def test_the_checkpoint_gives_the_perplexities_again(finished):
  _, folder = finished
  about = json.loads((folder / "config.json").read_text())
  result = json.loads((folder / "result.json").read_text())
  config, corpus = configs.Config(**about["config"]), reader.read_corpus(TINY)
  with tf1.Graph().as_default(), tf1.Session() as session:
    _, model = ptb_word_lm.build_models(config, corpus, 9)
    checkpoints.restore_variables(
      session, tf1.train.latest_checkpoint(str(folder))
    )
    perplexity = ptb_word_lm.run_epoch(session, model)
    assert perplexity == pytest.approx(result["valid_perplexity"], 1e-6)
    perplexity = ptb_word_lm.stream_perplexity(session, model, corpus.test)
    assert perplexity == pytest.approx(result["test_perplexity"], 1e-6)
  names = {n for n, _ in tf1.train.list_variables(str(folder))}
  expected = json.loads(pathlib.Path(TINY, "expected.json").read_text())
  assert names == {*expected["variables"], *PROGRESS}


def test_a_seed_gives_the_same_again_and_needs_no_folder(
  finished, call, tmp_path, monkeypatch
):
  process, _ = finished
  args = [f"--data_path={TINY}", f"--hparams={SMALLER}"]
  monkeypatch.chdir(tmp_path)
  _, other, _ = call(*args, "--seed=4")
  assert not list(tmp_path.iterdir())
  _, again, _ = call(*args, "--seed=3", f"--save_path={tmp_path}")
  assert epochs_of(tmp_path) == epochs_of(finished[1])  # To the last bit.

  def perplexities(text):
    return re.findall(r"erplexity: (\S+)", text)

  assert perplexities(again) == perplexities(process.stdout)
  assert perplexities(other) != perplexities(process.stdout)


@pytest.mark.parametrize(
  ("args", "status", "message"),
  [
    ([], 1, "--data_path is missing: .*download_ptb.sh"),
    (["--data_path=/none"], 1, "There is no folder '/none'.*download_ptb.sh"),
    ([f"--data_path={TINY}", "--hparams=layers=3"], 1,
     "'layers' is not a field; the fields to set are init_scale .float., "),
    ([f"--data_path={TINY}", "--hparams=batch_size=99999"], 1,
     "ptb.train.txt: too few words for a batch: 12,825, where"),
    ([f"--data_path={TINY}", "--hparams=batch_size=100"], 1,
     "ptb.valid.txt: too few words for a batch: .*Make batch_size or "),
    ([f"--data_path={TINY}", "--hparams=hidden_size=900000"], 1,
     r"The model needs 1\d+\.\d GB of memory at least, and there are .* GB. "
     "Make hidden_size, num_layers, batch_size or num_steps smaller"),
    ([f"--data_path={TINY}", f"--save_path={__file__}"], 1,
     "--save_path=.*main_test.py is not a folder; name one"),
    ([f"--data_path={TINY}", "--save_path=/proc/run"], 1,
     "Cannot make the folder of --save_path=/proc/run: No such file or direc"),
    ([f"--data_path={TINY}", "--save_path=/proc"], 1, "Cannot write "),
    ([f"--data_path={TINY}", "--save_path=a[b]"], 1, "--save_path=a.b. has o"),
    ([f"--data_path={TINY}", "--save_path="], 1, "--save_path is empty"),
    (["small"], 2, "'small' is not a flag; --help lists them"),
  ],
)  # fmt: skip
def test_bad_input_gets_one_sentence(args, status, message):
  process = run(*args)
  assert process.returncode == status
  assert re.match(f"ptb_word_lm.py: {message}", process.stderr)
  assert process.stderr.count("\n") == 1
  assert not process.stdout


@pytest.mark.parametrize(
  "flag",
  [
    "--rnn_mode=cudnn",
    "--num_gpus=0",
    "--model=huge",
    "--seed=-1",
    "--hparams=a=1",
  ],
)
def test_wrong_flags_do_not_start_tensorflow(tmp_path, flag):
  (tmp_path / "tensorflow.py").write_text("raise SystemExit('loaded')")
  env = {**os.environ, "PYTHONPATH": str(tmp_path)}
  assert run(f"--data_path={TINY}", env=env).stderr == "loaded\n"
  process = run(f"--data_path={TINY}", flag, env=env)
  assert process.returncode == 1
  assert re.match("(FATAL Flags parsing|ptb_word_lm.py:)", process.stderr)
  assert "Traceback" not in process.stderr and "loaded" not in process.stderr


def test_works_without_standard_streams(tmp_path):
  args = [f"--data_path={TINY}", "--model=test", "--hparams=num_steps=20"]
  args.append(f"--save_path={tmp_path}")
  command = " ".join(map(shlex.quote, [*COMMAND, *args]))
  process = subprocess.run(f"{command} <&- >&- 2>&-", shell=True)
  assert process.returncode == 0
  assert (tmp_path / "result.json").exists()


def test_importing_does_nothing():
  code = (
    "import sys, configs, reader, ptb_word_lm; from absl import flags; "
    "assert 'tensorflow' not in sys.modules; "
    "assert 'data_path' not in flags.FLAGS"
  )
  process = subprocess.run(
    [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
  )
  assert (process.returncode, process.stdout + process.stderr) == (0, "")


def files_of(folder):
  return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_another_run_in_the_folder_is_refused(finished, call):
  _, folder = finished
  before = files_of(folder)
  status, out, err = call(f"--data_path={TINY}", f"--save_path={folder}")
  assert (status, out) == (1, "")
  assert err.endswith(
    "holds another run: seed is 3 there, 1 here; num_steps is 5 there, "
    "20 here; hidden_size is 8 there, 200 here; max_max_epoch is 2 there, 13 "
    "here; keep_prob is 0.8 there, 1.0 here. Give --save_path another folder, "
    "or the flags and the data of that run.\n"
  )
  assert files_of(folder) == before


def test_a_finished_run_prints_its_results_again(finished):
  process, folder = finished
  before = files_of(folder)
  args = [f"--data_path={TINY}", f"--hparams={SMALLER}", "--seed=3"]
  again = run(*args, f"--save_path={folder}")
  assert again.returncode == 0
  assert again.stderr == f"The run in {folder} is finished.\n"
  lines = process.stdout.splitlines()
  assert again.stdout.splitlines() == lines[-3:]
  assert files_of(folder) == before


@pytest.mark.parametrize("which", ["best", "last"])
def test_evaluates_a_run(finished, call, which):
  process, folder = finished
  before = files_of(folder)
  status, out, err = call(
    f"--data_path={TINY}",
    f"--save_path={folder}",
    "--evaluate",
    *["--checkpoint=best"] * (which == "best"),
  )
  epochs = epochs_of(folder)
  if which == "best":
    epochs.sort(key=lambda epoch: -epoch["valid_perplexity"])
  step = epochs[-1]["global_step"]
  assert (status, err) == (0, f"Evaluating {folder}/model.ckpt-{step}.\n")
  valid, test = out.splitlines()
  perplexity = epochs[-1]["valid_perplexity"]
  assert valid == f"Valid Perplexity: {perplexity:.3f}"
  assert (test == process.stdout.splitlines()[-1]) == (step == 256)
  assert files_of(folder) == before


def test_evaluates_a_checkpoint_of_tensorflow_1_15(call):
  expected = json.loads(pathlib.Path(TINY, "expected.json").read_text())
  args = [f"--data_path={TINY}", "--evaluate", "--hparams=num_steps=5"]
  path = os.path.join(TINY, expected["checkpoint"])
  status, out, _ = call(*args, f"--checkpoint={path}")
  assert status == 0
  found = [float(line.split()[-1]) for line in out.splitlines()]
  parts = [expected[part]["perplexity"] for part in ("valid", "test")]
  assert found == [round(perplexity, 3) for perplexity in parts]


@pytest.mark.parametrize(
  ("args", "message"),
  [
    (["--evaluate"], "--evaluate needs the folder of a run, --save_path, or"),
    (["--checkpoint_minutes=5"],
     "--checkpoint_minutes has no effect with no --save_path: leave it out"),
    (["--evaluate", "--save_path=RUN", "--model=small"],
     "--model has no effect with --evaluate --save_path: leave it out"),
    (["--evaluate", "--checkpoint=CKPT", "--seed=2"],
     "--seed has no effect with --evaluate: leave it out"),
    (["--evaluate", "--save_path=/none"], "/none is not the folder of a run: "),
    (["--evaluate", "--save_path="], "--save_path is empty; name a folder"),
    (["--evaluate", "--checkpoint=/none"], "There is no checkpoint /none: it"),
    (["--evaluate", "--checkpoint=best"], "--evaluate needs the folder of a"),
    (["--evaluate", "--checkpoint=CKPT.index"],
     "There is no checkpoint CKPT.index: it would have a file "
     "CKPT.index.index, and is named without .index"),
    (["--evaluate", "--checkpoint=CKPT", "--hparams=hidden_size=7"],
     "Only batch_size and num_steps have an effect with --evaluate --checkpoi"),
    (["--evaluate", "--checkpoint=model.ckpt-5", "--save_path=RUN"],
     "There is no checkpoint RUN/model.ckpt-5: it would have a file"),
    (["--evaluate", "--checkpoint=CKPT", "--data_path=OTHER"],
     "CKPT is of a model of 50 words, but ptb.train.txt has 3 different ones"),
    (["--evaluate", "--save_path=RUN", "--data_path=OTHER"],
     "The run in RUN has another vocabulary than ptb.train.txt"),
    (["--checkpoint=best"], "--checkpoint is for --evaluate"),
  ],
)  # fmt: skip
def test_what_cannot_be_evaluated(finished, call, tmp_path, args, message):
  for part in ("train", "valid", "test"):
    (tmp_path / f"ptb.{part}.txt").write_text("w01 w02\n" * 99)
  places = {
    "RUN": str(finished[1]),
    "CKPT": os.path.join(TINY, "model.ckpt-7680"),
    "OTHER": str(tmp_path),
  }
  for word, place in places.items():
    args = [arg.replace(word, place) for arg in args]
    message = message.replace(word, place)
  status, out, err = call(f"--data_path={TINY}", *args)
  assert (status, out) == (1, "")
  assert err.startswith(f"ptb_word_lm.py: {message}")
  assert err.count("\n") == 1


def test_unknown_words_are_told(tmp_path):
  for part in ("train", "valid", "test"):
    text = pathlib.Path(TINY, f"ptb.{part}.txt").read_text()
    (tmp_path / f"ptb.{part}.txt").write_text(text)
  with (tmp_path / "ptb.test.txt").open("a") as f:
    f.write(" one two w01 \n")
  hparams = "--hparams=num_steps=20"
  process = run(f"--data_path={tmp_path}", "--model=test", hparams)
  assert process.returncode == 0
  told, _ = process.stderr.splitlines()
  assert told == (
    "ptb.test.txt: dropped 2 of 526 words, which ptb.train.txt lacks."
  )


@contextlib.contextmanager
def endless_run(folder, *flags, preexec_fn=None):
  """Starts a run that never ends by itself; yields it in its second epoch."""
  hparams = "max_max_epoch=100000,hidden_size=8,num_steps=5"
  with subprocess.Popen(
    [
      *COMMAND,
      f"--data_path={TINY}",
      f"--save_path={folder}",
      f"--hparams={hparams}",
      *flags,
    ],
    preexec_fn=preexec_fn,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  ) as process:
    try:
      for line in process.stdout:
        if line.startswith("Epoch: 2 Learning rate"):
          break
      yield process
    finally:
      process.kill()


def test_a_second_process_is_refused(tmp_path):
  with endless_run(tmp_path) as process:
    second = run(*process.args[len(COMMAND) :])
    assert process.poll() is None
  assert second.returncode == 1
  assert f"{tmp_path} is in use by another process" in second.stderr
  assert second.stderr.count("\n") == 1


@pytest.mark.parametrize("minutes", [0, 10])  # A checkpoint; the summaries.
def test_a_full_disk_ends_the_run_and_leaves_what_it_had(tmp_path, minutes):
  """A limit on the size of a file stands in for the disk's end."""
  with endless_run(tmp_path, f"--checkpoint_minutes={minutes}") as process:
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (8000, 8000))
    _, err = process.communicate(timeout=60)
    again = process.args
  assert process.returncode == 1
  started, told = err.splitlines()
  what = "checkpoint" if minutes == 0 else "summaries"
  assert re.match(
    f"ptb_word_lm.py: Cannot write the {what} of --save_path=", told
  )
  assert started.startswith("Training the small model")
  assert not [p for p in tmp_path.iterdir() if "temp" in p.name]
  last = checkpoints.find(str(tmp_path), "last")
  if minutes:
    return
  with subprocess.Popen(
    again, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  ) as process:
    process.stdout.readline()
    process.kill()
    told = process.stderr.readlines()[-1]
  assert re.match(
    rf"Going on in .* from {os.path.basename(last)}: .*after ", told
  )


def test_a_folder_made_read_only_ends_the_run(tmp_path):
  flags = ["--checkpoint_minutes=0"]
  with endless_run(tmp_path, *flags, preexec_fn=obey_permissions) as process:
    tmp_path.chmod(0o555)
    _, err = process.communicate(timeout=60)
    tmp_path.chmod(0o755)
  assert process.returncode == 1
  assert err.count("\n") == 2
  *_, told = err.splitlines()
  assert re.match("ptb_word_lm.py: Cannot write .* of --save_path=", told)
  assert told.endswith("Permission denied.")
  assert len(checkpoints.steps_in(str(tmp_path))) in (2, 3)


def obey_permissions():
  """Takes the right to write everywhere from a child process of root."""
  drop_from_bounding_set, dac_override = 24, 1
  ctypes.CDLL(None).prctl(drop_from_bounding_set, dac_override)


@pytest.mark.parametrize(
  "signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
)
def test_a_signal_ends_the_run_in_order(tmp_path, signum):
  with endless_run(tmp_path) as process:
    process.send_signal(signum)
    out, err = process.communicate(timeout=60)
  assert process.returncode == 128 + signum
  *_, last = out.splitlines()
  epoch = int(re.fullmatch(r"Epoch: (\d+) Valid Perplexity: .*", last)[1])
  newest = checkpoints.find(str(tmp_path), "last")
  steps = int(newest.rpartition("-")[2]) - (epoch - 1) * 128
  if steps < 128:
    assert err.endswith(
      f"Stopped in epoch {epoch}, after step {steps} of 128.\n"
    )
  assert len(epochs_of(tmp_path)) == epoch - (steps < 128)
  assert not (tmp_path / "result.json").exists()


def test_a_second_signal_ends_the_run_at_once(tmp_path):
  with endless_run(tmp_path) as process:
    while process.poll() is None:
      process.send_signal(signal.SIGINT)
      time.sleep(0.001)
    assert process.returncode == -signal.SIGINT  # A shell calls this 130.
    assert "Traceback" not in process.stderr.read()


def test_a_reader_that_leaves_gets_no_traceback(tmp_path):
  with endless_run(tmp_path) as process:
    process.stdout.close()
    assert process.wait(timeout=60) == 1
    (line,) = process.stderr.readlines()
  assert line.startswith("Training the small model")


def test_a_terminal_shows_a_bar_in_place_of_the_lines():
  ours, its = pty.openpty()
  fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))
  with subprocess.Popen(
    [
      *COMMAND,
      f"--data_path={TINY}",
      f"--hparams={SMALLER.replace('h=2', 'h=1')}",
    ],
    stdout=its,
    stderr=subprocess.DEVNULL,
  ) as process:
    os.close(its)
    shown = b""
    with contextlib.suppress(OSError):  # Says that the other end was closed.
      while chunk := os.read(ours, 4096):
        shown += chunk
  os.close(ours)
  shown = shown.decode()
  assert process.returncode == 0
  for title in ("Epoch 1", "Epoch 1, valid", "Test, reading 1"):
    assert re.search(rf"\r{title}: +\d+%\|", shown), title
  assert re.search(r"Epoch: 1 Train Perplexity: \d+\.\d+\r\n", shown)
  assert re.search(r"Test Perplexity: \d+\.\d+\r\n", shown)
  assert "speed:" not in shown


def test_learns_the_sample_corpus_nearly_as_well_as_can_be(tmp_path, call):
  """The best perplexity is known: that of the source."""
  about = sample_corpus.write_corpus(tmp_path, train_words=60_000)
  hparams = (
    "num_layers=1,hidden_size=64,init_scale=0.1,max_epoch=3,max_max_epoch=6"
  )
  status, out, _ = call(f"--data_path={tmp_path}", f"--hparams={hparams}")
  assert status == 0
  reached, best = map(float, re.findall("est.*lexity: (.*)", out)[-2:])
  assert best == pytest.approx(about["best_perplexity"], abs=1e-3)
  assert 0.99 * best < reached < 1.1 * best
  assert 2 * reached < about["unigram_perplexity"]


def test_an_epoch_that_ruins_the_weights_is_not_saved(tmp_path, call):
  """The last update does it: no loss of training shows it."""
  hparams = "hidden_size=8,num_steps=30,batch_size=50,learning_rate=1e25"
  long_valid = tmp_path / "data"
  long_valid.mkdir()
  for part in ("train", "valid", "test"):
    text = pathlib.Path(TINY, "ptb.valid.txt").read_bytes()
    (long_valid / f"ptb.{part}.txt").write_bytes(text)
  status, _, err = call(
    f"--data_path={long_valid}",
    f"--hparams={hparams}",
    f"--save_path={tmp_path / 'run'}",
  )
  assert status == 1
  assert "Epoch 1, valid, step 1 of 1: the loss is not" in err
  assert not (tmp_path / "run" / "checkpoint").exists()


def test_the_last_good_checkpoint_outlives_a_diverged_loss(tmp_path):
  config, corpus = configs.SmallConfig(hidden_size=8), reader.read_corpus(TINY)
  config = configs.override(config, "num_steps=5")
  with (
    run_folder.RunFolder(str(tmp_path), {}, corpus.vocabulary) as folder,
    tf1.Graph().as_default(),
    tf1.Session() as session,
  ):
    train, valid = ptb_word_lm.build_models(config, corpus, 1)
    session.run(tf1.global_variables_initializer())
    progress = folder.restore(session, train)
    args = (session, train, valid, config, progress, folder, False)
    ptb_word_lm.train_epoch(*args)
    good = tf1.train.latest_checkpoint(str(tmp_path))
    (bias,) = [v for v in tf1.global_variables() if "softmax_b" in v.name]
    session.run(bias.assign(bias * np.nan))
    with pytest.raises(
      ptb_word_lm.DivergedError, match="Epoch 2, step 1 of 128"
    ):
      ptb_word_lm.train_epoch(*args)
    assert tf1.train.latest_checkpoint(str(tmp_path)) == good
    checkpoints.restore_variables(session, good)
    assert np.isfinite(session.run(bias)).all()
  assert len(epochs_of(tmp_path)) == 1


def test_memory_does_not_grow(tmp_path, monkeypatch):
  """Over 10,000 steps, with 32 checkpoints and 2,560 summaries."""
  # In a process of its own: one of many tests frees and takes megabytes. With
  # one heap: on a busy machine a second thread opens its own, of 6 to 8 MiB.
  monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
  context = multiprocessing.get_context("spawn")
  with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
    global_step, sizes = pool.submit(sizes_in_training, str(tmp_path)).result()
  assert global_step == 32 * 320 > 10_000
  # An epoch's line, in the checkpoint, takes 200 bytes; what TensorFlow keeps
  # for the next step goes up and down.
  growth = min(sizes[22:]) - min(sizes[4:12])
  assert growth < 2**20, " ".join(str(size >> 10) for size in sizes)


def sizes_in_training(path):
  """Trains in the folder; returns its steps and its bytes at checkpoints."""
  corpus = reader.read_corpus(TINY)
  config = configs.TestConfig(vocab_size=50, max_max_epoch=32)
  page = resource.getpagesize()
  sizes = []

  class Folder(run_folder.RunFolder):
    def save(self, session, step, progress):
      super().save(session, step, progress)
      pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
      sizes.append(pages * page)

  with Folder(path, {}, corpus.vocabulary) as folder:
    numbers = ptb_word_lm.train(config, corpus, folder, seed=1)
  return numbers["global_step"], sizes
