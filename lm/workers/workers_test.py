"""Tests of workers.py: several workers train what one does.

Most have their workers in threads of this process, with real servers.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import launch_local
import numpy as np
import pytest

import configs
import ptb_word_lm
import reader
from conftest import TINY
from lm.base import device, tf1
from lm.run import checkpoints
from lm.run.run import Run
from lm.workers import other_workers, tf_config, workers
from lm.workers.tf_config_test import config_of
from ptb_word_lm_test import TRACES, draw_weights, set_weights, train_step

CONFIG = configs.SmallConfig(
  hidden_size=12, num_steps=5, keep_prob=0.6, vocab_size=50, max_max_epoch=2
)
# lstm_cell silences a warning, but catch_warnings is not thread-safe.
pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated:UserWarning")
IDS = np.random.RandomState(0).randint(0, CONFIG.vocab_size, 2000)


@pytest.fixture(autouse=True)
def impatience(monkeypatch):
  """Lets a test fail soon in which one worker waits for another in vain."""
  monkeypatch.setattr(workers, "_TIMEOUT", 60)


def each_of(size, body, batch_size=20, **options):
  """Runs body(workers) for each of `size` workers; returns what they return.

  If some fail, the error of the first of them is raised.
  """
  tf1.Session  # noqa: B018  Loads TensorFlow, once.
  ports = launch_local.free_ports(size)
  addresses = [f"127.0.0.1:{port}" for port in ports] if size > 1 else []

  def one(index):
    with workers.find_workers(
      addresses, index, batch_size, **options
    ) as worker:
      return body(worker)

  with concurrent.futures.ThreadPoolExecutor(size) as pool:
    futures = [pool.submit(one, index) for index in range(size)]
  return [future.result() for future in futures]


class Trained:
  """A model in training, with its graph and session."""

  def __init__(self, worker, config=CONFIG, ids=IDS, weights=None):
    self._workers = worker
    with contextlib.ExitStack() as stack:
      stack.enter_context(tf1.Graph().as_default())
      stack.enter_context(worker.device())
      initializer = ptb_word_lm.uniform_initializer(config.init_scale, 5)
      with tf1.variable_scope("Model", initializer=initializer):
        self.model = model = ptb_word_lm.PTBModel(
          True,
          config,
          ptb_word_lm.PTBInput(config, ids, rows=worker.rows),
          seed=5,
          workers=worker,
        )
      self.session = session = stack.enter_context(worker.session())
      session.run(tf1.global_variables_initializer())
      set_weights(session, weights or {})
      worker.open_folder(None).restore(session, None)
      model.assign_lr(session, config.learning_rate)
      self._variables = {v.op.name: v for v in tf1.trainable_variables()}
      self.state = session.run(model.initial_state)
      self._stack = stack.pop_all()

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    self._stack.close()

  def step(self):
    """Trains a step; returns its (cost, gradient norm)."""
    cost, norm, self.state = train_step(
      self.session, self.model, self.state, self._workers
    )
    return cost, norm

  def weights(self):
    return self.session.run(self._variables)


def trained(steps, *args):
  """Returns what each_of takes: trains, returns (steps, state, weights)."""

  def body(worker):
    with Trained(worker, *args) as model:
      return (
        np.array([model.step() for _ in range(steps)]),
        worker.gather_rows(np.array(model.state)),
        model.weights(),
      )

  return body


def check_equal(first, second):
  """Checks that (steps, state, weights) are equal bit for bit."""
  for a, b in zip(first[:2], second[:2], strict=True):
    np.testing.assert_array_equal(a, b)
  for name, value in first[2].items():
    np.testing.assert_array_equal(value, second[2][name])


@functools.cache
def alone(rnn_mode, tied=False):
  """Returns what 30 steps of one worker give, with dropout."""
  config = dataclasses.replace(CONFIG, rnn_mode=rnn_mode, tie_embeddings=tied)
  (result,) = each_of(1, trained(30, config))
  return result


# Of 20 rows; 3 workers have 6, 7 and 7.
@pytest.mark.parametrize(
  ("rnn_mode", "tied", "size"),
  [("basic", False, 4), ("block", False, 3), ("block", True, 3)],
)
def test_several_train_what_one_does(rnn_mode, tied, size):
  config = dataclasses.replace(CONFIG, rnn_mode=rnn_mode, tie_embeddings=tied)
  steps, state, weights = alone(rnn_mode, tied)
  first, *others = each_of(size, trained(30, config))
  np.testing.assert_allclose(first[0], steps, rtol=1e-5)
  np.testing.assert_allclose(first[1], state, rtol=1e-3, atol=1e-5)
  for name, value in weights.items():
    np.testing.assert_allclose(first[2][name], value, rtol=1e-3, atol=1e-5)
  for other in others:
    check_equal(first, other)


@pytest.mark.parametrize("name", ["tiny", "tiny_clipped"])
def test_two_workers_follow_tensorflow_1_15(name):
  case = TRACES[name]
  fields = {field.name for field in dataclasses.fields(configs.Config)}
  config = configs.SmallConfig(**{k: case[k] for k in fields & set(case)})
  assert case["epoch_size"] >= 40
  body = trained(40, config, IDS, draw_weights(case))
  (steps, *_), _ = each_of(2, body, config.batch_size)
  costs, norms = steps.T
  np.testing.assert_allclose(costs, case["costs"][:40], rtol=1e-6)
  np.testing.assert_allclose(norms, case["grad_norms"][:40], rtol=1e-6)


def test_gradients_in_16_bits_are_nearly_those_in_32():
  exact = alone(CONFIG.rnn_mode)[0]
  (rounded, *_), other = each_of(2, trained(30), fp16=True)
  np.testing.assert_array_equal(rounded, other[0])
  assert np.abs(rounded[:, 0] / exact[:, 0] - 1).max() > 1e-6
  np.testing.assert_allclose(rounded[:, 0], exact[:, 0], rtol=1e-3)
  np.testing.assert_allclose(rounded[:, 1], exact[:, 1], rtol=2e-2)


def test_one_worker_adds_nothing_to_the_graph():
  with tf1.Graph().as_default() as graph, tf1.variable_scope("Model"):
    tf1.set_random_seed(1)
    ptb_word_lm.PTBModel(True, CONFIG, ptb_word_lm.PTBInput(CONFIG, IDS))
    kinds = {op.type for op in graph.get_operations()}
  assert "MatMul" in kinds
  assert not [kind for kind in kinds if "Collective" in kind or kind == "Pad"]


class Stop:
  """Wants to stop after so many questions."""

  signum = None

  def __init__(self, questions):
    self._left = questions

  def __bool__(self):
    self._left -= 1
    if self._left < 0:
      self.signum = signal.SIGTERM
    return self._left < 0


def run_with(config, seed=1):
  """Returns a Run with a Config."""
  return Run(
    model="small", seed=seed, dtype="float32", config=config, data_sha256={}
  )


def run_of(path, stop_after=None, stops=0):
  """Returns what each_of takes: trains TINY in a folder.

  Args:
    path: of the first worker's folder.
    stop_after: how many steps until a worker wants to stop.
    stops: which worker that is.
  """
  config = dataclasses.replace(
    CONFIG, num_layers=1, rnn_mode="block", num_samples=20, by_sentence=True
  )
  corpus = reader.read_corpus(str(TINY))
  corpus = dataclasses.replace(  # 19 steps an epoch.
    corpus,
    train=corpus.train[:2000],
    valid=corpus.valid[:300],
    test=corpus.test[:200],
  )

  run = run_with(config, seed=2)

  def body(worker):
    own = Stop(stop_after) if stop_after and worker.index == stops else False
    with worker.open_folder(str(path)) as folder:
      folder.claim(run, corpus.vocabulary)
      stop = worker.agree_on(own)
      numbers = ptb_word_lm.train(
        run, corpus, folder, stop=stop, workers=worker
      )
    return numbers, getattr(stop, "signum", None)

  return body


def numbers_of(result):
  """Returns the perplexities of a run, of what run_of returned."""
  return [v for n, v in result[0].items() if n.endswith("perplexity")]


def variables_in(path):
  """Returns the tensors of a run's last checkpoint."""
  reader = tf1.train.load_checkpoint(
    checkpoints.find_checkpoint(str(path), "last")
  )
  names = reader.get_variable_to_shape_map()
  return {n: reader.get_tensor(n) for n in names if n != "progress/json"}


def test_a_run_resumes_exactly_also_with_other_workers(tmp_path, capfd):
  whole = each_of(2, run_of(tmp_path / "whole"))
  assert numbers_of(whole[0]) == numbers_of(whole[1])
  # The second worker gets the signal, amid the second epoch; both stop.
  stopped = each_of(2, run_of(tmp_path / "a", 30, stops=1))
  assert stopped == [(None, signal.SIGTERM)] * 2
  shutil.copytree(tmp_path / "a", tmp_path / "b")
  assert "Stopped in epoch 2, after step" in capfd.readouterr().err
  resumed = each_of(2, run_of(tmp_path / "a"))
  assert numbers_of(resumed[0]) == numbers_of(whole[0])
  expected = variables_in(tmp_path / "whole")
  variables = variables_in(tmp_path / "a")
  assert expected.keys() == variables.keys()
  for name, value in expected.items():
    np.testing.assert_array_equal(variables[name], value)
  (by_one,) = each_of(1, run_of(tmp_path / "b"))
  assert numbers_of(by_one) == pytest.approx(numbers_of(whole[0]), rel=1e-5)


@pytest.mark.parametrize("batch_size", [3, 4, 20, 23])
@pytest.mark.parametrize("size", [2, 3])
def test_each_row_has_one_worker(batch_size, size):
  ids = np.arange(batch_size * 9) % 7
  config = dataclasses.replace(CONFIG, batch_size=batch_size, num_steps=2)
  state = np.random.rand(2, 2, batch_size, 3).astype(np.float32)

  def body(worker):
    with tf1.Graph().as_default(), worker.device():
      input_ = ptb_word_lm.PTBInput(config, ids, rows=worker.rows)
      with worker.session() as session:
        batch = session.run([input_.input_data, input_.targets])
    return batch, worker.gather_rows(state[:, :, worker.rows])

  results = each_of(size, body, batch_size)
  shares = [len(x) for (x, _), _ in results]
  assert max(shares) - min(shares) <= 1
  expected = next(reader.ptb_iterator(ids, batch_size, 2))
  for number in range(2):
    rows = np.concatenate([batch[number] for batch, _ in results])
    np.testing.assert_array_equal(rows, expected[number])
  for _, whole in results:
    np.testing.assert_array_equal(whole, state)


def test_a_checkpoint_is_due_for_all_when_it_is_for_the_first(tmp_path, on_cpu):
  """Also within an epoch, with the state of all rows."""
  run = run_with(dataclasses.replace(CONFIG, max_max_epoch=1))

  def body(worker):
    saved = []
    with worker.open_folder(str(tmp_path), 0) as shared:
      shared.claim(run, ["a"])
      folder, save = shared._folder, shared._folder.save
      folder.save = lambda session, step, progress: (
        saved.append((progress.step, progress.state)),
        save(session, step, progress),
      )
      corpus = reader.Corpus(IDS, IDS, IDS[:300], [], {})
      ptb_word_lm.train(run, corpus, shared, workers=worker)
    return saved

  first, second = each_of(2, body)
  assert [step for step, _ in first] == [*range(1, 19), 0]
  for (step, state), (other_step, other) in zip(first, second, strict=True):
    assert step == other_step
    if step:
      assert np.shape(state) == (2, 2, 20, 12)
      np.testing.assert_array_equal(state, other)


def test_values_are_gathered():
  values = [{"a": [1.5, "é"]}, None, list(range(10_000))]

  def body(worker):
    return worker.gather(values[worker.index])

  assert each_of(3, body) == [values] * 3


@pytest.mark.parametrize(
  ("first", "second", "message"),
  [
    ({"seed": 0}, {"seed": 1}, "seed is 0 on worker 0, 1 on worker 2"),
    (
      {"vocabulary_sha256": "a"},
      {"vocabulary_sha256": "b"},
      "the vocabulary differs",
    ),
    (
      {},
      {"config": {"forget_bias": 1.0}},
      "forget_bias is 0.0 on worker 0, 1.0 on worker 2",
    ),
    ({"lm/b.py": "1"}, {"lm/b.py": "2"}, "lm/b.py differs"),
  ],
)
def test_workers_that_were_not_started_alike(first, second, message):
  settings = {"data": {"ptb.train.txt": 1}}

  def body(worker):
    worker.check_alike({**settings, **(first if worker.index < 2 else second)})

  message = f"Worker 2 was not started like worker 0: {message}. Give all"
  with pytest.raises(tf_config.WorkersError, match=f"^{re.escape(message)}"):
    each_of(3, body)
  each_of(2, body)


def test_the_checksum_of_the_code(monkeypatch, tmp_path):
  folder = tmp_path / "lm" / "workers"
  folder.mkdir(parents=True)
  monkeypatch.setattr(workers, "__file__", str(folder / "workers.py"))
  sums = []
  for name, text in (("a.py", "1"), ("a.py", "2"), ("lm/workers/b.py", "3")):
    (tmp_path / name).write_text(text)
    sums.append(workers._sha256_of_code())
  assert [*sums[0]] == ["a.py"] and [*sums[2]] == ["a.py", "lm/workers/b.py"]
  assert sums[0] != sums[1] and sums[1]["a.py"] == sums[2]["a.py"]
  (tmp_path / "a_test.py").write_text("4")
  (tmp_path / "lm" / "testdata").mkdir()
  (tmp_path / "lm" / "testdata" / "c.py").write_text("5")
  assert workers._sha256_of_code() == sums[-1]


def test_a_port_in_use():
  told = "Worker 0 cannot use port {}: Address already in use.".format
  with socket.create_server(("127.0.0.1", 0)) as taken:
    port = taken.getsockname()[1]
    with pytest.raises(tf_config.WorkersError, match=told(port)):
      workers.Workers([f"127.0.0.1:{port}", "127.0.0.1:1"], 0, 20)


def test_a_worker_need_not_reach_its_own_address():
  ports = launch_local.free_ports(2)

  def body(index):
    hosts = ["127.0.0.1", "127.0.0.1"]
    hosts[index] = "no-such-host.invalid"
    addresses = [f"{h}:{p}" for h, p in zip(hosts, ports, strict=True)]
    with workers.Workers(addresses, index, 20, wait=30) as worker:
      return worker.gather(index)[0]

  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    assert list(pool.map(body, range(2))) == [0, 0]


def test_a_worker_that_never_comes(capfd):
  (port,) = launch_local.free_ports(1)
  addresses = [f"127.0.0.1:{port}", "127.0.0.1:1"]
  with pytest.raises(
    tf_config.WorkersError,
    match=r"^Worker 1 at 127.0.0.1:1 could not be reached within 0.3 seconds: "
    r"Connection refused\. Start all",
  ):
    workers.Workers(addresses, 0, 20, wait=0.3)
  told = "Worker 0 is waiting for worker 1 at 127.0.0.1:1, for at most 0.3 "
  assert capfd.readouterr().err == f"{told}seconds.\n"


def test_workers_with_lists_of_another_length():
  ports = launch_local.free_ports(3)
  addresses = [f"127.0.0.1:{port}" for port in ports]

  def one(index):
    with pytest.raises(
      tf_config.WorkersError, match="The workers cannot connect"
    ):
      workers.Workers(addresses[: 2 + (index > 0)], index, 20)

  with concurrent.futures.ThreadPoolExecutor(3) as pool:
    list(pool.map(one, range(3)))


def test_another_program_on_a_workers_port(monkeypatch):
  monkeypatch.setattr(workers, "_FIRST_TIMEOUT", 1)
  (port,) = launch_local.free_ports(1)
  with socket.create_server(("127.0.0.1", 0)) as silent:
    addresses = [f"127.0.0.1:{n}" for n in (port, silent.getsockname()[1])]
    with pytest.raises(
      tf_config.WorkersError, match="The workers cannot connect to each other"
    ):
      workers.Workers(addresses, 0, 20)


def test_a_worker_that_does_not_answer(monkeypatch):
  monkeypatch.setattr(workers, "_TIMEOUT", 1)
  gave_up = threading.Event()

  def body(worker):
    if worker.index:
      gave_up.wait(30)
      return
    try:
      worker.gather(None)
    finally:
      gave_up.set()

  with pytest.raises(
    tf_config.WorkersError,
    match=r"A worker did not answer for 1 seconds\. Its own",
  ):
    each_of(2, body)


def test_a_loss_that_tensorflow_does_not_notice(monkeypatch):
  monkeypatch.setattr(workers, "_TIMEOUT", 3)
  monkeypatch.setattr(workers, "_CHECK_INTERVAL", 0.2)
  gave_up = threading.Event()

  def body(worker):
    if worker.index:
      gave_up.wait(30)
      return
    refuse = lambda address: ConnectionRefusedError()  # noqa: E731
    monkeypatch.setattr(other_workers, "try_to_connect", refuse)
    try:
      worker.gather(None)
    finally:
      gave_up.set()

  with pytest.raises(
    tf_config.WorkersError, match=r"^Worker 1 at .* was lost\."
  ):
    each_of(2, body)


def test_a_worker_that_cannot_be_reached(monkeypatch):
  monkeypatch.setattr(workers, "_CHECK_INTERVAL", 0.1)

  def body(worker):
    monkeypatch.setattr(
      other_workers, "try_to_connect", lambda address: TimeoutError()
    )
    if worker.index:
      time.sleep(0.5)  # Then it answers: nothing was lost.
    assert worker.gather(1) == [1, 1]
    monkeypatch.setattr(other_workers, "_UNREACHABLE", 0.3)
    if worker.index:
      time.sleep(1)
    worker.gather(None)

  with pytest.raises(
    tf_config.WorkersError, match=r"^Worker 1 at .* was lost\."
  ):
    each_of(2, body)


def test_the_reason_of_a_loss(monkeypatch):
  text = "Detected at node\nCollective ops is aborted by: timed out.\nThe error"
  monkeypatch.setattr(workers.time, "sleep", lambda seconds: None)

  def body(worker):
    error = tf1.errors.UnavailableError(None, None, text)
    return worker._explain(error)

  assert (
    each_of(2, body)
    == ["A worker, or the connection to it, failed (timed out)."] * 2
  )


def test_a_signal_while_they_connect(tmp_path):
  endings = {signal.SIGINT: "Interrupted.\n", signal.SIGTERM: ""}
  with contextlib.ExitStack() as stack:
    processes, looks = {}, []
    for signum in endings:
      (port,) = launch_local.free_ports(1)
      silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
      other = silent.getsockname()[1]
      addresses = [f"127.0.0.1:{port}", f"127.0.0.1:{other}"]
      processes[signum] = stack.enter_context(start(addresses, 0, tmp_path))
      looks.append(silent)
    # Each has seen that the other is there,
    accepted = [stack.enter_context(silent.accept()[0]) for silent in looks]
    time.sleep(1)  # and waits for its first words.
    for signum, process in processes.items():
      process.send_signal(signum)
    for signum, process in processes.items():
      _, err = process.communicate(timeout=30)
      assert (process.returncode, err) == (128 + signum, endings[signum])
  assert len(accepted) == 2 and not list(tmp_path.iterdir())


def test_many_steps_cost_no_threads():
  def body(worker):
    for step in range(50):
      if step == 10:
        before = len(os.listdir("/proc/self/task"))
      worker.gather(None)
    return len(os.listdir("/proc/self/task")) - before

  assert max(each_of(2, body)) < 20


def test_more_workers_than_rows():
  with pytest.raises(
    tf_config.WorkersError, match="3 workers are too many for"
  ):
    workers.Workers(["a:1", "b:1", "c:1"], 0, 2)


def start(addresses, index, folder, *flags):
  """Starts a worker of a run that never ends by itself; returns the Popen."""
  return subprocess.Popen(
    [
      sys.executable,
      ptb_word_lm.__file__,
      f"--data_path={TINY}",
      "--hparams=hidden_size=8,num_layers=1,num_steps=5,max_max_epoch=100000",
      f"--save_path={folder}",
      "--checkpoint_minutes=0",
      *flags,
    ],
    env={
      **os.environ,
      "TF_CONFIG": config_of(addresses, index),
      "http_proxy": "http://127.0.0.1:1",  # Not to be asked.
    },
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def test_a_killed_worker_ends_the_others_and_the_run_resumes(tmp_path):
  addresses = [f"127.0.0.1:{port}" for port in launch_local.free_ports(2)]
  other_folder = tmp_path / "not made"
  with (
    start(addresses, 0, tmp_path, "--rnn_mode=block") as first,
    start(addresses, 1, other_folder, "--rnn_mode=block") as second,
  ):
    while not checkpoints.steps_in(str(tmp_path)):
      assert first.poll() is None
      time.sleep(0.01)
    second.kill()
    _, told = first.communicate(timeout=60)
    assert first.returncode == 1
    assert second.stdout.read() == ""
  *_, last = told.splitlines()
  assert last.startswith(
    f"ptb_word_lm.py: Worker 1 at {addresses[1]} was lost. Its own messages"
  )
  step = checkpoints.steps_in(str(tmp_path))[-1]
  with (  # In the mode that the first worker's folder has.
    start(addresses, 1, other_folder) as second,
    start(addresses, 0, tmp_path) as first,
  ):
    assert first.stdout.readline().startswith("Epoch: 1 Learning rate")
    second.send_signal(signal.SIGINT)  # Ends both, after the same step.
    _, told = first.communicate(timeout=60)
    _, other = second.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (130, 130)
  assert f"Resuming {tmp_path} from model.ckpt-{step}: epoch 1" in told
  assert "rnn_mode block, " in other
  assert told.splitlines()[-1] == other.splitlines()[-1]
  assert told.splitlines()[-1].startswith("Stopped in epoch 1, after step")
  assert not other_folder.exists()


def test_the_first_is_killed_where_tensorflow_does_not_notice():
  hparams = "--hparams=hidden_size=8,num_layers=1,num_steps=5"
  with subprocess.Popen(
    [
      sys.executable,
      launch_local.__file__,
      "-n",
      "2",
      "--open_ports",
      f"--data_path={TINY}",
      hparams,
    ],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  ) as launcher:
    while "Epoch: 1 Train" not in launcher.stdout.readline():
      assert launcher.poll() is None
    children = f"/proc/{launcher.pid}/task/{launcher.pid}/children"
    first = int(pathlib.Path(children).read_text().split()[0])
    os.kill(first, signal.SIGKILL)  # It validates, for the first time.
    _, told = launcher.communicate(timeout=60)
  assert launcher.returncode == 128 + signal.SIGKILL
  assert told.splitlines()[-1].startswith(
    "worker 1: ptb_word_lm.py: Worker 0 at 127.0.0.1:"
  )
  assert "was lost. Its own messages" in told.splitlines()[-1]


def test_flags_that_do_not_fit(call_command, monkeypatch, pretend_gpus):
  pretend_gpus()  # None.
  args = ["ptb_word_lm", f"--data_path={TINY}"]
  for flags, told in (
    (
      ["--num_gpus=2"],
      "--num_gpus=2 is more than the 0 GPUs that TensorFlow finds",
    ),
    (["--exchange_fp16"], "--exchange_fp16 has no effect with a single worker"),
    (["--wait_for_workers=1"], "--wait_for_workers has no effect with a sin"),
    (["--evaluate", "--num_gpus=1"], "--num_gpus has no effect with --evaluat"),
  ):
    status, out, err = call_command(*args, *flags)
    assert (status, out) == (1, "") and told in err and err.count("\n") == 1
  monkeypatch.setenv("TF_CONFIG", config_of(["a:1", "b:1"]))
  status, out, err = call_command(*args, "--evaluate", "--checkpoint=x")
  assert (status, out) == (1, "")
  assert err == (
    "ptb_word_lm.py: --evaluate needs one process: start it alone, "
    "without TF_CONFIG.\n"
  )
  monkeypatch.setenv("TF_CONFIG", "{")
  status, out, err = call_command(*args)
  assert (status, out) == (1, "") and "TF_CONFIG has the wrong format" in err


def test_num_gpus_starts_a_worker_for_each(
  call_command, monkeypatch, pretend_gpus
):
  started = []

  def execv(*args):
    started.append(args)
    raise SystemExit(0)  # Like execv, it never returns.

  pretend_gpus((9, 0), (9, 0), (9, 0))
  monkeypatch.setattr(os, "execv", execv)
  monkeypatch.setattr(sys, "argv", ["ptb_word_lm.py", "--num_gpus=3", "--x"])
  args = ["ptb_word_lm", f"--data_path={TINY}"]
  assert call_command(*args, "--num_gpus=3")[0] == 0
  ((python, command),) = started
  assert python == command[0] == sys.executable
  assert pathlib.Path(command[1]) == pathlib.Path(launch_local.__file__)
  flags = ["--num_gpus=3", "--x"]
  assert command[2:] == ["-n", "3", "--gpus", *flags]
  device.prepare(1)  # This process is the worker.
  assert len(started) == 1
  monkeypatch.setenv("TF_CONFIG", config_of(["a:1", "b:1"]))
  status, out, err = call_command(*args, "--num_gpus=2")
  assert (status, out, len(started)) == (1, "", 1)
  assert err == (
    "ptb_word_lm.py: --num_gpus=2 starts workers, but TF_CONFIG already makes "
    "this process a worker: leave one of them out.\n"
  )
