#!/usr/bin/env python3
"""Trains with several workers on this machine.

  .venv/bin/python scripts/launch_local.py -n 2 --data_path=simple-examples/data

starts ptb_word_lm.py so many times, with the other flags given. The first one
prints; what the others tell has "worker 1: " and so on before it. A signal is
passed on to all, and when one fails, all are ended.

Whoever can connect to a worker can make it do anything. So the workers get a
network of their own that has nothing but their connections to each other, which
needs Linux. With --open_ports they listen on all addresses of the machine.
"""

import argparse
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

ROOT = pathlib.Path(__file__).resolve().parent.parent
SECONDS_TO_END = 45  # For the others, after one has failed.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MOST_PER_CORE = 4


def main(argv):
  """Starts the workers and waits for them; returns the exit status."""
  parser = argparse.ArgumentParser(
    description="Trains with several workers on this machine.",
    epilog="All other flags are those of ptb_word_lm.py.",
    allow_abbrev=False,
  )
  parser.add_argument("-n", type=int, required=True, help="how many workers")
  parser.add_argument(
    "--open_ports",
    action="store_true",
    help="let them listen on all addresses of this machine, for anybody",
  )
  parser.add_argument(
    "--gpus", action="store_true", help="give each worker a GPU of its own"
  )
  args, flags = parser.parse_known_args(argv)
  if args.n < 1:
    parser.error("-n must be 1 or more.")
  cores = len(os.sched_getaffinity(0))
  if args.n > MOST_PER_CORE * cores:
    parser.error(
      f"{args.n} workers are too many for {cores} processor cores: -n may be "
      f"{MOST_PER_CORE * cores} at most."
    )
  gpus = gpu_names(args.n)
  if args.gpus and len(gpus) < args.n:
    parser.error(
      f"CUDA_VISIBLE_DEVICES={','.join(gpus)} are fewer GPUs than -n."
    )
  if not args.open_ports:
    try:
      enter_own_network()
    except OSError as error:
      print(
        "launch_local.py: This system gives the workers no network of their "
        f"own ({error.strerror}). If nobody can reach this machine who should "
        "not, add --open_ports.",
        file=sys.stderr,
      )
      return 1
  command = [sys.executable, str(ROOT / "ptb_word_lm.py"), *flags]
  addresses = [f"127.0.0.1:{port}" for port in free_ports(args.n)]
  with contextlib.ExitStack() as stack:
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # Till all are there.
    workers = []
    for index in range(args.n):
      environment = environment_of(addresses, index)
      if args.gpus:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[index]
      cores = cores_of(index, args.n)
      worker = start_worker(command, environment, cores, is_first=index == 0)
      workers.append(stack.enter_context(worker))
      if index:
        teller = threading.Thread(target=tell_on, args=(worker.stderr, index))
        teller.start()
        stack.callback(teller.join)  # Before its pipe is closed.
    pass_on_signals(workers)
    return wait_for(workers)


def environment_of(addresses, index):
  """Returns the environment variables that tell a worker who it is."""
  task = {"type": "worker", "index": index}
  return {
    "TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": task})
  }


def gpu_names(size):
  """Returns the GPUs for so many workers, as CUDA_VISIBLE_DEVICES has them."""
  shown = os.environ.get("CUDA_VISIBLE_DEVICES")
  return shown.split(",") if shown else [str(index) for index in range(size)]


def cores_of(index, size):
  """Returns the processor cores of a worker; all, if there are too few."""
  cores = sorted(os.sched_getaffinity(0))
  if len(cores) < size:
    return cores
  return cores[len(cores) * index // size : len(cores) * (index + 1) // size]


def start_worker(command, environment, cores, is_first):
  """Starts a worker; returns the Popen."""
  launcher = os.getpid()

  def prepare():
    die_with_parent = 1  # PR_SET_PDEATHSIG
    ctypes.CDLL(None).prctl(die_with_parent, signal.SIGTERM)
    if os.getppid() != launcher:  # It has died before that.
      os._exit(1)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    os.sched_setaffinity(0, cores)

  return subprocess.Popen(
    command,
    env={**os.environ, **environment},
    stdin=subprocess.DEVNULL,
    stdout=None if is_first else subprocess.DEVNULL,
    stderr=None if is_first else subprocess.PIPE,
    # Else Ctrl-C would reach it twice, from the terminal and from here.
    start_new_session=True,
    preexec_fn=prepare,
  )


def tell_on(pipe, index):
  """Prints what a worker tells, as long as it does."""
  for line in pipe:
    text = line.decode(errors="replace")
    with contextlib.suppress(OSError):  # If nobody reads on: train on.
      print(f"worker {index}: {text}", end="", file=sys.stderr, flush=True)


def pass_on_signals(workers):
  """From now on, passes signals on, and those that were blocked so far."""

  def pass_on(signum, frame):
    del frame
    for worker in workers:
      worker.send_signal(signum)

  for signum in SIGNALS:
    if signal.getsignal(signum) is not signal.SIG_IGN:  # As nohup has it.
      signal.signal(signum, pass_on)
  signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def wait_for(workers):
  """Waits until all have ended.

  Returns:
    The exit status of the first that failed, 0 if none did.
  """
  status, give_up = 0, math.inf
  while True:
    statuses = [worker.poll() for worker in workers]
    if not status and any(statuses):
      status = next(filter(None, statuses))
      give_up = time.monotonic() + SECONDS_TO_END
    if None not in statuses:
      return 128 - status if status < 0 else status
    if time.monotonic() > give_up:
      for worker in workers:
        worker.kill()
    time.sleep(0.1)


def free_ports(number):
  """Returns so many ports that nobody uses."""
  with contextlib.ExitStack() as stack:
    ports = []
    for _ in range(number):
      sock = stack.enter_context(socket.socket())
      sock.bind(("127.0.0.1", 0))
      ports.append(sock.getsockname()[1])
    return ports


def enter_own_network():
  """Gives this process, and those it starts, a network with loopback alone.

  Raises:
    OSError: if the system has no such thing, or does not allow it.
  """
  new_user, new_network = 0x10000000, 0x40000000  # As in <sched.h>.
  ids = os.getuid(), os.getgid()
  if not _unshare(new_network):  # Root may do without the other.
    if not _unshare(new_user | new_network):
      error = ctypes.get_errno()
      raise OSError(error, os.strerror(error))
    pathlib.Path("/proc/self/setgroups").write_text("deny")
    for name, number in zip(("uid_map", "gid_map"), ids, strict=True):
      pathlib.Path("/proc/self", name).write_text(f"{number} {number} 1")
  with socket.socket() as sock:  # "ip link set lo up"
    set_flags, up = 0x8914, 0x1
    request = struct.pack("16sH14x", b"lo", up)
    fcntl.ioctl(sock, set_flags, request)


def _unshare(what):
  """Says whether the process now has such a thing of its own."""
  try:
    unshare = ctypes.CDLL(None, use_errno=True).unshare
  except AttributeError:  # Not Linux.
    ctypes.set_errno(38)  # ENOSYS
    return False
  return unshare(what) == 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
