"""Several processes that train one model together, each on some of the rows.

All run the same command. The environment variable TF_CONFIG lists them. Each
worker reads its own rows of every batch, takes the dropout masks of these rows
from the masks of the full batch, and keeps the LSTM's state of these rows. All
start from worker 0's weights. In a step, TensorFlow's collective operations add
up the gradients and the cost of all workers. So each worker makes the same
update, and all keep the same weights, as one process with the full batch would.
They also agree on when to stop and to save. The states of all rows are gathered
only for a checkpoint. Worker 0 prints and writes.

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
import threading
import time

import numpy as np

from lm.base import device, tf1
from lm.base.command import is_out_of_memory, reason_of
from lm.run import checkpoints, run_folder
from lm.run.run import Run, describe_differences
from lm.workers.other_workers import OtherWorkers, try_to_listen
from lm.workers.tf_config import WorkersError

# Seconds after which a worker that can be reached, but does not answer, counts
# as lost: in its first exchange with the others, and later.
_FIRST_TIMEOUT, _TIMEOUT = 60, 600
_CHECK_INTERVAL = 5  # Seconds between two checks whether a worker is lost.


class OneWorker(contextlib.AbstractContextManager):
  """The single-process case: each method is a no-op or plain TensorFlow."""

  index, size = 0, 1  # The number of this worker, from 0; and of all workers.
  rows = slice(None)  # The rows of the batch that are this worker's.

  def __exit__(self, *exception):
    pass

  def check_alike(self, settings):
    """Raises WorkersError unless all workers pass the same dictionary."""

  def gather(self, value):
    """Returns a list of the values that the workers pass, JSON or arrays.

    With several workers, an array arrives as nested lists.
    """
    return [value]

  def gather_rows(self, state):
    """Returns the state of all rows, [L, 2, B, H], given this worker's."""
    return state

  def agree_on(self, request):
    """Returns an object that is true for all once `request` is true for one.

    The workers compare their requests in each step, so all of them know after
    the same step. A request is an object with a truth value, and may have the
    number of a signal, `signum`.
    """
    return request

  def open_folder(self, path, checkpoint_minutes=10.0):
    """Returns a RunFolder for all workers, of which only worker 0 writes.

    Without a path, it is a NoRunFolder. The arguments are those of RunFolder.
    """
    if path is None:
      return run_folder.NoRunFolder()
    return run_folder.RunFolder(path, checkpoint_minutes)

  def output(self):
    """Returns a context in which only worker 0 prints to stdout."""
    return contextlib.nullcontext()

  def device(self):
    """Returns a context for building a graph on this worker's device."""
    return contextlib.nullcontext()

  def session(self):
    """Returns a context with a Session for the default graph."""
    return device.session()

  def run(self, session, fetches, feed):
    """Returns session.run(fetches, feed), for a step that all workers make."""
    return session.run(fetches, feed)

  def broadcast(self, session, variables):
    """Gives the variables of all workers the values of worker 0."""

  def sum(self, tensor):
    """Returns the sum of the workers' tensors, which have the same shape."""
    return tensor

  def sum_of_gradients(self, gradients, words):
    """Returns the sums of the workers' gradients, a list like `gradients`.

    The first `words` rows of a sparse gradient belong to this worker's words of
    the batch. The others belong to sampled words, the same for all workers.
    """
    return gradients


ALONE = OneWorker()


class Workers(OneWorker):
  """One of several workers; see OneWorker.

  Use it as a context manager; its exit waits for the exit of all other workers.
  All workers must make the same calls in the same order. Every call that
  exchanges data raises WorkersError if one of them is lost.
  """

  def __init__(self, addresses, index, batch_size, *, wait=300, fp16=False):
    """Starts this worker's server and connects it to the others.

    Args:
      addresses: "host:port" of each worker.
      index: the number of this one.
      batch_size: B, the rows to share out.
      wait: seconds to wait for the others.
      fp16: whether to exchange gradients in bfloat16.

    Raises:
      WorkersError: if there are more workers than rows, if the port is in use,
        or if another worker does not come or has another list of addresses.
    """
    self.index, self.size = index, len(addresses)
    if batch_size < self.size:
      raise WorkersError(
        f"{self.size} workers are too many for batch_size={batch_size}: each "
        "needs a row of the batch. Start fewer workers, or make batch_size "
        "larger."
      )
    ends = [batch_size * n // self.size for n in range(self.size + 1)]
    self.rows = slice(*ends[index : index + 2])
    self._batch_size, self._fp16 = batch_size, fp16
    self._others = OtherWorkers(addresses, index)
    self._numbers = itertools.count(1)  # Each exchange, in any graph, has one.
    self._requests = []
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
      port = int(addresses[index].rpartition(":")[2])
      refused = try_to_listen(port)
      reason = refused.strerror if refused else reason_of(error).rstrip(".")
      raise WorkersError(
        f"Worker {index} cannot use port {port}: {reason}. Stop the program "
        "that uses it, or choose another port in each worker's TF_CONFIG."
      ) from None
    self._others.wait_for_all(wait)
    with tf1.Graph().as_default(), self.device():
      self._values = tf1.placeholder(tf1.int32, [None])
      self._sum = self._reduce(self._values, "Add")
      self._session = tf1.Session(self._server.target, config=self._config)
    feed = {self._values: [index]}
    try:
      self._run_in_thread(self._session, self._sum, feed, _FIRST_TIMEOUT)
    except (WorkersError, tf1.errors.OpError):
      raise WorkersError(
        "The workers cannot connect to each other. Start all of them, with the "
        "same list in TF_CONFIG and an index of their own."
      ) from None

  def __exit__(self, kind, error, traceback):
    if kind is None:
      # A worker that has left already is not lost: all work is done.
      with contextlib.suppress(WorkersError):
        self.gather(None)
      self._session.close()  # Not after an error, as in `session`.

  def check_alike(self, settings):
    settings = {**settings, "TensorFlow": tf1.version.VERSION}
    settings["code"] = _sha256_of_code()
    first, *others = self.gather(settings)
    for index, other in enumerate(others, 1):
      places = ("on worker 0", f"on worker {index}")
      if differences := describe_differences(first, other, places):
        raise WorkersError(
          f"Worker {index} was not started like worker 0: "
          f"{'; '.join(differences.values())}. Give all workers the same "
          "flags, data and code."
        )

  def gather(self, value):
    text = list(json.dumps(value, default=np.ndarray.tolist).encode())
    lengths = np.zeros(self.size, int)
    lengths[self.index] = len(text)
    ends = np.cumsum(self._add_up(lengths))
    end = ends[self.index]
    # Each worker puts its text in its place, and zeros in all other places.
    texts = np.zeros(ends[-1], int)
    texts[end - len(text) : end] = text
    texts = np.split(self._add_up(texts), ends[:-1])
    return [json.loads(bytes(text.astype(np.uint8))) for text in texts]

  def _add_up(self, values):
    """Returns the sum of the workers' arrays of whole numbers, [any size]."""
    feed = {self._values: values}
    return self._run_together(self._session, self._sum, feed)

  def gather_rows(self, state):
    return np.concatenate(self.gather(state), axis=2)

  def agree_on(self, request):
    self._requests.append(_CommonRequest(request))
    return self._requests[-1]

  def open_folder(self, path, checkpoint_minutes=10.0):
    path = path if self.index == 0 else None
    return _SharedFolder(super().open_folder(path, checkpoint_minutes), self)

  @contextlib.contextmanager
  def output(self):
    if self.index == 0:
      yield
    else:
      with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
        yield

  def device(self):
    return tf1.device(f"/job:worker/task:{self.index}")

  @contextlib.contextmanager
  def session(self):
    # One number for each request, see agree_on.
    self._signums = tf1.placeholder(tf1.int32, [None])
    self._common_signums = self._reduce(self._signums, "Max")
    session = tf1.Session(self._server.target, config=self._config)
    with session.graph.as_default(), session.as_default():
      yield session
    session.close()  # Not after an error: it would wait for the lost worker.

  def run(self, session, fetches, feed):
    signums = [request.local_signum() for request in self._requests]
    values, common_signums = self._run_together(
      session,
      [fetches, self._common_signums],
      {**feed, self._signums: signums},
    )
    for request, signum in zip(self._requests, common_signums, strict=True):
      request.signum = int(signum)
    return values

  def sum(self, tensor):
    return self._reduce(tensor, "Add")

  def sum_of_gradients(self, gradients, words):
    return [self._sum_of_gradients(gradient, words) for gradient in gradients]

  def _sum_of_gradients(self, gradient, words):
    """Returns the sum of the workers' gradients of one variable."""
    if isinstance(gradient, tf1.IndexedSlices):
      # The first rows, [T * rows, H], are of this worker's words of the batch.
      # They get their places among the rows of all workers, [T * B, H].
      values, indices = gradient.values[:words], gradient.indices[:words]
      values, indices = self._pad_words(values), self._pad_words(indices)
      # The others are of sampled words. All workers have drawn the same words,
      # so worker 0 alone sends their ids.
      samples = gradient.indices[words:]
      samples = tf1.zeros_like(samples) if self.index else samples
      values = tf1.concat([values, gradient.values[words:]], axis=0)
      return tf1.IndexedSlices(
        self._sum_of_gradients(values, words),
        self._reduce(tf1.concat([indices, samples], axis=0), "Add"),
        gradient.dense_shape,
      )
    sent = tf1.cast(gradient, tf1.bfloat16) if self._fp16 else gradient
    return tf1.cast(self._reduce(sent, "Add"), gradient.dtype)

  def _pad_words(self, words):
    """Returns [T * rows, ...] as [T * B, ...], with zeros in others' rows."""
    begin, end = self.rows.start, self.rows.stop
    shape = words.shape.as_list()[1:]
    words = tf1.reshape(words, [-1, end - begin, *shape])  # [T, rows, ...]
    padding = [[begin, self._batch_size - end], *[[0, 0] for _ in shape]]
    return tf1.reshape(tf1.pad(words, [[0, 0], *padding]), [-1, *shape])

  def broadcast(self, session, variables):
    copies = []  # Of the sums, to which the other workers add zeros.
    for variable in variables:
      value = variable.read_value()
      sent = tf1.zeros_like(value) if self.index else value
      copies.append(variable.assign(self._reduce(sent, "Add")).op)
    self._run_together(session, copies)

  def _reduce(self, tensor, operation):
    """Adds to the graph the sum ("Add") or maximum ("Max") over the workers."""
    # All of a group are on one kind of device. Whole numbers stay on the CPU.
    is_whole = tensor.dtype.is_integer
    with tf1.device("/device:CPU:0" if is_whole else None):
      return tf1.raw_ops.CollectiveReduce(
        input=tensor,
        group_size=self.size,
        group_key=2 if is_whole else 1,
        instance_key=next(self._numbers),
        merge_op=operation,
        final_op="Id",
        subdiv_offsets=[0],
      )

  def _run_together(self, session, fetches, feed=None):
    """Returns session.run(fetches, feed), for fetches that need all workers."""
    try:
      return self._run_in_thread(session, fetches, feed, _TIMEOUT)
    except tf1.errors.OpError as error:
      if is_out_of_memory(error):
        raise
      raise WorkersError(f"{self._explain(error)} {_AFTER_LOSS}") from None

  def _run_in_thread(self, session, fetches, feed, timeout):
    """Returns session.run(fetches, feed); watches the other workers meanwhile.

    It needs a thread: TensorFlow does not always notice a lost worker, and
    Python handles no signal while it waits for TensorFlow.
    """
    # The operations' own timeout_seconds would each keep a thread asleep.
    options = tf1.RunOptions(timeout_in_ms=1000 * timeout)
    self._others.start_watching()
    result = _start_thread(session.run, fetches, feed, options)
    try:
      while not _is_done(result):
        lost = self._others.find_lost()
        # What a worker sent before it ended may still be on its way.
        if lost and not _is_done(result):
          raise WorkersError(f"{lost} {_AFTER_LOSS}")
    except (KeyboardInterrupt, SystemExit):
      # Cancels the run: Python crashes if the thread returns while it exits.
      closed = _start_thread(session.close)
      concurrent.futures.wait([closed, result], _CHECK_INTERVAL)
      raise
    return result.result()

  def _explain(self, error):
    """Returns a sentence about why a common session.run failed."""
    if isinstance(error, tf1.errors.DeadlineExceededError):
      silent = f"A worker did not answer for {_TIMEOUT} seconds."
      return self._others.find_lost() or silent
    for _ in range(20):  # The lost worker may be about to end.
      if lost := self._others.find_lost():
        return lost
      time.sleep(0.5)
    # The message has much else before "Collective ops is aborted by: REASON".
    reason = error.message.rpartition("aborted by: ")[2].partition("\n")[0]
    reason = reason.rstrip(".")
    return f"A worker, or the connection to it, failed ({reason})."


_AFTER_LOSS = (
  "Its own messages give the reason. Start all workers again: a run with "
  "--save_path resumes from its last checkpoint."
)


class _SharedFolder(contextlib.AbstractContextManager):
  """A run's folder, used by all workers; only worker 0's is a RunFolder."""

  def __init__(self, folder, workers):
    self._folder, self._workers = folder, workers
    begun = workers.gather(folder.begun and folder.begun.to_json())[0]
    self.begun = begun and Run.from_json(begun)
    self.result = None
    self.is_due = workers.agree_on(folder.is_due)
    self.summarize, self.finish = folder.summarize, folder.finish

  def __exit__(self, *exception):
    self._folder.__exit__(*exception)

  def claim(self, run, vocabulary):
    self._folder.claim(run, vocabulary)
    self.result = self._workers.gather(self._folder.result)[0]

  def restore(self, session, state_shape):
    progress = self._folder.restore(session, state_shape)
    fields = self._workers.gather(vars(progress))[0]
    progress = checkpoints.Progress(**fields)
    if progress.state is not None:
      progress.state = np.array(progress.state)[:, :, self._workers.rows]
    return progress

  def save(self, session, step, progress):
    if progress.state is not None:
      state = self._workers.gather_rows(np.asarray(progress.state))
      progress = dataclasses.replace(progress, state=state)
    self._folder.save(session, step, progress)


class _CommonRequest:
  """A request of this worker that is true once any worker has made it.

  Attributes:
    signum: the number that one of the workers passed; 0 before.
  """

  signum = 0

  def __init__(self, request):
    self._request = request

  def __bool__(self):
    return bool(self.signum)

  def local_signum(self):
    """Returns this worker's request as a number: its signum, or 0 or 1."""
    return getattr(self._request, "signum", None) or int(bool(self._request))


def _start_thread(function, *args):
  """Calls a function in a daemon thread; returns a Future of its result."""
  future = concurrent.futures.Future()

  def call():
    try:
      future.set_result(function(*args))
    except BaseException as error:
      future.set_exception(error)

  threading.Thread(target=call, daemon=True).start()
  return future


def _is_done(future):
  """Returns whether a Future is done, at once or within the interval."""
  return bool(concurrent.futures.wait([future], _CHECK_INTERVAL).done)


def _sha256_of_code():
  """Returns the checksum of each of this project's modules, by its path."""
  root = pathlib.Path(__file__).parents[2]
  paths = sorted([*root.glob("*.py"), *root.glob("lm/*/*.py")])
  return {
    str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
    for path in paths
    if "_test." not in path.name and path.parent.name != "testdata"
  }


def find_workers(addresses, index, batch_size, **options):
  """Returns Workers with these arguments, or OneWorker if there is only one."""
  if len(addresses) < 2:
    return ALONE
  return Workers(addresses, index, batch_size, **options)
