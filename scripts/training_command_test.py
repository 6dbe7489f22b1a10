"""Tests of `python ptb_word_lm.py`, mostly as real processes."""

import concurrent.futures
import contextlib
import fcntl
import functools
import json
import os
import pty
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import termios

import numpy as np
import psutil
import pytest
from tensorboard.backend.event_processing import event_accumulator

import configs
import lm
import ptb_word_lm
import reader
from conftest import TINY, call_main
from lm.base import device, tf1
from lm.model import choices
from lm.run import checkpoints
from lm.run.run import Run, sha256_of_lines

COMMAND = [sys.executable, ptb_word_lm.__file__]
DATA = f"--data_path={TINY}"
CHECKPOINT = f"{TINY}/model.ckpt-7680"
SMALLER = "--hparams=hidden_size=8,num_steps=5,max_max_epoch=2,keep_prob=0.8"
EXPECTED = json.loads((TINY / "expected.json").read_text())


def run(*args, **kwargs):
  """Runs the command to its end, from a folder that is not the project's."""
  return subprocess.run(
    [*COMMAND, *args], capture_output=True, text=True, cwd="/", **kwargs
  )


@pytest.fixture
def call(call_command):
  """A function: of the arguments to (exit status, stdout, stderr)."""
  return functools.partial(call_command, "ptb_word_lm")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A finished run with a folder: (process, folder)."""
  folder = tmp_path_factory.mktemp("runs") / "new" / "run"
  return run(DATA, SMALLER, "--seed=3", f"--save_path={folder}"), folder


def default_mode():
  return choices.fastest_mode(configs.SmallConfig())


def files_of(folder):
  return {p.name: p.read_bytes() for p in folder.iterdir()}


def write_texts(folder, text):
  """Writes one text under the three names that the reader looks for."""
  folder.mkdir(exist_ok=True)
  for part in ("train", "valid", "test"):
    (folder / f"ptb.{part}.txt").write_text(text)
  return f"--data_path={folder}"


def epochs_of(folder):
  """Returns the epochs' lines of a run, without what differs in time."""
  lines = (folder / "epochs.jsonl").read_text().splitlines()
  epochs = [json.loads(line) for line in lines]
  for epoch in epochs:
    assert epoch.pop("wps") > 0 and epoch.pop("train_seconds") > 0
  return epochs


def test_prints_what_the_tutorial_printed(finished):
  process, folder = finished
  number = r"\d+\.\d{3}"
  expected = []
  for epoch in (1, 2):
    expected.append(rf"Epoch: {epoch} Learning rate: 1\.000")
    for step in range(10, 128, 12):
      done = f"{step / 128:.3f}"
      expected.append(rf"{done} perplexity: {number} speed: \d+ wps")
    for part in ("Train", "Valid"):
      expected.append(f"Epoch: {epoch} {part} Perplexity: {number}")
  expected.append(f"Test Perplexity: {number}")
  lines = process.stdout.splitlines()
  for line, pattern in zip(lines, expected, strict=True):
    assert re.fullmatch(pattern, line), (line, pattern)
  assert re.fullmatch(
    r"Training the small model on .* with TensorFlow 2\.\d+\.\d+, rnn_mode "
    rf"{default_mode()}, in float32: 12,825 words, 50 different ones\.\n"
    rf"Epoch 1 was better on valid: Train Perplexity {number}, Valid "
    rf"Perplexity {number}\. --checkpoint=best uses it\.\n",
    process.stderr,
  )
  assert process.returncode == 0
  result = json.loads((folder / "result.json").read_text())
  assert lines[-1].endswith(f" {result['test_perplexity']:.3f}")
  assert lines[-2].endswith(f" {result['valid_perplexity']:.3f}")


def test_16_bits_in_the_basic_mode(monkeypatch, call):
  """It says which 16 bits, and that they will be slower."""
  monkeypatch.setattr(device, "has_units_for", lambda dtype: False)
  args = [DATA, "--model=test", "--hparams=num_steps=5", "--rnn_mode=basic"]
  status, out, err = call(*args, "--use_fp16")
  assert status == 0
  assert "rnn_mode basic, in bfloat16" in err
  assert "no instructions for bfloat16: " in err
  assert re.search(r"^Test Perplexity: \d+\.\d+$", out, re.MULTILINE)


def test_the_folder_has_all_of_the_run(finished):
  _, folder = finished
  names = {re.sub("(tfevents).*", r"\1", p.name) for p in folder.iterdir()}
  for step in (128, 256):
    for end in ("index", "data-00000-of-00001"):
      names.remove(f"model.ckpt-{step}.{end}")
  expected = "config.json vocabulary.txt epochs.jsonl result.json checkpoint"
  expected += " best_checkpoint events.out.tfevents"
  assert names - {".lock"} == {*expected.split()}
  corpus = reader.read_corpus(TINY)
  words = (folder / "vocabulary.txt").read_text().split("\n")
  assert words == [*corpus.vocabulary, ""]
  config = configs.SmallConfig(
    hidden_size=8, num_steps=5, max_max_epoch=2, keep_prob=0.8, vocab_size=50
  )
  config.rnn_mode = default_mode()
  expected = Run(
    model="small",
    seed=3,
    dtype="float32",
    config=config,
    data_sha256=corpus.sha256,
    vocabulary_sha256=sha256_of_lines(corpus.vocabulary),
    project_version=lm.__version__,
  )
  stored = json.loads((folder / "config.json").read_text())
  assert stored == expected.to_json()
  steps = [epoch["global_step"] for epoch in epochs_of(folder)]
  assert steps == [128, 256]
  names = {name for name, _ in tf1.train.list_variables(str(folder))}
  progress = {"progress/lstm_state", "progress/json"}
  assert names == {*EXPECTED["variables"], *progress}


def test_summaries_show_in_tensorboard(finished):
  _, folder = finished
  events = event_accumulator.EventAccumulator(str(folder))
  events.Reload()
  steps = {
    t: [e.step for e in events.Scalars(t)] for t in events.Tags()["scalars"]
  }
  for name in ("loss", "learning_rate", "wps"):
    assert steps[f"train/{name}"] == [*range(2, 257, 2)]
  for name in ("train_perplexity", "valid_perplexity", "learning_rate", "wps"):
    assert steps[f"epoch/{name}"] == [128, 256]
  assert steps["result/test_perplexity"] == [256]
  valid = [e.value for e in events.Scalars("epoch/valid_perplexity")]
  expected = [line["valid_perplexity"] for line in epochs_of(folder)]
  np.testing.assert_allclose(valid, expected, rtol=1e-6)


def test_a_seed_gives_the_same_again_and_needs_no_folder(
  finished, call, tmp_path, monkeypatch
):
  process, folder = finished
  monkeypatch.chdir(tmp_path)
  _, other, _ = call(DATA, SMALLER, "--seed=4")
  assert not list(tmp_path.iterdir())
  _, again, _ = call(DATA, SMALLER, "--seed=3", f"--save_path={tmp_path}")
  assert epochs_of(tmp_path) == epochs_of(folder)  # To the last bit.
  of_process, other, again = (
    re.findall(r"erplexity: (\S+)", text)
    for text in (process.stdout, other, again)
  )
  assert again == of_process != other


def test_a_finished_run_prints_its_results_again(finished, call):
  process, folder = finished
  before = files_of(folder)
  outcome = call(DATA, SMALLER, "--seed=3", f"--save_path={folder}")
  lines = process.stdout.splitlines(keepends=True)
  told = [f"The run in {folder} is finished.\n"]
  told += process.stderr.splitlines(keepends=True)[-1:]
  assert outcome == (0, "".join(lines[-3:]), "".join(told))
  assert files_of(folder) == before


@pytest.mark.parametrize("checkpoint", ["best", "last"])
def test_evaluates_a_run(finished, call, checkpoint):
  process, folder = finished
  before = files_of(folder)
  args = [DATA, f"--save_path={folder}", "--evaluate"]
  status, out, err = call(
    *args, *["--checkpoint=best"] * (checkpoint == "best")
  )
  epochs = epochs_of(folder)
  if checkpoint == "best":
    epochs.sort(key=lambda epoch: -epoch["valid_perplexity"])
  step = epochs[-1]["global_step"]
  perplexity = epochs[-1]["valid_perplexity"]
  told = f"Evaluating {folder}/model.ckpt-{step}: epoch {step // 128}, valid "
  told += f"perplexity {perplexity:.3f}."
  if checkpoint == "last":
    better = epochs[0]["valid_perplexity"]
    told += f" Epoch 1 is better, with {better:.3f}: --checkpoint=best uses it."
  assert (status, err) == (0, told + "\n")
  valid, test = out.splitlines()
  assert valid == f"Valid Perplexity: {perplexity:.3f}"
  assert (test == process.stdout.splitlines()[-1]) == (step == 256)
  assert files_of(folder) == before


def test_evaluates_a_run_without_its_training_text(finished, call, tmp_path):
  _, folder = finished
  for part in ("valid", "test"):
    shutil.copy(TINY / f"ptb.{part}.txt", tmp_path)
  args = [f"--save_path={folder}", "--evaluate"]
  outcome = call(f"--data_path={tmp_path}", *args)
  assert outcome == call(DATA, *args) and outcome[0] == 0
  assert not (tmp_path / ".ids_cache").exists()


def test_evaluates_a_run_on_another_text(finished, call, tmp_path, caplog):
  """With the run's own vocabulary."""
  data = write_texts(tmp_path, "w01 w02\n" * 99)
  (tmp_path / "ptb.test.txt").write_text("w01 zebra w02\n" * 99)
  args = [f"--save_path={finished[1]}", "--evaluate"]
  status, out, _ = call(data, *args)
  assert status == 0 and len(out.splitlines()) == 2
  assert "test.txt: the vocabulary lacks 99 of 396 words. " in caplog.text
  assert "valid.txt" not in caplog.text
  (tmp_path / "ptb.test.txt").write_text("w01 w02\n" * 99)
  assert call(data, *args)[:2] == (0, out)  # As without the words left out.
  write_texts(tmp_path, "w01 w02\n" * 5)
  status, _, err = call(data, *args)
  assert status == 1 and "Make batch_size or num_steps smaller." in err
  status, out, _ = call(data, *args, "--hparams=batch_size=2,num_steps=3")
  assert status == 0 and len(out.splitlines()) == 2


def test_evaluates_a_checkpoint_of_tensorflow_1_15(call):
  args = [DATA, "--evaluate", "--hparams=num_steps=5"]
  status, out, _ = call(*args, f"--checkpoint={CHECKPOINT}")
  assert status == 0
  perplexities = [float(line.split()[-1]) for line in out.splitlines()]
  parts = [EXPECTED[part]["perplexity"] for part in ("valid", "test")]
  assert perplexities == [round(perplexity, 3) for perplexity in parts]


SAVED = ["--evaluate", "--save_path=RUN"]
READ = ["--evaluate", "--checkpoint=CKPT"]


@pytest.mark.parametrize(
  ("args", "message"),
  [
    (["--data_path="], "--data_path is missing: .*download_ptb.sh"),
    (["--hparams=batch_size=100"],
     "ptb.valid.txt: too few words for a batch: .*Make batch_size or "),
    (["--hparams=batch_size=100", "--hparams=num_steps=30"],  # Both count.
     r"ptb.valid.txt: too few words .* \(num_steps \+ 1\) = 100 x 31 are need"),
    (["--hparams=seed=1", "--hparams=batch_size=2"],
     "'seed' is not a hyper-parameter. The hyper-parameters that can be set "),
    (["--save_path=/etc/hostname"],
     "Cannot create the folder --save_path=/etc/hostname: File exists"),
    (["--save_path=/proc/run"],
     "Cannot create the folder --save_path=/proc/run: No such file or direct"),
    (["--save_path="], "--save_path is empty: give a folder, or leave it out"),
    (["--save_path=RUN"],
     "RUN holds another run: seed is 3 there, 1 here; num_steps is 5 there, "
     "20 here; hidden_size is 8 there, 200 here; keep_prob is 0.8 there, 1.0 "
     "here. Choose another --save_path"),
    (["--checkpoint_minutes=5"],
     "--checkpoint_minutes has no effect without --save_path: leave it out"),
    (["--checkpoint=best"], "--checkpoint has no effect in training, which re"),
    (["--evaluate"], "--evaluate needs --save_path, a run's folder, or"),
    (["--evaluate", "--checkpoint=best"], "--evaluate needs --save_path, a r"),
    ([*SAVED, "--model=small"],
     "--model has no effect with --evaluate and --save_path: leave it out"),
    ([*SAVED, "--hparams=forget_bias=1"],
     "forget_bias is 0.0 in the trained model: leave it out of --hparams"),
    ([*READ, "--seed=2"], "--seed has no effect with --evaluate: leave it out"),
    (["--evaluate", "--save_path=/none"], "/none is not the folder of a run: "),
    ([*SAVED, "--checkpoint=model.ckpt-5"],
     "There is no checkpoint RUN/model.ckpt-5: the file "),
    ([*READ, "--hparams=hidden_size=7"],
     "'hidden_size' has no effect here. The hyper-parameters that can be set "),
    ([*READ, "--data_path=OTHER"], "CKPT has a vocabulary of 50 words, "
     "but the ptb.train.txt in OTHER has 3 different words. Set --data_path "),
    (["--save_path=/sys"], "Cannot write to the folder --save_path=/sys: "),
    (["--tf32", "--use_fp16"], "--tf32 and --use_fp16 exclude each other: "),
  ],
)  # fmt: skip
def test_bad_input_gets_one_sentence(finished, call, tmp_path, args, message):
  places = {"RUN": finished[1], "OTHER": tmp_path, "CKPT": CHECKPOINT}
  for word, place in places.items():
    args = [arg.replace(word, str(place)) for arg in args]
    message = message.replace(word, str(place))
  write_texts(tmp_path, "w01 w02\n" * 99)
  before = files_of(finished[1])
  status, out, err = call(DATA, *args)
  assert (status, out, err.count("\n")) == (1, "", 1)
  assert re.match(f"ptb_word_lm.py: {message}", err)
  assert files_of(finished[1]) == before


@pytest.mark.usefixtures("on_cpu")  # The memory of a GPU is not looked at.
def test_too_large_a_model_is_refused(call):
  status, out, err = call(DATA, "--hparams=hidden_size=900000")
  assert (status, out, err.count("\n")) == (1, "", 1)
  assert re.match(
    r"ptb_word_lm.py: The model needs at least 1\d+\.\d GB of memory, but only "
    ".* are free. Make batch_size or num_steps smaller or, if the weights are ",
    err,
  )


# Calls main with each flag.
CALL_EACH = """
import sys
import ptb_word_lm
data_path, *flags = sys.argv[1:]
print(*(ptb_word_lm.main(["ptb_word_lm.py", data_path, f]) for f in flags))
assert "tensorflow" not in sys.modules
"""


def test_bad_input_does_not_load_tensorflow():
  told = {
    "--num_gpus=-1": "flag --num_gpus=-1: -1 is not a ",
    "--model=huge": "flag --model=huge: value should be",
    "--seed=-1": "flag --seed=-1: -1 is not an integer",
    "--max_max_epoch=1":
      "Unknown command line flag 'max_max_epoch'. Use --hparam",
    "--sed=1": "Unknown command line flag 'sed'. Did you mean: seed. --",
    "--hparams=a=1": "'a' is not a hyper-parameter. ",
    "small": "'small' is not a flag. --help lists the flags.",
  }  # fmt: skip
  process = subprocess.run(
    [sys.executable, "-c", CALL_EACH, DATA, *told],
    cwd=os.path.dirname(ptb_word_lm.__file__),
    capture_output=True,
    text=True,
  )
  assert (process.returncode, process.stdout.split()) == (0, ["1"] * len(told))
  for line, message in zip(
    process.stderr.splitlines(), told.values(), strict=True
  ):
    assert line.startswith(f"ptb_word_lm.py: {message}")


@contextlib.contextmanager
def endless_run(folder, *flags, hparams="hidden_size=8,num_steps=5"):
  """Starts a run that never ends by itself; yields it after its first epoch."""
  args = [DATA, f"--hparams={hparams},max_max_epoch=100000"]
  with subprocess.Popen(
    [*COMMAND, *args, f"--save_path={folder}", *flags],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  ) as process:
    try:
      for line in process.stdout:
        if "Learning rate" in line and not line.startswith("Epoch: 1 "):
          break
      yield process
    finally:
      process.kill()


@pytest.mark.usefixtures("on_cpu")  # With a GPU, files grow more slowly.
def test_a_full_disk_ends_the_run_and_keeps_its_checkpoints(tmp_path, call):
  with endless_run(tmp_path, "--checkpoint_minutes=0") as process:
    # A limit for the size of a file stands in for the end of the disk.
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (8000, 8000))
    _, err = process.communicate(timeout=300)
  assert process.returncode == 1
  started, last = err.splitlines()
  assert started.startswith("Training the small model")
  message = "Cannot write the checkpoint to --save_path="
  assert last.startswith(f"ptb_word_lm.py: {message}")
  assert not [p for p in tmp_path.iterdir() if "temp" in p.name]
  assert call(DATA, "--evaluate", f"--save_path={tmp_path}")[0] == 0


def check_the_end(folder, status, signum, out, err):
  """Checks what a run of 128 steps an epoch did after a signal."""
  assert status == 128 + signum
  *_, last = out.splitlines()
  epoch = int(re.fullmatch(r"Epoch: (\d+) Valid Perplexity: .*", last)[1])
  steps = checkpoints.steps_in(str(folder))[-1] - (epoch - 1) * 128
  if steps < 128:
    told = f"Stopped in epoch {epoch}, after step {steps} of 128.\n"
    assert err.endswith(told)
  assert len(epochs_of(folder)) == epoch - (steps < 128)
  assert not (folder / "result.json").exists()


def test_ctrl_c_ends_the_run_in_order(tmp_path, call):
  """Until then, a second process is refused."""
  with endless_run(tmp_path) as process:
    status, _, err = call(*process.args[len(COMMAND) :])
    assert (status, err.count("\n")) == (1, 1)
    assert f"{tmp_path} is in use by another process" in err
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
  check_the_end(tmp_path, process.returncode, signal.SIGINT, out, err)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_run_in_order(tmp_path, call, monkeypatch, signum):
  """It comes within the second epoch."""
  learning_rate_of = configs.Config.learning_rate_of

  def rate_and_signal(config, epoch):
    if epoch == 2:
      os.kill(os.getpid(), signum)
    return learning_rate_of(config, epoch)

  monkeypatch.setattr(configs.Config, "learning_rate_of", rate_and_signal)
  status, out, err = call(DATA, SMALLER, f"--save_path={tmp_path}")
  check_the_end(tmp_path, status, signum, out, err)


def test_a_reader_that_leaves_gets_no_traceback(tmp_path, finished):
  """Not even when the run resumes."""
  shutil.copytree(finished[1], tmp_path, dirs_exist_ok=True)
  hparams = "hidden_size=8,num_steps=5,keep_prob=0.8"
  with endless_run(tmp_path, "--seed=3", hparams=hparams) as process:
    process.stdout.close()
    assert process.wait(timeout=300) == 1
    told = [line.split()[0] for line in process.stderr]
  assert told == ["Training", "Resuming"]


def test_a_terminal_shows_a_bar_in_place_of_the_lines(monkeypatch):
  ours, its = pty.openpty()
  fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))

  def read_all():
    chunks = []
    with contextlib.suppress(OSError):  # The other end was closed.
      while chunk := os.read(ours, 4096):
        chunks.append(chunk)
    return b"".join(chunks).decode()

  with concurrent.futures.ThreadPoolExecutor() as pool:
    reading = pool.submit(read_all)
    with open(its, "w") as terminal, monkeypatch.context() as context:
      context.setattr(sys, "stdout", terminal)
      hparams = "--hparams=hidden_size=8,num_steps=5,max_max_epoch=1"
      assert call_main("ptb_word_lm", DATA, hparams) == 0
    shown = reading.result()
  os.close(ours)
  for title in ("Epoch 1", "Epoch 1, valid", "Test, reading 1"):
    assert re.search(rf"\r{title}: +\d+%\|", shown), title
  assert re.search(r"Epoch: 1 Train Perplexity: \d+\.\d+\r\n", shown)
  assert re.search(r"Test Perplexity: \d+\.\d+\r\n", shown)
  assert "speed:" not in shown


@pytest.mark.parametrize(
  ("size", "message"),
  [
    (1, "Epoch 2, valid, step 1 of 1: the loss is not"),  # No loss of training
    (3, "Epoch 2, step 2 of 3: the loss is not"),  # shows the last update.
  ],
)
def test_the_last_good_checkpoint_outlives_a_diverged_loss(
  tmp_path, call, monkeypatch, size, message
):
  monkeypatch.setattr(
    configs.Config, "learning_rate_of", lambda _, n: 1e25 if n == 2 else 1.0
  )
  args = [
    write_texts(tmp_path / "data", (TINY / "ptb.valid.txt").read_text()),
    f"--save_path={tmp_path / 'run'}",
  ]
  hparams = f"--hparams=hidden_size=8,batch_size=150,num_steps={10 // size}"
  status, _, err = call(*args, hparams)
  assert status == 1 and message in err
  assert checkpoints.steps_in(str(tmp_path / "run")) == [size]
  assert len(epochs_of(tmp_path / "run")) == 1
  assert call(*args, "--evaluate")[0] == 0  # Its weights are finite.


def test_memory_does_not_grow(tmp_path):
  """Over 4,000 steps, with 14 checkpoints and 1,120 summaries."""
  args = [DATA, "--model=test", "--hparams=max_max_epoch=14"]
  with subprocess.Popen(
    [*COMMAND, *args, f"--save_path={tmp_path}"],
    # With one heap: on a busy machine a second thread opens its own, of 8 MiB.
    env={**os.environ, "MALLOC_ARENA_MAX": "1"},
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    text=True,
  ) as process:
    memory = psutil.Process(process.pid).memory_info
    sizes = [memory().rss for line in process.stdout if "Learning" in line]
  assert epochs_of(tmp_path)[-1]["global_step"] == 14 * 320 > 4_000
  # An epoch's line, in the checkpoint, takes 200 bytes; what TensorFlow keeps
  # for the next step goes up and down.
  growth = min(sizes[9:]) - min(sizes[4:8])
  assert growth < 2**20, " ".join(str(size >> 10) for size in sizes)
