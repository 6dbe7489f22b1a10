"""Trains with several workers on this machine.

  .venv/bin/python scripts/launch_local.py -n 2 --data_path=simple-examples/data

starts ptb_word_lm.py twice and passes all flags on, except for those below.
Worker 0 prints as usual. The errors and warnings of the others start with
"worker 1: " and so on. Signals go to all workers. If a worker fails, the others
end as well. If a worker is killed, --max_restarts=N starts all of them again,
up to N times; with --save_path the run then resumes from its last checkpoint.

Anyone who can connect to a worker's port can run code as you. So the workers
get a network of their own that contains nothing but loopback; this needs Linux.
With --open_ports they listen on all addresses of this machine.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import pathlib
import queue
import signal
import socket
import struct
import subprocess
import sys
import threading

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lm.base import imports

if __name__ == "__main__":
  imports.report_failures()

from lm.base import command, signals

SECONDS_TO_END = 45  # For the other workers, after one has failed.


def define_flags(define):
  """Defines the launcher's own flags; all others are the workers'."""
  most = 4 * len(os.sched_getaffinity(0))
  define.integer("n", None, "The number of workers.", 1, most)
  help_text = "How many times to restart all workers after one was killed."
  define.integer("max_restarts", 0, help_text, 0)
  help_text = "Let workers listen on all addresses of this machine."
  define.boolean("open_ports", False, help_text)
  define.boolean("gpus", False, "Give each worker a GPU of its own.")


@command.entry_point("launch_local.py", define_flags, pass_unknown=True)
def main(args, *worker_args):
  """Starts the workers and waits for them; returns the exit status."""
  if args.n is None:
    raise command.InputError("-n is missing: give the number of workers.")
  gpus = None
  if args.gpus:
    all_gpus = ",".join(map(str, range(args.n)))
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", all_gpus).split(",")
    if len(gpus) < args.n:
      raise command.InputError(
        "CUDA_VISIBLE_DEVICES lists fewer GPUs than -n: make -n smaller."
      )
    worker_args += ("--num_gpus=1",)  # A worker without a GPU is refused.
  if not args.open_ports:
    enter_own_network()
  for restarts in reversed(range(args.max_restarts + 1)):
    returncode, is_stopped = run_workers(args.n, worker_args, gpus)
    was_killed = returncode < 0 and not is_stopped
    if not was_killed or not restarts:
      break
    left = command.counted(restarts - 1, "restart")
    command.tell(
      f"launch_local.py: a worker was killed by signal {-returncode}. "
      f"Restarting all workers, with {left} left."
    )
  return exit_status(returncode)


def exit_status(returncode):
  """Returns the exit status for a Popen.returncode.

  If signal N killed the process, the returncode is -N, and shells use 128 + N.
  """
  return 128 - returncode if returncode < 0 else returncode


def run_workers(size, worker_args, gpus):
  """Starts the workers and waits for them.

  Args:
    size: how many workers.
    worker_args: the arguments of each ptb_word_lm.py.
    gpus: the names of GPUs, one for each worker; None for no GPUs.

  Returns:
    (returncode, is_stopped): the Popen.returncode of the first worker that
    failed, 0 if none did; and whether a signal to this process stopped them.
  """
  addresses = [f"127.0.0.1:{port}" for port in free_ports(size)]
  workers, returncodes, received = [], queue.SimpleQueue(), []

  def pass_on(signum, frame):
    received.append(signum)
    for worker in workers:
      worker.send_signal(signum)

  # Set before workers start: Python can lose an exception while it forks.
  handlers = signals.handle(pass_on)
  starting = []
  for index in range(size):
    task = {"type": "worker", "index": index}
    config = {"cluster": {"worker": addresses}, "task": task}
    env = {**os.environ, "TF_CONFIG": json.dumps(config)}
    if gpus:
      env["CUDA_VISIBLE_DEVICES"] = gpus[index]
    worker = _start_worker(index, size, worker_args, env, returncodes)
    starting.append(worker)
  workers += starting
  for signum in received[:1]:  # It came while they started.
    pass_on(signum, None)
  first = 0  # The returncode of the first worker that failed.
  with contextlib.suppress(queue.Empty):
    for _ in workers:
      returncode = returncodes.get(timeout=SECONDS_TO_END if first else None)
      first = first or returncode
  for worker in workers:  # Those that are left.
    worker.kill()
  signals.restore(handlers)
  return first, bool(received)


def cores_of(index, size):
  """Returns the cores of worker `index`: its share, or all if they are few."""
  cores = sorted(os.sched_getaffinity(0))
  share = slice(len(cores) * index // size, len(cores) * (index + 1) // size)
  return cores[share] if len(cores) >= size else cores


def _start_worker(index, size, args, env, returncodes):
  """Starts ptb_word_lm.py as worker `index` of `size`; returns its Popen.

  When the worker ends, its returncode is put into the queue `returncodes`.
  """

  def prepare():
    die_with_parent = 1  # PR_SET_PDEATHSIG
    ctypes.CDLL(None).prctl(die_with_parent, signal.SIGTERM)
    os.sched_setaffinity(0, cores_of(index, size))
    # Ctrl-C would break Python's start; imports.report_failures unblocks it.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])

  worker = subprocess.Popen(
    [sys.executable, ROOT / "ptb_word_lm.py", *args],
    env=env,
    stdout=subprocess.DEVNULL if index else None,
    stderr=subprocess.PIPE if index else None,
    start_new_session=True,  # Else Ctrl-C would reach it twice.
    preexec_fn=prepare,
  )

  def follow():
    for line in worker.stderr or ():
      with contextlib.suppress(OSError):  # Nobody may read stderr.
        os.write(sys.stderr.fileno(), b"worker %d: %b" % (index, line))
    returncodes.put(worker.wait())

  threading.Thread(target=follow, daemon=True).start()
  return worker


def free_ports(number):
  """Returns a list of `number` ports that no program uses."""
  servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
  ports = [server.getsockname()[1] for server in servers]
  for server in servers:
    server.close()
  return ports


def enter_own_network():
  """Moves this process to a network of its own, with loopback alone.

  The processes that it starts share this network. Raises InputError if the
  system has no such networks or does not allow it.
  """
  new_user, new_network = 0x10000000, 0x40000000  # As in <sched.h>.
  user, group = os.getuid(), os.getgid()
  unshare = ctypes.CDLL(None, use_errno=True).unshare
  if unshare(new_network):  # Only root may do that without a new user.
    if unshare(new_user | new_network):
      raise command.InputError(
        "The workers cannot get a network of their own here "
        f"({os.strerror(ctypes.get_errno())}). If only people you trust can "
        "reach this machine, use --open_ports."
      )
    ids = {"uid_map": f"{user} {user} 1", "gid_map": f"{group} {group} 1"}
    for name, text in {"setgroups": "deny", **ids}.items():
      pathlib.Path("/proc/self", name).write_text(text)
  with socket.socket() as sock:  # "ip link set lo up"
    set_flags, up = 0x8914, 0x1
    fcntl.ioctl(sock, set_flags, struct.pack("16sH14x", b"lo", up))


if __name__ == "__main__":
  sys.exit(main())
