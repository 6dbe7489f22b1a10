"""Tests of workers.py: several workers train what one does.

Most have their workers in threads of this process, with real servers.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import os
import pathlib
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
from lm.base import tf1
from lm.run import checkpoints, run_folder
from lm.run.run import Run
from lm.workers import peers, tf_config, workers
from lm.workers.tf_config_test import config_of
from ptb_word_lm_test import TRACES, draw_weights, set_weights, train_step

CONFIG = configs.SmallConfig(
  hidden_size=12, num_steps=5, keep_prob=0.6, vocab_size=50, max_max_epoch=2
)
# lstm_cell silences a warning, which is no matter of one thread alone.
pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated:UserWarning")
IDS = np.random.RandomState(0).randint(0, CONFIG.vocab_size, 2000)


@pytest.fixture(autouse=True)
def impatience(monkeypatch):
  """Lets a test fail soon in which one worker waits for another in vain."""
  monkeypatch.setattr(workers, "_SILENCE", 60)


def each_of(size, body, batch_size=20, **options):
  """Runs body(workers) for each of `size` workers; returns what they return.

  If some fail, the error of the first of them is raised.
  """
  tf1.Session  # noqa: B018  Loads TensorFlow, once.
  ports = launch_local.free_ports(size)
  addresses = [f"127.0.0.1:{port}" for port in ports] if size > 1 else []

  def one(index):
    with workers.find_workers(addresses, index, batch_size, **options) as found:
      return body(found)

  with concurrent.futures.ThreadPoolExecutor(size) as pool:
    futures = [pool.submit(one, index) for index in range(size)]
  return [future.result() for future in futures]


class Trained:
  """A model in training, with its graph and session."""

  def __init__(self, found, config=CONFIG, ids=IDS, weights=None):
    self._workers = found
    with contextlib.ExitStack() as stack:
      stack.enter_context(tf1.Graph().as_default())
      stack.enter_context(found.device())
      initializer = ptb_word_lm.uniform_initializer(config.init_scale, 5)
      with tf1.variable_scope("Model", initializer=initializer):
        self.model = model = ptb_word_lm.PTBModel(
          True,
          config,
          ptb_word_lm.PTBInput(config, ids, rows=found.rows),
          seed=5,
          workers=found,
        )
      self.session = session = stack.enter_context(found.session())
      session.run(tf1.global_variables_initializer())
      set_weights(session, weights or {})
      found.share(run_folder.NoRunFolder()).restore(session, None)
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

  def body(found):
    with Trained(found, *args) as model:
      return (
        np.array([model.step() for _ in range(steps)]),
        found.all_rows(np.array(model.state)),
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
  """Returns what 50 steps of one worker give, with dropout."""
  config = dataclasses.replace(CONFIG, rnn_mode=rnn_mode, tie_embeddings=tied)
  (result,) = each_of(1, trained(50, config))
  return result


# Of 20 rows; 3 workers have 6, 7 and 7.
@pytest.mark.parametrize(
  ("rnn_mode", "tied", "size"),
  [
    ("basic", False, 2),
    ("basic", False, 4),
    ("block", False, 3),
    ("block", True, 3),
  ],
)
def test_several_train_what_one_does(rnn_mode, tied, size):
  config = dataclasses.replace(CONFIG, rnn_mode=rnn_mode, tie_embeddings=tied)
  steps, state, weights = alone(rnn_mode, tied)
  first, *others = each_of(size, trained(50, config))
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
  found = each_of(2, body, config.batch_size)
  costs, norms = found[0][0].T
  np.testing.assert_allclose(costs, case["costs"][:40], rtol=1e-6)
  np.testing.assert_allclose(norms, case["grad_norms"][:40], rtol=1e-6)


def test_gradients_in_16_bits_are_nearly_those_in_32():
  exact = alone(CONFIG.rnn_mode)[0][:30]
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
    CONFIG, num_layers=1, rnn_mode="block", num_samples=20
  )
  corpus = reader.read_corpus(str(TINY))
  corpus = dataclasses.replace(  # 19 steps an epoch.
    corpus,
    train=corpus.train[:2000],
    valid=corpus.valid[:300],
    test=corpus.test[:200],
  )

  run = run_with(config, seed=2)

  def body(found):
    folder = run_folder.NoRunFolder()
    if found.index == 0:
      folder = run_folder.RunFolder(str(path), run, corpus.vocabulary)
    own = Stop(stop_after) if stop_after and found.index == stops else False
    with folder:
      stop, shared = found.any_of(own), found.share(folder)
      numbers = ptb_word_lm.train(run, corpus, shared, stop=stop, workers=found)
    return numbers, getattr(stop, "signum", None)

  return body


def numbers_of(result):
  """Returns the perplexities of a run, of what run_of returned."""
  return [v for n, v in result[0].items() if n.endswith("perplexity")]


def variables_in(path):
  """Returns the tensors of a run's last checkpoint."""
  found = tf1.train.load_checkpoint(
    checkpoints.find_checkpoint(str(path), "last")
  )
  names = found.get_variable_to_shape_map()
  return {n: found.get_tensor(n) for n in names if n != "progress/json"}


def test_a_run_resumes_exactly_also_with_other_workers(tmp_path, capfd):
  whole = each_of(2, run_of(tmp_path / "whole"))
  assert numbers_of(whole[0]) == numbers_of(whole[1])
  # The second worker gets the signal, amid the second epoch; both stop.
  for name in "ab":
    stopped = each_of(2, run_of(tmp_path / name, 30, stops=1))
    assert stopped == [(None, signal.SIGTERM)] * 2
  assert "Stopped in epoch 2, after step" in capfd.readouterr().err
  resumed = each_of(2, run_of(tmp_path / "a"))
  assert numbers_of(resumed[0]) == numbers_of(whole[0])
  expected, found = (
    variables_in(tmp_path / "whole"),
    variables_in(tmp_path / "a"),
  )
  assert expected.keys() == found.keys()
  for name, value in expected.items():
    np.testing.assert_array_equal(found[name], value)
  (by_one,) = each_of(1, run_of(tmp_path / "b"))
  assert numbers_of(by_one) == pytest.approx(numbers_of(whole[0]), rel=1e-5)


@pytest.mark.parametrize("batch_size", [3, 4, 20, 23])
@pytest.mark.parametrize("size", [2, 3])
def test_each_row_has_one_worker(batch_size, size):
  ids = np.arange(batch_size * 9) % 7
  config = dataclasses.replace(CONFIG, batch_size=batch_size, num_steps=2)
  state = np.random.rand(2, 2, batch_size, 3).astype(np.float32)

  def body(found):
    with tf1.Graph().as_default(), found.device():
      input_ = ptb_word_lm.PTBInput(config, ids, rows=found.rows)
      with found.session() as session:
        batch = session.run([input_.input_data, input_.targets])
    return batch, found.all_rows(state[:, :, found.rows])

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

  def body(found):
    folder = run_folder.NoRunFolder()
    if found.index == 0:
      folder = run_folder.RunFolder(str(tmp_path), run, ["a"], 0)
    saved = []
    with folder:
      shared, save = found.share(folder), folder.save
      folder.save = lambda session, step, progress: (
        saved.append((progress.step, progress.state)),
        save(session, step, progress),
      )
      corpus = reader.Corpus(IDS, IDS, IDS[:300], [], {})
      ptb_word_lm.train(run, corpus, shared, workers=found)
    return saved

  first, second = each_of(2, body)
  assert [step for step, _ in first] == [*range(1, 19), 0]
  for (step, state), (other_step, other) in zip(first, second, strict=True):
    assert step == other_step
    if step:
      assert np.shape(state) == (2, 2, 20, 12)
      np.testing.assert_array_equal(state, other)


def test_what_each_has_is_known_to_all():
  values = [{"a": [1.5, "é"]}, None, list(range(10_000))]

  def body(found):
    return found.of_all(values[found.index])

  assert each_of(3, body) == [values] * 3


def test_workers_that_were_not_started_alike():
  def body(found):
    found.check_alike({"seed": found.index // 2, "data": {"ptb.train.txt": 1}})

  with pytest.raises(
    tf_config.WorkersError,
    match=r"^Worker 2 was not started like worker 0: seed is 0 on worker 0, 1 "
    r"on worker 2\. Give",
  ):
    each_of(3, body)
  each_of(2, body)


def test_workers_of_other_code(monkeypatch):
  sums = iter("ab")
  monkeypatch.setattr(
    workers, "_sha256_of_code", lambda: {"a.py": "1", "lm/b.py": next(sums)}
  )
  told = r"was not started like worker 0: lm/b\.py is another version\. Give"
  with pytest.raises(tf_config.WorkersError, match=told):
    each_of(2, lambda found: found.check_alike({}))


def test_workers_with_other_texts_or_hyper_parameters():
  abouts = {"vocabulary_sha256": "a"}, {"config": {"forget_bias": 1.0}}
  told = (
    "the vocabulary is another one; forget_bias is 0.0 on worker 0, 1.0 on wor"
  )
  with pytest.raises(tf_config.WorkersError, match=told):
    each_of(2, lambda found: found.check_alike(abouts[found.index]))


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
  assert workers._sha256_of_code() == sums[-1]


def test_a_port_in_use():
  told = "Worker 0 cannot take port {}: Address already in use.".format
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
    with workers.Workers(addresses, index, 20, wait=30) as found:
      return found.of_all(index)[0]

  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    assert list(pool.map(body, range(2))) == [0, 0]


def test_a_worker_that_never_comes(capfd):
  (port,) = launch_local.free_ports(1)
  addresses = [f"127.0.0.1:{port}", "127.0.0.1:1"]
  with pytest.raises(
    tf_config.WorkersError,
    match=r"^Worker 1 at 127.0.0.1:1 did not come within 0.3 seconds: Connectio"
    r"n refused\. Start all",
  ):
    workers.Workers(addresses, 0, 20, wait=0.3)
  told = "Worker 0 waits for worker 1 at 127.0.0.1:1, for at most 0.3 seconds."
  assert capfd.readouterr().err == f"{told}\n"


def test_workers_with_lists_of_another_length():
  ports = launch_local.free_ports(3)
  addresses = [f"127.0.0.1:{port}" for port in ports]

  def one(index):
    with pytest.raises(
      tf_config.WorkersError, match="The workers cannot connect"
    ):
      found = workers.Workers(addresses[: 2 + (index > 0)], index, 20)
      found.check_alike({})

  with concurrent.futures.ThreadPoolExecutor(3) as pool:
    list(pool.map(one, range(3)))


def test_a_worker_that_does_not_answer(monkeypatch):
  def body(found):
    found.check_alike({})
    monkeypatch.setattr(workers, "_SILENCE", 1)
    if found.index == 0:
      found.of_all(None)
    else:
      time.sleep(3)

  with pytest.raises(
    tf_config.WorkersError,
    match=r"A worker did not answer for 1 seconds\. Its own",
  ):
    each_of(2, body)


def test_a_loss_that_tensorflow_does_not_notice(monkeypatch):
  monkeypatch.setattr(workers, "_SILENCE", 5)
  monkeypatch.setattr(workers, "_BETWEEN_LOOKS", 0.2)
  ended = threading.Event()

  def body(found):
    found.check_alike({})
    if found.index:
      ended.wait(30)
      return
    _, address = found._peers._others[0]
    why = {address: ConnectionRefusedError()}.get
    monkeypatch.setattr(peers, "why_closed", why)
    try:
      with pytest.raises(tf_config.WorkersError) as raised:
        found.of_all(None)
      assert str(raised.value).startswith(f"Worker 1 at {address} was lost.")
      raise raised.value  # As it would go on: then none waits for the other.
    finally:
      ended.set()

  with pytest.raises(tf_config.WorkersError, match="Worker 1 at"):
    each_of(2, body)


def test_a_worker_that_cannot_be_reached(monkeypatch):
  monkeypatch.setattr(workers, "_BETWEEN_LOOKS", 0.1)

  def body(found):
    found.check_alike({})
    monkeypatch.setattr(peers, "why_closed", lambda address: TimeoutError())
    if found.index:
      time.sleep(1)  # Then it answers: nothing was lost.
    assert found.of_all(1) == [1, 1]
    monkeypatch.setattr(peers, "_UNREACHABLE", 0.5)
    if found.index:
      time.sleep(2)
    found.of_all(None)

  with pytest.raises(
    tf_config.WorkersError, match=r"^Worker 1 at .* was lost\."
  ):
    each_of(2, body)


def test_what_tensorflow_says_of_a_loss(monkeypatch):
  text = "Detected at node\nCollective ops is aborted by: timed out.\nThe error"

  def body(found):
    found.check_alike({})
    monkeypatch.setattr(workers.time, "sleep", lambda seconds: None)
    return found._what_failed(tf1.errors.UnavailableError(None, None, text))

  for told in each_of(2, body):
    assert told.startswith(
      "A worker failed, or the connection to it did (timed out)"
    )


def test_a_port_that_meets_itself(monkeypatch):
  (port,) = launch_local.free_ports(1)
  address = ("127.0.0.1", port)

  def connect(*args, **options):
    sock = socket.socket()
    sock.bind(address)
    sock.connect(address)
    return sock

  monkeypatch.setattr(socket, "create_connection", connect)
  assert isinstance(peers.why_closed(f"127.0.0.1:{port}"), ConnectionError)


@pytest.mark.parametrize(
  ("signum", "told"),
  [(signal.SIGINT, "Interrupted.\n"), (signal.SIGTERM, "")],
)
def test_a_signal_while_they_meet(signum, told, tmp_path):
  (port,) = launch_local.free_ports(1)
  with socket.create_server(("127.0.0.1", 0)) as silent:
    other = silent.getsockname()[1]
    addresses = [f"127.0.0.1:{port}", f"127.0.0.1:{other}"]
    with start(addresses, 0, tmp_path) as process:
      looked, _ = silent.accept()  # It has seen that the other is there,
      time.sleep(1)  # and waits for its first words.
      process.send_signal(signum)
      _, err = process.communicate(timeout=30)
      looked.close()
  assert (process.returncode, err) == (128 + signum, told)
  assert not list(tmp_path.iterdir())


def test_many_steps_cost_no_threads():
  def body(found):
    for step in range(50):
      if step == 10:
        before = len(os.listdir("/proc/self/task"))
      found.of_all(None)
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
      "--hparams=hidden_size=8,num_steps=5,max_max_epoch=100000",
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
  flags = [f"--data_path={TINY}", "--hparams=hidden_size=8,num_steps=5"]
  with subprocess.Popen(
    [sys.executable, launch_local.__file__, "-n", "2", "--open_ports", *flags],
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
  assert (status, out) == (1, "") and "TF_CONFIG is not as" in err


def test_num_gpus_starts_a_worker_for_each(
  call_command, monkeypatch, pretend_gpus
):
  started = []
  pretend_gpus((9, 0), (9, 0), (9, 0))
  monkeypatch.setattr(os, "execv", lambda *args: started.append(args))
  monkeypatch.setattr(sys, "argv", ["ptb_word_lm.py", "--num_gpus=3", "--x"])
  args = ["--hparams=num_steps=20", "--model=test", f"--data_path={TINY}"]
  args.append("--rnn_mode=block")
  assert call_command("ptb_word_lm", *args, "--num_gpus=3")[0] == 0
  ((python, command),) = started
  assert python == command[0] == sys.executable
  assert pathlib.Path(command[1]) == pathlib.Path(launch_local.__file__)
  flags = ["--num_gpus=3", "--x"]
  assert command[2:] == ["-n", "3", "--gpus", *flags]
  started.clear()
  assert call_command("ptb_word_lm", *args, "--num_gpus=1")[0] == 0
  assert not started
  monkeypatch.setenv("TF_CONFIG", config_of(["a:1", "b:1"]))
  status, out, err = call_command("ptb_word_lm", *args, "--num_gpus=2")
  assert (status, out, started) == (1, "", [])
  assert err == (
    "ptb_word_lm.py: --num_gpus=2 starts workers, but TF_CONFIG says that this "
    "is one already. Leave either out.\n"
  )
