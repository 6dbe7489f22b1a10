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
SECONDS_TO_END = 30  # For the others, after one has failed.


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
  shown = os.environ.get("CUDA_VISIBLE_DEVICES")
  if args.gpus and shown and len(shown.split(",")) < args.n:
    parser.error(f"CUDA_VISIBLE_DEVICES={shown} are fewer GPUs than -n.")
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
    workers = [
      stack.enter_context(
        start_worker(
          command,
          {
            **environment_of(addresses, index),
            **(gpu_of(index) if args.gpus else {}),
          },
          cores_of(index, args.n),
          index,
        )
      )
      for index in range(args.n)
    ]
    return wait_for(workers)


def environment_of(addresses, index):
  """Returns the environment variables that tell a worker who it is."""
  task = {"type": "worker", "index": index}
  return {
    "TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": task})
  }


def gpu_of(index):
  """Returns the environment variable that shows a worker a single GPU."""
  shown = os.environ.get("CUDA_VISIBLE_DEVICES")
  names = shown.split(",") if shown else None
  return {"CUDA_VISIBLE_DEVICES": names[index] if names else str(index)}


def cores_of(index, size):
  """Returns the processor cores of a worker; all, if there are too few."""
  cores = sorted(os.sched_getaffinity(0))
  if len(cores) < size:
    return cores
  return cores[len(cores) * index // size : len(cores) * (index + 1) // size]


def start_worker(command, environment, cores, index):
  """Starts a worker; returns the Popen."""
  is_first = index == 0

  def prepare():
    die_with_parent = 1  # PR_SET_PDEATHSIG
    ctypes.CDLL(None).prctl(die_with_parent, signal.SIGTERM)
    os.sched_setaffinity(0, cores)

  process = subprocess.Popen(
    command,
    env={**os.environ, **environment},
    stdin=subprocess.DEVNULL,
    stdout=None if is_first else subprocess.DEVNULL,
    stderr=None if is_first else subprocess.PIPE,
    # Else Ctrl-C would reach it twice, from the terminal and from here.
    start_new_session=True,
    preexec_fn=prepare,
  )
  if not is_first:
    threading.Thread(
      target=print_lines, args=(process.stderr, index), daemon=True
    ).start()
  return process


def print_lines(pipe, index):
  """Prints what a worker tells, as long as it does."""
  with contextlib.suppress(OSError, ValueError):  # Nobody reads, or it ended.
    for line in pipe:
      text = line.decode(errors="replace")
      print(f"worker {index}: {text}", end="", file=sys.stderr, flush=True)


def wait_for(workers):
  """Waits until all have ended; passes signals on.

  Returns:
    The exit status of the first that failed, 0 if none did.
  """

  def pass_on(signum, frame):
    del frame
    for worker in workers:
      worker.send_signal(signum)

  for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(signum) is not signal.SIG_IGN:  # As nohup has it.
      signal.signal(signum, pass_on)
  status, failed_at = 0, None
  while any([worker.poll() is None for worker in workers]):
    failed = [worker for worker in workers if worker.returncode]
    if failed and failed_at is None:
      status, failed_at = failed[0].returncode, time.monotonic()
    if failed_at and time.monotonic() > failed_at + SECONDS_TO_END:
      for worker in workers:
        worker.kill()
    time.sleep(0.1)
  status = status or next((w.returncode for w in workers if w.returncode), 0)
  return 128 - status if status < 0 else status


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
