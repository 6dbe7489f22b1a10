"""Several processes that train one model together, each on some of the rows.

All run the same command. The environment variable TF_CONFIG lists them
(lm/tf_config.py). Each worker reads its own rows of every batch and keeps the
LSTM's state of these rows. In a step, TensorFlow's collective operations add up
the gradients and the cost of all workers, so each makes the same update and all
keep the same weights: the training is that of one process with the full batch.
The states of all rows are gathered only for a checkpoint. Worker 0 prints and
writes.

TensorFlow asks for no password: anyone who can connect to a worker's port can
run code as you. Let only trusted machines reach it.
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import threading
import time

import numpy as np

from lm import layers, peers, run_folder, tf1
from lm.peers import Peers
from lm.tf_config import WorkersError

# Seconds until a worker that is reachable but does not answer counts as lost.
_SILENCE = 600
_HELLO = 60  # The same for its first answer.
_BETWEEN_LOOKS = 5  # Seconds between two looks whether the others are there.


class OneWorker(contextlib.AbstractContextManager):
  """The single-process case: each method is a no-op or plain TensorFlow.

  Attributes:
    index: the number of this worker, from 0.
    size: the number of workers.
    rows: a slice, the rows of the batch that are this worker's.
  """

  index, size, rows = 0, 1, slice(None)

  def __exit__(self, *exception):
    pass

  def check_alike(self, about):
    """Raises WorkersError unless `about`, a dictionary, is the same for all."""

  def of_all(self, value):
    """Returns a list of what each worker passes, anything JSON can hold."""
    return [value]

  def output(self):
    """Returns a context in which only worker 0 prints to stdout."""
    return contextlib.nullcontext()

  def device(self):
    """Returns a context for building a graph."""
    return contextlib.nullcontext()

  def session(self):
    """Returns a context with a Session for the default graph."""
    return tf1.Session()

  def any_of(self, wish):
    """Returns an object that is true for all once `wish` is true for one.

    Workers compare their wishes in each step, so all know after the same step.
    A wish is an object with a truth value, and maybe a number `signum`.
    """
    return wish

  def sum(self, tensor):
    """Returns the sum of the workers' tensors, which have the same shape."""
    return tensor

  def gradients_of(self, cost, variables):
    """Returns the gradients of the sum of the workers' costs."""
    return layers.gradients_of(cost, variables)

  def all_rows(self, state):
    """Returns the state of all rows, [L, 2, B, H], given this worker's."""
    return state

  def share(self, folder):
    """Returns a folder for all workers to use; worker 0's keeps the run."""
    return folder


class Workers(OneWorker):
  """One of several workers; see OneWorker.

  Use it as a context manager; its exit waits until all other workers have
  exited too. All workers must make the same calls in the same order. Every call
  that talks to the others raises WorkersError if one of them is lost.
  """

  def __init__(self, addresses, index, batch_size, *, wait=300, fp16=False):
    """Starts this worker's server and waits for the others.

    Args:
      addresses: "host:port" of each worker.
      index: the number of this one.
      batch_size: B, the rows to share out.
      wait: seconds to wait for the others.
      fp16: whether to exchange gradients in bfloat16.

    Raises:
      WorkersError: if the port is in use, there are more workers than rows, or
        a worker did not come in time.
    """
    self.index, self.size = index, len(addresses)
    if batch_size < self.size:
      raise WorkersError(
        f"{self.size} workers are too many for batch_size={batch_size}: each "
        "needs a row. Start fewer, or make batch_size larger."
      )
    ends = [batch_size * n // self.size for n in range(self.size + 1)]
    self.rows = slice(*ends[index : index + 2])
    self._batch_size = batch_size
    self._peers = Peers(addresses, index)
    self._fp16 = fp16
    self._num_exchanges = 0  # In all graphs; each exchange needs a number.
    self._have_met = False
    self._sums = set()  # The names of the tensors that need all workers.
    self._wishes = []
    self._config = tf1.ConfigProto(
      allow_soft_placement=True,
      device_filters=[f"/job:worker/task:{index}"],
    )
    self._config.experimental.collective_group_leader = (
      "/job:worker/replica:0/task:0"
    )
    # The environment may name a proxy for the web. Workers do without it.
    hosts = {address.rpartition(":")[0] for address in addresses}
    os.environ["no_grpc_proxy"] = ",".join(sorted(hosts))  # noqa: SIM112
    try:
      self._server = tf1.train.Server(
        {"worker": addresses}, "worker", index, config=self._config
      )
    except tf1.errors.OpError as error:
      port = addresses[index].rpartition(":")[2]
      reason = peers.why_not_free(int(port)) or tf1.reason_of(error)
      raise WorkersError(
        f"Worker {index} cannot take port {port}: {reason}. End the program "
        "that uses it, or put another port into each worker's TF_CONFIG."
      ) from None
    self._peers.wait_for_all(wait)
    with tf1.Graph().as_default(), self.device():
      self._ints = tf1.placeholder(tf1.int32, [None])
      self._floats = tf1.placeholder(tf1.float32, None)
      self._sum_of_ints = self._reduced(self._ints, "Add")
      self._sum_of_floats = self._reduced(self._floats, "Add")
      self._talk = tf1.Session(self._server.target, config=self._config)

  def __exit__(self, kind, error, traceback):
    """Waits until all workers have come to the same end."""
    if kind is None:
      with contextlib.suppress(WorkersError):  # One left first: all are done.
        self.of_all(None)
    self._talk.close()

  def check_alike(self, about):
    about = {
      **about,
      "exchange_fp16": self._fp16,
      "TensorFlow": tf1.version.VERSION,
      "the code's SHA-256": _sha256_of_code(),
    }
    first, *others = self.of_all(about)
    self._have_met = True
    for index, other in enumerate(others, 1):
      where = ("on worker 0", f"on worker {index}")
      unlike = run_folder.differences(first, other, where)
      if unlike:
        raise WorkersError(
          f"Worker {index} was not started like worker 0: {'; '.join(unlike)}. "
          "Give all workers the same flags, data and code."
        )

  def of_all(self, value):
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = np.zeros(self.size, np.int32)
    sizes[self.index] = len(text)
    sizes = self._exchange(self._sum_of_ints, {self._ints: sizes})
    ends = np.cumsum(sizes)
    begins = ends - sizes
    texts = np.zeros(ends[-1], np.int32)
    texts[begins[self.index] : ends[self.index]] = text
    texts = self._exchange(self._sum_of_ints, {self._ints: texts})
    texts = texts.astype(np.uint8).tobytes()
    return [json.loads(texts[b:e]) for b, e in zip(begins, ends, strict=True)]

  def output(self):
    if self.index == 0:
      return contextlib.nullcontext()
    return contextlib.redirect_stdout(open(os.devnull, "w"))

  def device(self):
    return tf1.device(f"/job:worker/task:{self.index}")

  @contextlib.contextmanager
  def session(self):
    # A session.run of a sum also compares the workers' wishes, see any_of.
    own = tf1.placeholder(tf1.int32, [None])
    of_any = self._reduced(own, "Max")
    session = tf1.Session(self._server.target, config=self._config)
    self._run = run_alone = session.run

    def run(fetches, feed_dict=None, *args):
      names = {getattr(f, "name", f) for f in tf1.nest.flatten(fetches)}
      if self._sums.isdisjoint(names):
        return run_alone(fetches, feed_dict, *args)
      feed = {**(feed_dict or {}), own: [wish.own() for wish in self._wishes]}
      values, found = self._together(run_alone, [fetches, of_any], feed)
      for wish, value in zip(self._wishes, found, strict=True):
        wish.signum = int(value)
      return values

    session.run = run
    with session.graph.as_default(), session.as_default():
      yield session
    session.close()  # Not after an error: it would wait for the lost worker.

  def any_of(self, wish):
    self._wishes.append(_AnyOf(wish))
    return self._wishes[-1]

  def sum(self, tensor):
    total = self._reduced(tensor, "Add")
    self._sums.add(total.name)
    return total

  def gradients_of(self, cost, variables):
    return [
      self._sum_of_gradients(gradient)
      for gradient in super().gradients_of(cost, variables)
    ]

  def _sum_of_gradients(self, gradient):
    """Returns the sum of the workers' gradients of one variable."""
    if isinstance(gradient, tf1.IndexedSlices):
      # A row for each word that is read, [T * rows, H]: all workers' rows.
      return tf1.IndexedSlices(
        self._sum_of_gradients(self._with_others(gradient.values)),
        self._reduced(self._with_others(gradient.indices), "Add"),
        gradient.dense_shape,
      )
    if not self._fp16:
      return self._reduced(gradient, "Add")
    total = self._reduced(tf1.cast(gradient, tf1.bfloat16), "Add")
    return tf1.cast(total, gradient.dtype)

  def _with_others(self, words):
    """Returns [T * rows, ...] as [T * B, ...], zero for the others' rows."""
    begin, end = self.rows.start, self.rows.stop
    shape = words.shape.as_list()[1:]
    words = tf1.reshape(words, [-1, end - begin, *shape])  # [T, rows, ...]
    others = [[0, 0], [begin, self._batch_size - end], *[[0, 0] for _ in shape]]
    return tf1.reshape(tf1.pad(words, others), [-1, *shape])

  def all_rows(self, state):
    layers_, pair, _, units = np.shape(state)
    padded = np.zeros([layers_, pair, self._batch_size, units], np.float32)
    padded[:, :, self.rows] = state
    return self._exchange(self._sum_of_floats, {self._floats: padded})

  def share(self, folder):
    return _SharedFolder(folder, self)

  def broadcast(self, variables):
    """Gives all workers the values that the variables have on worker 0.

    The others add zeros to the sum. Call it within the session's context.
    """
    copies = []
    for variable in variables:
      value = variable.read_value()
      if self.index:
        value = tf1.zeros_like(value)
      copies.append(variable.assign(self._reduced(value, "Add")).op)
    self._together(self._run, copies)

  def _reduced(self, tensor, how):
    """Adds to the graph the sum ("Add") or maximum ("Max") over the workers."""
    self._num_exchanges += 1
    return tf1.raw_ops.CollectiveReduce(
      input=tensor,
      group_size=self.size,
      group_key=1,
      instance_key=self._num_exchanges,
      merge_op=how,
      final_op="Id",
      subdiv_offsets=[0],
    )

  def _exchange(self, fetches, feed):
    """Runs something of the graph in which the workers talk."""
    return self._together(self._talk.run, fetches, feed)

  def _together(self, run, fetches, feed=None):
    """Calls `run`, a Session's method, for fetches that need the others.

    It runs in a thread, since TensorFlow does not always notice a lost worker,
    and since Python handles no signal while it waits for TensorFlow.

    Raises:
      WorkersError: if a worker was lost.
    """
    # Not the operations' own timeout_seconds: each of those would keep a
    # sleeping thread for that time.
    seconds = _SILENCE if self._have_met else _HELLO
    options = tf1.RunOptions(timeout_in_ms=1000 * seconds)
    result = concurrent.futures.Future()
    self._peers.start_watching()
    try:
      _start_thread(result, run, fetches, feed, options)
      while not concurrent.futures.wait([result], _BETWEEN_LOOKS).done:
        lost = self._peers.lost()
        if lost is not None:
          # If that worker ended in order, what it sent is still on its way.
          concurrent.futures.wait([result], _BETWEEN_LOOKS)
          if not result.done():
            raise WorkersError(f"{lost} {_AFTER_LOSS}")
    except (KeyboardInterrupt, SystemExit):
      # Cancels the run: Python crashes if the thread returns while it exits.
      closed = concurrent.futures.Future()
      _start_thread(closed, run.__self__.close)
      concurrent.futures.wait([closed, result], _BETWEEN_LOOKS)
      raise
    try:
      return result.result()
    except tf1.errors.ResourceExhaustedError:
      raise
    except tf1.errors.OpError as error:
      raise WorkersError(self._what_failed(error)) from None

  def _what_failed(self, error):
    """Returns a sentence about an error of a common session.run."""
    if not self._have_met:
      return (
        "The workers cannot connect to each other. Do all of them run, with "
        "the same list in TF_CONFIG and an index of their own?"
      )
    is_late = isinstance(error, tf1.errors.DeadlineExceededError)
    for _ in range(1 if is_late else 20):  # The lost one may be about to end.
      lost = self._peers.lost()
      if lost is not None:
        return f"{lost} {_AFTER_LOSS}"
      time.sleep(0.5)
    # "Collective ops is aborted by: REASON", among much else.
    *_, reason = re.findall("aborted by: (.*)", error.message) or [""]
    reason = (reason or tf1.reason_of(error)).rstrip(".")
    what = f"failed, or the connection to it did ({reason})"
    if is_late:
      what = f"did not answer for {_SILENCE} seconds"
    return f"A worker {what}. {_AFTER_LOSS}"


_AFTER_LOSS = (
  "Its own messages say why. Start all workers again: a run with --save_path "
  "resumes from its last checkpoint."
)


class _SharedFolder(run_folder.NoRunFolder):
  """A run's folder, of worker 0, that all workers use alike.

  The methods pass on to the folder of each worker; only worker 0's is real.
  """

  def __init__(self, folder, workers):
    self._folder, self._workers = folder, workers
    self.result = workers.of_all(folder.result)[0]
    self.is_due = workers.any_of(folder.is_due)
    self.summarize, self.finish = folder.summarize, folder.finish

  def restore(self, session, state_shape):
    progress = self._folder.restore(session, state_shape)
    self._workers.broadcast(tf1.global_variables())
    fields = dataclasses.asdict(progress)
    if progress.state is not None:
      fields["state"] = progress.state.tolist()
    progress = type(progress)(**self._workers.of_all(fields)[0])
    if progress.state is not None:
      progress.state = np.array(progress.state)[:, :, self._workers.rows]
    return progress

  def save(self, session, step, progress):
    if progress.state is not None:
      state = self._workers.all_rows(progress.state)
      progress = dataclasses.replace(progress, state=state)
    self._folder.save(session, step, progress)


class _AnyOf:
  """True once any worker's wish is; the value is from the last common step.

  Attributes:
    signum: 0 if no worker wishes, else a number that one of them passes.
  """

  def __init__(self, wish):
    self._wish = wish
    self.signum = 0

  def __bool__(self):
    return bool(self.signum)

  def own(self):
    """Returns this worker's wish as a number: the signal's, or 0 or 1."""
    return getattr(self._wish, "signum", None) or int(bool(self._wish))


def _start_thread(result, function, *args):
  """Calls a function in a thread that the end of the process does not await.

  The Future `result` gets what it returns or raises.
  """

  def call():
    try:
      result.set_result(function(*args))
    except BaseException as error:
      result.set_exception(error)

  threading.Thread(target=call, daemon=True).start()


def _sha256_of_code():
  """Returns a checksum of this project's modules as they are on the disk."""
  root = pathlib.Path(__file__).parent.parent
  total = hashlib.sha256()
  for path in sorted([*root.glob("*.py"), *root.glob("lm/*.py")]):
    if not path.name.endswith("_test.py"):
      total.update(f"{path.name} {path.read_text()}".encode())
  return total.hexdigest()


def find_workers(addresses, index, batch_size, **options):
  """Returns Workers with these arguments, or OneWorker if there is only one."""
  if len(addresses) < 2:
    return OneWorker()
  return Workers(addresses, index, batch_size, **options)
