"""Several processes that train one model together, each on some of the rows.

All run the same command. The environment variable TF_CONFIG lists them. Each
worker reads its own rows of every batch, takes these rows of the full batch's
dropout masks, and keeps the LSTM's state of these rows. All start from worker
0's weights. In a step, TensorFlow's collective operations add up the gradients
and the cost of all workers, so each makes the same update and all keep the same
weights, as one process with the full batch would. They also agree on when to
stop and to save. The states of all rows are gathered only for a checkpoint.
Worker 0 prints and writes.

TensorFlow asks for no password: anyone who can connect to a worker's port can
run code as you. Let only trusted machines reach it.
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
import re
import threading
import time

import numpy as np

from lm.base import device, tf1
from lm.base.command import is_out_of_memory, reason_of
from lm.run import run_folder
from lm.run.run import differences
from lm.workers import peers
from lm.workers.tf_config import WorkersError

# Seconds until a worker that is reachable but does not answer counts as lost.
_SILENCE = 600
_HELLO = 60  # The same for its first answer.
_BETWEEN_LOOKS = 5  # Seconds between two looks whether the others are there.


class OneWorker(contextlib.AbstractContextManager):
  """The single-process case: each method is a no-op or plain TensorFlow."""

  index, size = 0, 1  # The number of this worker, from 0; and of all workers.
  rows = slice(None)  # The rows of the batch that are this worker's.

  def __exit__(self, *exception):
    pass

  def check_alike(self, about):
    """Raises WorkersError unless `about`, a dictionary, is the same for all."""

  def of_all(self, value):
    """Returns a list of what each worker passes: JSON values or arrays."""
    return [value]

  def output(self):
    """Returns a context in which only worker 0 prints to stdout."""
    return contextlib.nullcontext()

  def device(self):
    """Returns a context for building a graph."""
    return contextlib.nullcontext()

  def session(self):
    """Returns a context with a Session for the default graph."""
    return device.session()

  def any_of(self, wish):
    """Returns an object that is true for all once `wish` is true for one.

    Workers compare their wishes in each step, so all know after the same step.
    A wish is an object with a truth value, and maybe a number `signum`.
    """
    return wish

  def sum(self, tensor):
    """Returns the sum of the workers' tensors, which have the same shape."""
    return tensor

  def sum_of_gradients(self, gradients, words):
    """Returns the sums of the workers' gradients, a list like `gradients`.

    A sparse gradient starts with this worker's `words` of the batch. The rest,
    of sampled words, is of the same words for all workers.
    """
    return gradients

  def run(self, session, fetches, feed):
    """Returns session.run(fetches, feed), of a step of all workers."""
    return session.run(fetches, feed)

  def all_rows(self, state):
    """Returns the state of all rows, [L, 2, B, H], given this worker's."""
    return state

  def share(self, folder):
    """Returns a folder for all workers to use; worker 0's keeps the run."""
    return folder


ALONE = OneWorker()


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
    """
    self.index, self.size = index, len(addresses)
    if batch_size < self.size:
      raise WorkersError(
        f"{self.size} workers are too many for batch_size={batch_size}: each "
        "needs a row. Start fewer, or make batch_size larger."
      )
    ends = [batch_size * n // self.size for n in range(self.size + 1)]
    self.rows = slice(*ends[index : index + 2])
    self._batch_size, self._fp16 = batch_size, fp16
    self._peers = peers.Peers(addresses, index)
    self._numbers = itertools.count(1)  # Each exchange, in any graph, has one.
    self._have_met = False
    self._wishes = []
    self._config = device.session_config(
      allow_soft_placement=True, device_filters=[f"/job:worker/task:{index}"]
    )
    leader = "/job:worker/replica:0/task:0"
    self._config.experimental.collective_group_leader = leader
    # The environment may name a proxy for the web. Workers do without it.
    os.environ["grpc_proxy"] = ""  # noqa: SIM112
    try:
      self._server = tf1.train.Server(
        {"worker": addresses}, "worker", index, config=self._config
      )
    except tf1.errors.OpError as error:
      port = addresses[index].rpartition(":")[2]
      reason = peers.why_not_free(int(port)) or reason_of(error)
      raise WorkersError(
        f"Worker {index} cannot take port {port}: {reason}. End the program "
        "that uses it, or put another port into each worker's TF_CONFIG."
      ) from None
    self._peers.wait_for_all(wait)
    with tf1.Graph().as_default(), self.device():
      self._own = tf1.placeholder(tf1.int32, [None])
      self._total = self._reduced(self._own, "Add")
      self._talk = tf1.Session(self._server.target, config=self._config)

  def __exit__(self, kind, error, traceback):
    if kind is None:
      with contextlib.suppress(WorkersError):  # One left first: all are done.
        self.of_all(None)
    self._talk.close()

  def check_alike(self, about):
    about = {**about, "TensorFlow": tf1.version.VERSION}
    about["code"] = _sha256_of_code()
    first, *others = self.of_all(about)
    self._have_met = True
    for index, other in enumerate(others, 1):
      where = ("on worker 0", f"on worker {index}")
      if found := differences(first, other, where):
        unlike = "; ".join(text for _, text in found)
        raise WorkersError(
          f"Worker {index} was not started like worker 0: {unlike}. Give all "
          "workers the same flags, data and code."
        )

  def of_all(self, value):
    text = json.dumps(value, default=np.ndarray.tolist).encode()
    ends = np.cumsum(self._total_of(np.eye(self.size)[self.index] * len(text)))
    end = ends[self.index]
    # Zeros where the others have their texts.
    padded = np.pad(list(text), [end - len(text), ends[-1] - end])
    texts = np.split(self._total_of(padded), ends[:-1])
    return [json.loads(bytes(text.astype(np.uint8))) for text in texts]

  def _total_of(self, values):
    """Returns the sum of the workers' lists of whole numbers."""
    return self._together(self._talk.run, self._total, {self._own: values})

  def output(self):
    if self.index == 0:
      return contextlib.nullcontext()
    return contextlib.redirect_stdout(open(os.devnull, "w"))

  def device(self):
    return tf1.device(f"/job:worker/task:{self.index}")

  @contextlib.contextmanager
  def session(self):
    # Each step also compares the workers' wishes, see any_of.
    self._own_wishes = tf1.placeholder(tf1.int32, [None])
    self._all_wishes = self._reduced(self._own_wishes, "Max")
    session = tf1.Session(self._server.target, config=self._config)
    with session.graph.as_default(), session.as_default():
      yield session
    session.close()  # Not after an error: it would wait for the lost worker.

  def run(self, session, fetches, feed):
    own = [wish.own() for wish in self._wishes]
    values, found = self._together(
      session.run,
      [fetches, self._all_wishes],
      {**feed, self._own_wishes: own},
    )
    for wish, value in zip(self._wishes, found, strict=True):
      wish.signum = int(value)
    return values

  def any_of(self, wish):
    self._wishes.append(_AnyOf(wish))
    return self._wishes[-1]

  def sum(self, tensor):
    return self._reduced(tensor, "Add")

  def sum_of_gradients(self, gradients, words):
    return [self._sum_of_gradients(gradient, words) for gradient in gradients]

  def _sum_of_gradients(self, gradient, words):
    """Returns the sum of the workers' gradients of one variable."""
    if isinstance(gradient, tf1.IndexedSlices):
      # A row for each word of the batch, [T * rows, H]: all workers' rows.
      values, indices = gradient.values[:words], gradient.indices[:words]
      values, indices = self._with_others(values), self._with_others(indices)
      # And one for each sampled word. Only worker 0 says which these are.
      samples = gradient.indices[words:]
      samples = tf1.zeros_like(samples) if self.index else samples
      values = tf1.concat([values, gradient.values[words:]], axis=0)
      return tf1.IndexedSlices(
        self._sum_of_gradients(values, words),
        self._reduced(tf1.concat([indices, samples], axis=0), "Add"),
        gradient.dense_shape,
      )
    sent = tf1.cast(gradient, tf1.bfloat16) if self._fp16 else gradient
    return tf1.cast(self._reduced(sent, "Add"), gradient.dtype)

  def _with_others(self, words):
    """Returns [T * rows, ...] as [T * B, ...], zero for the others' rows."""
    begin, end = self.rows.start, self.rows.stop
    shape = words.shape.as_list()[1:]
    words = tf1.reshape(words, [-1, end - begin, *shape])  # [T, rows, ...]
    others = [[0, 0], [begin, self._batch_size - end], *[[0, 0] for _ in shape]]
    return tf1.reshape(tf1.pad(words, others), [-1, *shape])

  def all_rows(self, state):
    return np.concatenate(self.of_all(state), axis=2)

  def share(self, folder):
    return _SharedFolder(folder, self)

  def broadcast(self, session, variables):
    """Gives all workers worker 0's values: the others add zeros to the sum."""
    copies = []
    for variable in variables:
      value = variable.read_value()
      sent = tf1.zeros_like(value) if self.index else value
      copies.append(variable.assign(self._reduced(sent, "Add")).op)
    self._together(session.run, copies)

  def _reduced(self, tensor, how):
    """Adds to the graph the sum ("Add") or maximum ("Max") over the workers."""
    # All of a group are on one kind of device. Whole numbers stay on the CPU.
    is_whole = tensor.dtype.is_integer
    with tf1.device("/device:CPU:0" if is_whole else None):
      return self._collective(tensor, how, 2 if is_whole else 1)

  def _collective(self, tensor, how, group):
    return tf1.raw_ops.CollectiveReduce(
      input=tensor,
      group_size=self.size,
      group_key=group,
      instance_key=next(self._numbers),
      merge_op=how,
      final_op="Id",
      subdiv_offsets=[0],
    )

  def _together(self, run, fetches, feed=None):
    """Calls `run`, a Session's method, for fetches that need the others.

    It runs in a thread, since TensorFlow does not always notice a lost worker,
    and since Python handles no signal while it waits for TensorFlow.
    """
    # The operations' own timeout_seconds would each keep a thread asleep.
    seconds = _SILENCE if self._have_met else _HELLO
    options = tf1.RunOptions(timeout_in_ms=1000 * seconds)
    result = concurrent.futures.Future()
    self._peers.start_watching()
    try:
      _start_thread(result, run, fetches, feed, options)
      while not concurrent.futures.wait([result], _BETWEEN_LOOKS).done:
        lost = self._peers.lost()
        # If that worker ended in order, what it sent is still on its way.
        if lost and not concurrent.futures.wait([result], _BETWEEN_LOOKS).done:
          raise WorkersError(f"{lost} {_AFTER_LOSS}")
    except (KeyboardInterrupt, SystemExit):
      # Cancels the run: Python crashes if the thread returns while it exits.
      closed = concurrent.futures.Future()
      _start_thread(closed, run.__self__.close)
      concurrent.futures.wait([closed, result], _BETWEEN_LOOKS)
      raise
    try:
      return result.result()
    except tf1.errors.OpError as error:
      if is_out_of_memory(error):
        raise
      if not self._have_met:
        raise WorkersError(
          "The workers cannot connect to each other. Do all of them run, with "
          "the same list in TF_CONFIG and an index of their own?"
        ) from None
      raise WorkersError(f"{self._what_failed(error)} {_AFTER_LOSS}") from None

  def _what_failed(self, error):
    """Returns a sentence about an error of a common session.run."""
    if isinstance(error, tf1.errors.DeadlineExceededError):
      silent = f"A worker did not answer for {_SILENCE} seconds."
      return self._peers.lost() or silent
    for _ in range(20):  # The lost one may be about to end.
      if lost := self._peers.lost():
        return lost
      time.sleep(0.5)
    # "Collective ops is aborted by: REASON", among much else.
    reasons = re.findall("aborted by: (.*)", error.message)
    reason = (reasons or [reason_of(error)])[-1].rstrip(".")
    return f"A worker failed, or the connection to it did ({reason})."


_AFTER_LOSS = (
  "Its own messages say why. Start all workers again: a run with --save_path "
  "resumes from its last checkpoint."
)


class _SharedFolder(run_folder.NoRunFolder):
  """A run's folder, used by all workers; only worker 0's is a RunFolder."""

  def __init__(self, folder, workers):
    self._folder, self._workers = folder, workers
    self.result = workers.of_all(folder.result)[0]
    self.is_due = workers.any_of(folder.is_due)
    self.summarize, self.finish = folder.summarize, folder.finish

  def restore(self, session, state_shape):
    progress = self._folder.restore(session, state_shape)
    self._workers.broadcast(session, tf1.global_variables())
    progress = type(progress)(**self._workers.of_all(vars(progress))[0])
    if progress.state is not None:
      progress.state = np.array(progress.state)[:, :, self._workers.rows]
    return progress

  def save(self, session, step, progress):
    if progress.state is not None:
      state = self._workers.all_rows(np.asarray(progress.state))
      progress = dataclasses.replace(progress, state=state)
    self._folder.save(session, step, progress)


class _AnyOf:
  """True once any worker's wish was in a step of all."""

  signum = 0  # What one of the workers passes, 0 if none has the wish.

  def __init__(self, wish):
    self._wish = wish

  def __bool__(self):
    return bool(self.signum)

  def own(self):
    """Returns this worker's wish as a number: the signal's, or 0 or 1."""
    return getattr(self._wish, "signum", None) or int(bool(self._wish))


def _start_thread(result, function, *args):
  """Calls a function in a daemon thread, for the Future `result`."""

  def call():
    try:
      result.set_result(function(*args))
    except BaseException as error:
      result.set_exception(error)

  threading.Thread(target=call, daemon=True).start()


def _sha256_of_code():
  """Returns the checksum of each of this project's modules, by its path."""
  root = pathlib.Path(__file__).parents[2]
  paths = sorted([*root.glob("*.py"), *root.glob("lm/*/*.py")])
  return {
    str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
    for path in paths
    if "_test." not in path.name
  }


def find_workers(addresses, index, batch_size, **options):
  """Returns Workers with these arguments, or OneWorker if there is only one."""
  if len(addresses) < 2:
    return ALONE
  return Workers(addresses, index, batch_size, **options)
