"""Trains with several workers on this machine.

  .venv/bin/python scripts/launch_local.py -n 2 --data_path=simple-examples/data

starts ptb_word_lm.py twice; all flags but the ones below go to it. Worker 0
prints as usual; the errors and warnings of the others start with "worker 1: "
and so on. Signals go to all workers. When one fails, all are ended. If one was
killed, --max_restarts=N starts all of them again, up to N times; with
--save_path the run then resumes from its last checkpoint.

Anyone who can connect to a worker's port can run code as you. So the workers
get a network of their own, with nothing but their connections to each other;
this needs Linux. With --open_ports they listen on all addresses of the machine.
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
  imports.explain_missing()

from absl import flags

from lm.base import command, signals

SECONDS_TO_END = 45  # For the other workers, after one has failed.


def main(argv):
  """Starts the workers and waits for them; returns the exit status."""
  return command.run("launch_local.py", lambda: _main(argv))


def _main(argv):
  own, others = _parse(argv)
  if own.help:
    print(f"{__doc__}{own.get_help()}")
    return 0
  if own.n is None:
    raise command.InputError("-n is missing: how many workers to start.")
  all_gpus = ",".join(map(str, range(own.n)))
  gpus = os.environ.get("CUDA_VISIBLE_DEVICES", all_gpus).split(",")
  if own.gpus and len(gpus) < own.n:
    raise command.InputError("CUDA_VISIBLE_DEVICES has fewer GPUs than -n.")
  own.open_ports or enter_own_network()
  if own.gpus:
    others.append("--num_gpus=1")  # A worker without a GPU is refused.
  for left in reversed(range(own.max_restarts + 1)):
    status = _run(own.n, others, gpus if own.gpus else None)
    if status >= 0 or not left:
      break
    times = command.counted(left - 1, "more time")
    command.tell(
      f"launch_local.py: a worker was killed by signal {-status}. Starting all "
      f"of them again; that can happen {times}."
    )
  return 128 - status if status < 0 else status


def _run(size, arguments, gpus):
  """Starts the workers, and waits for them.

  Returns the exit status of the first that failed; below 0, of one that was
  killed by a signal that did not come from here. `gpus` are the GPUs that they
  get, or None.
  """
  addresses = [f"127.0.0.1:{port}" for port in free_ports(size)]
  workers, ended, passed = [], queue.SimpleQueue(), []
  for index in range(size):
    task = {"type": "worker", "index": index}
    config = {"cluster": {"worker": addresses}, "task": task}
    env = {**os.environ, "TF_CONFIG": json.dumps(config)}
    if gpus:
      env["CUDA_VISIBLE_DEVICES"] = gpus[index]
    workers.append(_start_worker(index, size, arguments, env, ended))

  def pass_on(signum, frame):
    passed.append(signum)
    for worker in workers:
      worker.send_signal(signum)

  before = signals.handle(pass_on)
  status = 0
  with contextlib.suppress(queue.Empty):
    for _ in workers:
      found = ended.get(timeout=SECONDS_TO_END if status else None)
      status = status or found  # Of the first that failed.
  for worker in workers:  # Those that are left.
    worker.kill()
  signals.restore(before)
  return 128 - status if passed and status < 0 else status


def _parse(argv):
  """Returns the launcher's own flags, and all other arguments in order."""
  own = flags.FlagValues()
  define = command.Define(own)
  most = 4 * len(os.sched_getaffinity(0))
  define.integer("n", None, "How many workers.", 1, most)
  help_text = "How often to start all again after a worker was killed."
  define.integer("max_restarts", 0, help_text, 0)
  define.boolean(
    "open_ports", False, "Listen on all addresses of this machine."
  )
  define.boolean("gpus", False, "Give each worker a GPU of its own.")
  define.boolean("help", False, "Show this help.", short_name="h")
  try:
    return own, own(argv, known_only=True)[1:]
  except (flags.Error, ValueError) as error:
    raise command.InputError(f"{error}.") from None


def cores_of(index, size):
  """Returns a worker's processor cores; if there are too few, all of them."""
  cores = sorted(os.sched_getaffinity(0))
  share = slice(len(cores) * index // size, len(cores) * (index + 1) // size)
  return cores[share] if len(cores) >= size else cores


def _start_worker(index, size, arguments, env, ended):
  """Starts ptb_word_lm.py as worker `index` of `size`; returns its Popen.

  In the end its exit status is put into the queue `ended`.
  """

  def prepare():
    die_with_parent = 1  # PR_SET_PDEATHSIG
    ctypes.CDLL(None).prctl(die_with_parent, signal.SIGTERM)
    os.sched_setaffinity(0, cores_of(index, size))

  worker = subprocess.Popen(
    [sys.executable, ROOT / "ptb_word_lm.py", *arguments],
    env=env,
    stdout=subprocess.DEVNULL if index else None,
    stderr=subprocess.PIPE if index else None,
    start_new_session=True,  # Else Ctrl-C would reach it twice.
    preexec_fn=prepare,
  )

  def follow():
    for line in worker.stderr or ():
      with contextlib.suppress(OSError):  # It trains on if nobody reads this.
        os.write(sys.stderr.fileno(), b"worker %d: %b" % (index, line))
    ended.put(worker.wait())

  threading.Thread(target=follow, daemon=True).start()
  return worker


def free_ports(number):
  """Returns the given number of ports that nobody uses."""
  servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
  ports = [server.getsockname()[1] for server in servers]
  for server in servers:
    server.close()
  return ports


def enter_own_network():
  """Gives this process, and those it starts, a network with loopback alone.

  Raises InputError if the system has no such thing, or does not allow it.
  """
  new_user, new_network = 0x10000000, 0x40000000  # As in <sched.h>.
  user, group = os.getuid(), os.getgid()
  unshare = ctypes.CDLL(None, use_errno=True).unshare
  if unshare(new_network):  # Only root may do that without a new user.
    if unshare(new_user | new_network):
      raise command.InputError(
        "The workers get no network of their own here "
        f"({os.strerror(ctypes.get_errno())}). If only people you trust can "
        "reach this machine, launch_local.py takes --open_ports."
      )
    ids = {"uid_map": f"{user} {user} 1", "gid_map": f"{group} {group} 1"}
    for name, text in {"setgroups": "deny", **ids}.items():
      pathlib.Path("/proc/self", name).write_text(text)
  with socket.socket() as sock:  # "ip link set lo up"
    set_flags, up = 0x8914, 0x1
    fcntl.ioctl(sock, set_flags, struct.pack("16sH14x", b"lo", up))


if __name__ == "__main__":
  sys.exit(main(sys.argv))
