"""Several processes that train one model together, each with some of the rows.

All run the same command. TF_CONFIG in the environment of each lists them, and
says which one it is, as TensorFlow's users know it:

  {"cluster": {"worker": ["host0:2222", "host1:2222"]},
   "task": {"type": "worker", "index": 0}}

Each worker reads the whole batch and computes a part of its rows. Then
TensorFlow's collective operations add up what the workers have: the gradients,
and the losses and the state, of which each has zeros for the others' rows. So
all have the same sums, make the same step, and stay alike: the training is that
of one process with the whole batch. The first worker prints and writes.

TensorFlow asks nobody for a password: who reaches the port of a worker can make
it do anything. Let only machines that you trust reach it.
"""

import concurrent.futures
import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import pathlib
import re
import socket
import threading
import time

import numpy as np

from lm import run_folder, tf1
from lm.command import InputError, tell

# Seconds until a worker that is there, but does not answer, is given up.
_SILENCE = 600
_HELLO = 60  # The same for the first words.
_BETWEEN_LOOKS = 5  # Seconds of waiting until it is seen whether all are there.
# The same until one is given up that cannot be reached, as in a network that
# is broken for a moment. That one has ended is known at once.
_UNREACHABLE = 60


class WorkersError(InputError, RuntimeError):
  """The workers cannot be found, are not alike, or one was lost."""


class OneWorker(contextlib.AbstractContextManager):
  """A process that trains alone. Each method does nothing, or what one does.

  Attributes:
    index: which worker this is; the first is 0.
    size: how many there are.
  """

  index, size = 0, 1

  def __exit__(self, *exception):
    """Does nothing."""

  def check_alike(self, about):
    """Raises WorkersError if the workers were not started alike.

    Args:
      about: a dictionary that JSON can hold: what must be the same.
    """

  def of_first(self, value):
    """Returns what the first worker has, something that JSON can hold."""
    return value

  def output(self):
    """Returns a context in which only the first worker prints."""
    return contextlib.nullcontext()

  def device(self):
    """Returns a context in which a graph is built."""
    return contextlib.nullcontext()

  def session(self):
    """Returns a context with a Session for the default graph."""
    return tf1.Session()

  def stop_of_any(self, stop):
    """Returns what is true once any worker's `stop` is; see StopRequest."""
    return stop

  def run(self, session, fetches, feed):
    """Does session.run, for fetches that all workers must compute together."""
    return session.run(fetches, feed)

  def copy_first(self, session, progress):
    """Gives all workers the first one's variables, and its Progress.

    Args:
      session: a Session with the graph's variables, initialized.
      progress: a checkpoints.Progress.

    Returns:
      That of the first.
    """
    return progress

  def rows_of(self, tensors, axis):
    """Returns this worker's rows of a tensor, or of each in a structure."""
    del axis
    return tensors

  def all_rows(self, tensors, axis):
    """Undoes rows_of: each tensor gets zeros for the rows of the others."""
    del axis
    return tensors

  def total(self, tensors):
    """Returns the sums of the workers' tensors; all are of one shape."""
    return tensors

  def total_gradient(self, gradient):
    """Returns the sum of the workers' gradients of one variable."""
    return gradient


class Workers(OneWorker):
  """One of several workers; see OneWorker.

  Open it in a `with`, which all workers must leave for one to leave it without
  an error. Every method that talks with the others must be called by all, in
  the same order, and raises WorkersError if one of them is lost.
  """

  def __init__(self, addresses, index, batch_size, *, wait=300, fp16=False):
    """Starts this worker's server, and waits for those of the others.

    Args:
      addresses: of all workers, "host:port" each.
      index: which one this is.
      batch_size: B, the rows to deal out.
      wait: for how many seconds.
      fp16: whether to exchange gradients in bfloat16.

    Raises:
      WorkersError: if the port is in use, there are more workers than rows, or
        one was not there in time.
    """
    self.index, self.size = index, len(addresses)
    if batch_size < self.size:
      raise WorkersError(
        f"{self.size} workers are too many for batch_size={batch_size}: each "
        "needs a row. Start fewer, or make batch_size larger."
      )
    ends = [batch_size * n // self.size for n in range(self.size + 1)]
    self._begin, self._end = ends[index : index + 2]
    self._batch_size = batch_size
    self._addresses = addresses
    self._fp16 = fp16
    self._exchanges = 0  # How many were added to graphs, for their numbers.
    self._have_met = False
    self._stop = _StopOfAny(False)
    self._config = tf1.ConfigProto(
      allow_soft_placement=True,
      device_filters=[f"/job:worker/task:{index}"],
    )
    self._config.experimental.collective_group_leader = (
      "/job:worker/replica:0/task:0"
    )
    # A proxy for the Web, which the environment may name, is not for them.
    hosts = {address.rpartition(":")[0] for address in addresses}
    os.environ["no_grpc_proxy"] = ",".join(sorted(hosts))  # noqa: SIM112
    try:
      self._server = tf1.train.Server(
        {"worker": addresses}, "worker", index, config=self._config
      )
    except tf1.errors.OpError as error:
      port = addresses[index].rpartition(":")[2]
      reason = _why_not_free(int(port)) or tf1.reason_of(error)
      raise WorkersError(
        f"Worker {index} cannot take port {port}: {reason}. End what uses it, "
        "or put another port into each worker's TF_CONFIG."
      ) from None
    self._wait_for_all(wait)
    with tf1.Graph().as_default(), self.device():
      self._sent = tf1.placeholder(tf1.int32, [None])
      self._received = self._reduced(self._sent, "Add")
      self._talk = self._session()

  def __exit__(self, kind, error, traceback):
    """Waits until all workers have come to the same end."""
    if kind is None:
      with contextlib.suppress(WorkersError):  # One that left before: all did.
        self._all(None)
    self._talk.close()

  def check_alike(self, about):
    """Compares what each has with what the first has."""
    about = {
      **about,
      "exchange_fp16": self._fp16,
      "TensorFlow": tf1.version.VERSION,
      "the code's SHA-256": _sha256_of_code(),
    }
    first, *others = self._all(about)
    self._have_met = True
    for index, other in enumerate(others, 1):
      where = ("on worker 0", f"on worker {index}")
      unlike = run_folder.differences(first, other, where)
      if unlike:
        raise WorkersError(
          f"Worker {index} was not started like worker 0: {'; '.join(unlike)}. "
          "Give all of them the same flags, data and code."
        )

  def of_first(self, value):
    """Returns what the first worker has."""
    return self._all(None if self.index else value)[0]

  @contextlib.contextmanager
  def output(self):
    """Returns a context in which stdout goes nowhere, unless for the first."""
    with contextlib.ExitStack() as stack:
      if self.index:
        nowhere = stack.enter_context(open(os.devnull, "w"))
        stack.enter_context(contextlib.redirect_stdout(nowhere))
      yield

  def device(self):
    """Returns a context in which a graph is built for this worker."""
    return tf1.device(f"/job:worker/task:{self.index}")

  @contextlib.contextmanager
  def session(self):
    """Returns a context with one of the server, for the graph, now complete."""
    # That one wants to stop is told along with each step, so that all stop
    # after the same one.
    self._signum = tf1.placeholder(tf1.int32, [])
    self._largest_signum = self._reduced(self._signum, "Max")
    session = self._session()
    with session.graph.as_default(), session.as_default():
      yield session
    session.close()  # Not after an error: it would wait for who was lost.

  def _session(self):
    return tf1.Session(self._server.target, config=self._config)

  def stop_of_any(self, stop):
    """Returns what is true once any worker's `stop` is, for all alike."""
    self._stop = _StopOfAny(stop)
    return self._stop

  def run(self, session, fetches, feed):
    """Does session.run, and asks in it whether any worker wants to stop."""
    feed = {**feed, self._signum: self._stop.own_signum()}
    values, signum = self._together(
      session, [fetches, self._largest_signum], feed
    )
    self._stop.signum = int(signum)
    return values

  def copy_first(self, session, progress):
    """Adds to the first one's variables the zeros that the others give."""
    copies = []
    for variable in tf1.global_variables():
      value = variable.read_value()
      if self.index:
        value = tf1.zeros_like(value)
      copies.append(variable.assign(self.total(value)).op)
    self._together(session, copies)
    fields = dataclasses.asdict(progress)
    if progress.state is not None:
      fields["state"] = np.asarray(progress.state).tolist()
    return type(progress)(**self.of_first(fields))

  def rows_of(self, tensors, axis):
    """Returns this worker's rows."""
    rows = (*[slice(None)] * axis, slice(self._begin, self._end))
    return tf1.nest.map_structure(lambda tensor: tensor[rows], tensors)

  def all_rows(self, tensors, axis):
    """Returns tensors with zeros for the others' rows."""

    def padded(tensor):
      others = [[0, 0] for _ in tensor.shape]
      others[axis] = [self._begin, self._batch_size - self._end]
      return tf1.pad(tensor, others)

    return tf1.nest.map_structure(padded, tensors)

  def total(self, tensors):
    """Returns the sums, exchanged as one tensor: fewer messages."""
    stacked = tf1.stack(tf1.nest.flatten(tensors))
    totals = tf1.unstack(self._reduced(stacked, "Add"))
    return tf1.nest.pack_sequence_as(tensors, totals)

  def total_gradient(self, gradient):
    """Returns the sum; of a sparse one, that of its rows.

    A row is of a word of the batch, in the same order on all workers.
    """
    if isinstance(gradient, tf1.IndexedSlices):
      return tf1.IndexedSlices(
        self.total_gradient(gradient.values),
        gradient.indices,
        gradient.dense_shape,
      )
    if not self._fp16:
      return self.total(gradient)
    total = self.total(tf1.cast(gradient, tf1.bfloat16))
    return tf1.cast(total, gradient.dtype)

  def _reduced(self, tensor, how):
    """Adds to the graph what adds up ("Add") or compares ("Max")."""
    self._exchanges += 1
    return tf1.raw_ops.CollectiveReduce(
      input=tensor,
      group_size=self.size,
      group_key=1,
      instance_key=self._exchanges,
      merge_op=how,
      final_op="Id",
      subdiv_offsets=[0],
    )

  def _all(self, value):
    """Returns a list of what each worker gives, something JSON can hold."""
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = np.zeros(self.size, np.int32)
    sizes[self.index] = len(text)
    sizes = self._together(self._talk, self._received, {self._sent: sizes})
    ends = np.cumsum(sizes)
    begins = ends - sizes
    texts = np.zeros(ends[-1], np.int32)
    texts[begins[self.index] : ends[self.index]] = text
    texts = self._together(self._talk, self._received, {self._sent: texts})
    texts = texts.astype(np.uint8).tobytes()
    return [json.loads(texts[b:e]) for b, e in zip(begins, ends, strict=True)]

  def _others(self):
    """Returns (index, address) of the others.

    Not of this one: it need not reach its own, as behind another name.
    """
    numbered = list(enumerate(self._addresses))
    return numbered[: self.index] + numbered[self.index + 1 :]

  def _wait_for_all(self, seconds):
    """Returns when the port of each other worker is open."""
    give_up = time.monotonic() + seconds
    for index, address in self._others():
      told = False
      while (reason := _why_closed(address)) is not None:
        if time.monotonic() > give_up:
          raise WorkersError(
            f"Worker {index} at {address} was not there within {seconds:g} "
            f"seconds: {reason.strerror or reason}. Start all workers, "
            "with the same list in TF_CONFIG."
          )
        if not told:
          tell(
            f"Worker {self.index} waits for worker {index} at {address}, for "
            f"{seconds:g} seconds at most."
          )
          told = True
        time.sleep(0.2)

  def _together(self, session, fetches, feed=None):
    """Does a session.run that needs the others; raises WorkersError.

    It is done in a thread: TensorFlow does not always notice that another
    worker was lost, and no signal is heeded while it waits.
    """
    # Not the operations' own timeout_seconds: each would cost a sleeping
    # thread for that time.
    seconds = _SILENCE if self._have_met else _HELLO
    options = tf1.RunOptions(timeout_in_ms=1000 * seconds)
    result = concurrent.futures.Future()
    self._seen = dict.fromkeys(range(self.size), time.monotonic())
    try:
      _do_in_thread(result, session.run, fetches, feed, options)
      while not concurrent.futures.wait([result], _BETWEEN_LOOKS).done:
        lost = self._lost()
        if lost is not None:
          # If it ended in order, what it gave has been sent, and comes now.
          concurrent.futures.wait([result], _BETWEEN_LOOKS)
          if not result.done():
            raise WorkersError(lost)
    except (KeyboardInterrupt, SystemExit):
      # Ends the run. Python fails if a thread comes back to it at its end.
      closed = concurrent.futures.Future()
      _do_in_thread(closed, session.close)
      concurrent.futures.wait([closed, result], _BETWEEN_LOOKS)
      raise
    try:
      return result.result()
    except tf1.errors.ResourceExhaustedError:
      raise
    except tf1.errors.OpError as error:
      raise WorkersError(self._what_failed(error)) from None

  def _lost(self):
    """Returns a sentence about a worker that was lost, None if all are up."""
    now = time.monotonic()
    for index, address in self._others():
      error = _why_closed(address)
      if error is None:
        self._seen[index] = now
      elif (
        isinstance(error, ConnectionError)  # It has ended.
        or now - self._seen[index] > _UNREACHABLE
      ):
        return f"Worker {index} at {address} was lost. {_AFTER_LOSS}"
    return None

  def _what_failed(self, error):
    """Returns a sentence about an error in what all workers do together."""
    if not self._have_met:
      return (
        "The workers do not come together. Has each another index, and all the "
        "same list, in TF_CONFIG? Do all of them run?"
      )
    is_late = isinstance(error, tf1.errors.DeadlineExceededError)
    for _ in range(1 if is_late else 20):  # It may be about to end.
      lost = self._lost()
      if lost is not None:
        return lost
      time.sleep(0.5)
    # "Collective ops is aborted by: WHY", amid much else.
    *_, why = re.findall("aborted by: (.*)", error.message) or [""]
    why = (why or tf1.reason_of(error)).rstrip(".")
    what = f"failed, or the way to it ({why})"
    if is_late:
      what = f"did not answer for {_SILENCE} seconds"
    return f"A worker {what}. {_AFTER_LOSS}"


_AFTER_LOSS = (
  "Its own messages say why. When all are started again, a run with "
  "--save_path goes on from its last checkpoint."
)


class _StopOfAny:
  """True once any worker wants to stop, after the same step for all.

  Attributes:
    signum: the number of the signal that one of them got, or 0.
  """

  def __init__(self, own):
    self._own = own
    self.signum = 0

  def __bool__(self):
    return bool(self.signum)

  def own_signum(self):
    """Returns the number of the signal that this worker got, or 0."""
    return getattr(self._own, "signum", None) or int(bool(self._own))


def workers_in(text):
  """Reads what TF_CONFIG says.

  Args:
    text: its value; None or "" if it is not set.

  Returns:
    (addresses, index): those of all workers, and which one this is. Without
    workers, ([], 0).

  Raises:
    WorkersError: if it is not as TensorFlow has it, or has other tasks than
      workers.
  """
  try:
    config = json.loads(text or "{}")
  except (ValueError, RecursionError) as error:
    raise WorkersError(f"TF_CONFIG is not JSON: {error}. {_EXAMPLE}") from None
  try:
    cluster, task = config.get("cluster", {}), config.get("task", {})
    others = cluster.keys() - {"worker"} | {task.get("type", "worker")}
    others -= {"worker"}
    addresses, index = cluster.get("worker", []), task.get("index")
    are_texts = all(map(_is_address, addresses))
  except (AttributeError, TypeError):
    raise WorkersError(f"TF_CONFIG is not as expected. {_EXAMPLE}") from None
  if not config:
    return [], 0
  if others:
    raise WorkersError(
      f"TF_CONFIG has a task '{min(others, key=str)}': all tasks here are "
      f"workers. {_EXAMPLE}"
    )
  if not isinstance(addresses, list) or not addresses or not are_texts:
    raise WorkersError(
      "TF_CONFIG must list workers as host:port, with a host's name or IPv4 "
      f"address, not {addresses}. {_EXAMPLE}"
    )
  if len(set(addresses)) < len(addresses):
    raise WorkersError("TF_CONFIG lists one worker twice.")
  if type(index) is not int or not 0 <= index < len(addresses):
    raise WorkersError(
      f"TF_CONFIG says that this is worker {index!r}, of {len(addresses)}: the "
      f"task's index must be a whole number from 0 to {len(addresses) - 1}."
    )
  return addresses, index


_EXAMPLE = (
  'It looks like {"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": '
  '{"type": "worker", "index": 0}}.'
)


def _is_address(text):
  """Says whether a text is host:port, of a host and port that there can be."""
  label = "[A-Za-z0-9_-]{1,63}"
  match = re.fullmatch(rf"({label}(?:\.{label})*):([1-9][0-9]{{,4}})", text)
  return match is not None and len(match[1]) < 254 and int(match[2]) < 2**16


def _why_closed(address):
  """Returns an OSError if nobody listens at an address, None if somebody does.

  It is a ConnectionError if the address was reached.
  """
  host, _, port = address.rpartition(":")
  try:
    with socket.create_connection((host, int(port)), timeout=2) as sock:
      if sock.getsockname() == sock.getpeername():  # By chance its own port.
        return ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
  except OSError as error:
    return error
  return None


def _do_in_thread(result, function, *args):
  """Calls a function in a thread, for which the process's end does not wait.

  Args:
    result: the Future to be given what the function returns or raises.
    function: what to call.
    *args: its arguments.
  """

  def run():
    try:
      result.set_result(function(*args))
    except BaseException as error:
      result.set_exception(error)

  threading.Thread(target=run, daemon=True).start()


def _sha256_of_code():
  """Returns a checksum of this project's modules, as they are on the disk."""
  folder = pathlib.Path(__file__).parent
  names = sorted(path.name for path in folder.glob("*.py"))
  total = hashlib.sha256()
  for name in names:
    if not name.endswith("_test.py"):
      total.update(f"{name} {(folder / name).read_text()}".encode())
  return total.hexdigest()


def _why_not_free(port):
  """Returns why a port cannot be listened on, None if it can."""
  with socket.socket() as sock:
    try:
      sock.bind(("", port))
    except OSError as error:
      return error.strerror
  return None


def find_workers(addresses, index, batch_size, **options):
  """Returns Workers with these arguments, or OneWorker if there is one."""
  if len(addresses) < 2:
    return OneWorker()
  return Workers(addresses, index, batch_size, **options)
