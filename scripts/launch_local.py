"""Trains with several workers on this machine.

  .venv/bin/python scripts/launch_local.py -n 2 --data_path=simple-examples/data

starts ptb_word_lm.py twice; all flags but the ones below go to it. Worker 0
prints as usual; the errors and warnings of the others start with "worker 1: "
and so on. Signals are passed on to all workers, and when one worker fails, all
are ended.

Anyone who can connect to a worker's port can run code as you. So the workers
get a network of their own, with nothing but their connections to each other;
this needs Linux. With --open_ports they listen on all addresses of the machine.
"""

import contextlib
import ctypes
import fcntl
import json
import math
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

from absl import flags

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lm import command

SECONDS_TO_END = 45  # For the other workers, after one has failed.
MOST_PER_CORE = 4  # Workers.


def main(argv):
  """Starts the workers and waits for them; returns the exit status."""
  return command.run("launch_local.py", argv[:1], lambda: _main(argv))


def _main(argv):
  args, others = parse(argv)
  if args.help:
    print(f"{__doc__}{args.get_help()}")
    return 0
  shown = os.environ.get("CUDA_VISIBLE_DEVICES")
  gpus = shown.split(",") if shown else [str(index) for index in range(args.n)]
  if args.gpus and len(gpus) < args.n:
    raise command.InputError(
      f"CUDA_VISIBLE_DEVICES={shown} lists fewer GPUs than -n."
    )
  if not args.open_ports:
    try:
      enter_own_network()
    except OSError as error:
      raise command.InputError(
        "This system gives the workers no network of their own "
        f"({error.strerror}). If only people you trust can reach this machine, "
        "add --open_ports."
      ) from None
  received = []
  command.handle_signals(lambda signum, _: received.append(signum))
  addresses = [f"127.0.0.1:{port}" for port in free_ports(args.n)]
  workers = []
  for index in range(args.n):
    task = {"type": "worker", "index": index}
    config = {"cluster": {"worker": addresses}, "task": task}
    environment = {**os.environ, "TF_CONFIG": json.dumps(config)}
    if args.gpus:
      environment["CUDA_VISIBLE_DEVICES"] = gpus[index]
    workers.append(start_worker(index, args.n, others, environment))
  return wait_for(workers, received)


def parse(argv):
  """Returns (the launcher's own flags, all other arguments in their order)."""
  # Flags of its own, so that absl's common ones go to ptb_word_lm.py too.
  own = flags.FlagValues()
  flags.DEFINE_integer(
    "n",
    None,
    "How many workers to start.",
    lower_bound=1,
    upper_bound=MOST_PER_CORE * len(os.sched_getaffinity(0)),
    flag_values=own,
  )
  for name, meaning in (
    ("open_ports", "Listen on all addresses of this machine, for anyone."),
    ("gpus", "Give each worker a GPU of its own."),
    ("help", "Show this help."),
  ):
    flags.DEFINE_boolean(name, False, meaning, flag_values=own)
  try:
    others = own(argv, known_only=True)[1:]
  except (flags.Error, ValueError) as error:
    raise command.InputError(f"{error}.") from None
  if own.n is None and not own.help:
    raise command.InputError("-n is missing: how many workers to start.")
  return own, others


def cores_of(index, size):
  """Returns a worker's processor cores; if there are too few, all of them."""
  cores = sorted(os.sched_getaffinity(0))
  if len(cores) < size:
    return cores
  return cores[len(cores) * index // size : len(cores) * (index + 1) // size]


def start_worker(index, size, arguments, environment):
  """Starts ptb_word_lm.py as worker number `index` of `size`.

  Worker 0 prints; a thread prints what another one reports.

  Returns:
    The subprocess.Popen.
  """
  launcher = os.getpid()

  def prepare():
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with_parent = 1  # PR_SET_PDEATHSIG
    ctypes.CDLL(None).prctl(die_with_parent, signal.SIGTERM)
    if os.getppid() != launcher:  # It has died before that.
      os._exit(1)
    os.sched_setaffinity(0, cores_of(index, size))

  worker = subprocess.Popen(
    [sys.executable, ROOT / "ptb_word_lm.py", *arguments],
    env=environment,
    stdin=subprocess.DEVNULL,
    stdout=subprocess.DEVNULL if index else None,
    stderr=subprocess.PIPE if index else None,
    errors="replace",
    # Else Ctrl-C would reach it twice, from the terminal and from here.
    start_new_session=True,
    preexec_fn=prepare,
  )
  if index:
    threading.Thread(target=print_errors, args=(worker.stderr, index)).start()
  return worker


def print_errors(pipe, index):
  """Prints what a worker reports, as long as it does."""
  for line in pipe:
    with contextlib.suppress(OSError):  # If nobody reads on: train on.
      print(f"worker {index}: {line}", end="", file=sys.stderr, flush=True)


def wait_for(workers, received):
  """Waits until all workers have ended.

  Args:
    workers: their Popen objects.
    received: the signals to pass on. A signal handler appends to this list.

  Returns:
    The exit status of the first that failed, 0 if none did.
  """
  status, give_up = 0, math.inf
  while True:
    statuses = [worker.poll() for worker in workers]
    status = status or next(filter(None, statuses), 0)
    if None not in statuses:
      return 128 - status if status < 0 else status
    if status:
      give_up = min(give_up, time.monotonic() + SECONDS_TO_END)
    if time.monotonic() > give_up:
      received.append(signal.SIGKILL)
    while received:
      signum = received.pop(0)
      for worker in workers:
        worker.send_signal(signum)
    time.sleep(0.1)


def free_ports(number):
  """Returns so many ports that nobody uses."""
  with contextlib.ExitStack() as stack:
    socks = [stack.enter_context(socket.socket()) for _ in range(number)]
    for sock in socks:
      sock.bind(("127.0.0.1", 0))
    return [sock.getsockname()[1] for sock in socks]


def enter_own_network():
  """Gives this process, and those it starts, a network with loopback alone.

  Raises:
    OSError: if the system has no such thing, or does not allow it.
  """
  new_user, new_network = 0x10000000, 0x40000000  # As in <sched.h>.
  ids = {"uid_map": os.getuid(), "gid_map": os.getgid()}
  unshare = ctypes.CDLL(None, use_errno=True).unshare
  if unshare(new_network):  # Only root may do that without a new user.
    if unshare(new_user | new_network):
      error = ctypes.get_errno()
      raise OSError(error, os.strerror(error))
    pathlib.Path("/proc/self/setgroups").write_text("deny")
    for name, number in ids.items():
      pathlib.Path("/proc/self", name).write_text(f"{number} {number} 1")
  with socket.socket() as sock:  # "ip link set lo up"
    set_flags, up = 0x8914, 0x1
    request = struct.pack("16sH14x", b"lo", up)
    fcntl.ioctl(sock, set_flags, request)


if __name__ == "__main__":
  sys.exit(main(sys.argv))
