#!/usr/bin/env python3
"""Measures what it costs several workers to train together.

  .venv/bin/python scripts/benchmark_workers.py --workers 1,2 --models small

All workers are on this machine, in a network of their own (see
launch_local.py). Its speed can be limited (--gbits for each worker, by one
token bucket of the kernel for all of them), and its delay raised (--delays, by
relays that hold back what passes). A step is measured with and without the
exchange; the difference is what the exchange costs. Printed is a JSON object a
line:

  ms           median time of a step
  compute_ms   the same where each worker computes its rows, but adds nothing up
  mbytes       sent by a worker in a step, counted by the kernel
  gradient_mbytes   the size of what a worker adds up in a step
"""

import argparse
import itertools
import json
import os
import pathlib
import queue
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time

import launch_local

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import configs

WARM_UP = 10  # Steps before those that are measured.


def main(argv):
  """Measures all combinations; returns the exit status."""
  parser = argparse.ArgumentParser(
    description="Measures what it costs several workers to train together.",
    allow_abbrev=False,
  )
  parser.add_argument("--models", type=list_of(str), default=["small"])
  parser.add_argument("--workers", type=list_of(int), default=[1, 2])
  parser.add_argument("--batches", type=list_of(int), default=[20])
  parser.add_argument(
    "--gbits", type=list_of(float), default=[0.0], help="a second; 0: no limit"
  )
  parser.add_argument(
    "--delays", type=list_of(float), default=[0.0], help="one way, in ms"
  )
  parser.add_argument("--steps", type=int, default=30)
  parser.add_argument("--exchange_fp16", action="store_true")
  parser.add_argument("--compute_only", action="store_true")
  parser.add_argument("--worker", help=argparse.SUPPRESS)
  args = parser.parse_args(argv)
  if args.worker is not None:
    print(json.dumps(work(**json.loads(args.worker))))
    return 0
  if reason := wrong_in(args):
    parser.error(reason)
  try:
    launch_local.enter_own_network()
  except OSError as error:
    sys.exit(
      "benchmark_workers.py: This system gives the workers no network of their "
      f"own ({error.strerror}), where their bytes could be counted."
    )
  for model, batch, size, gbits, delay in itertools.product(
    args.models, args.batches, args.workers, args.gbits, args.delays
  ):
    passes = 2 if delay else 1  # A relay sends all once more.
    if any(args.gbits):
      limit(gbits * size * passes)
    about = {
      "model": model,
      "workers": size,
      "batch_size": batch,
      "gbits": gbits or None,
      "delay_ms": delay,
      "exchange": "bfloat16" if args.exchange_fp16 else "float32",
    }
    task = {
      "model": model,
      "batch_size": batch,
      "steps": args.steps,
      "fp16": args.exchange_fp16,
    }
    computed = together(size, {**task, "exchanges": False}, 0)
    about["compute_ms"] = round(computed["ms"], 2)
    if size > 1 and not args.compute_only:
      found = together(size, {**task, "exchanges": True}, delay)
      about["ms"] = round(found["ms"], 2)
      about["mbytes"] = round(found["bytes"] / size / passes / 1e6, 3)
      about["gradient_mbytes"] = round(found["gradient_bytes"] / 1e6, 3)
    print(json.dumps(about), flush=True)
  return 0


def list_of(kind):
  """Returns what reads a list with commas between its parts."""

  def read(text):
    return [kind(part) for part in text.split(",")]

  read.__name__ = f"list of {kind.__name__}"  # As an error calls it.
  return read


def wrong_in(args):
  """Returns what is wrong in the command line, None if nothing is."""
  if unknown := set(args.models) - set(configs.CONFIGS):
    return f"--models={unknown.pop()} is none of {', '.join(configs.CONFIGS)}."
  if min(args.workers) < 1 or max(args.workers) > min(args.batches):
    return "--workers must be 1 or more, and no more than --batches has rows."
  if min(args.gbits + args.delays) < 0 or args.steps < 1:
    return "--gbits and --delays must be 0 or more, and --steps 1 or more."
  if any(args.gbits) and not shutil.which("tc"):
    return "--gbits needs the command tc, of the package iproute2."
  return None


def limit(gbits):
  """Limits what the loopback carries to so many Gbit/s; 0: no limit."""
  tc = ["tc", "qdisc"]
  subprocess.run([*tc, "del", "dev", "lo", "root"], stderr=subprocess.DEVNULL)
  if gbits:
    what = ["tbf", "rate", f"{gbits}gbit", "burst", "256kb", "latency", "1s"]
    subprocess.run([*tc, "add", "dev", "lo", "root", *what], check=True)


def together(size, task, delay):
  """Lets workers do a task; returns what the first one measured."""
  addresses = [f"127.0.0.1:{port}" for port in launch_local.free_ports(size)]
  processes = []
  for index in range(size):
    seen = [
      address if number == index or not delay else relay(address, delay / 1e3)
      for number, address in enumerate(addresses)
    ]
    cores = launch_local.cores_of(index, size)
    processes.append(
      subprocess.Popen(
        [
          sys.executable,
          __file__,
          "--worker",
          json.dumps({**task, "index": index, "addresses": seen}),
        ],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda cores=cores: os.sched_setaffinity(0, cores),
      )
    )
  outputs = [process.communicate()[0] for process in processes]
  if any(process.returncode for process in processes):
    sys.exit("benchmark_workers.py: A worker failed. What it says is above.")
  return json.loads(outputs[0])


def relay(address, seconds):
  """Starts a relay to an address that delays all; returns its own address."""
  host, _, port = address.partition(":")
  server = socket.create_server(("127.0.0.1", 0))

  def accept():
    while True:
      near, _ = server.accept()
      try:
        far = socket.create_connection((host, int(port)))
      except ConnectionRefusedError:  # It has not started yet.
        near.close()
        continue
      for ends in ((near, far), (far, near)):
        for sock in ends:
          sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _pass_on(*ends, seconds)

  threading.Thread(target=accept, daemon=True).start()
  return f"127.0.0.1:{server.getsockname()[1]}"


def _pass_on(source, sink, seconds):
  """Starts passing on what comes from the source, so much later."""
  waiting = queue.SimpleQueue()

  def read():
    while True:
      try:
        data = source.recv(1 << 18)
      except OSError:
        data = b""
      waiting.put((time.monotonic() + seconds, data))
      if not data:
        return

  def write():
    while True:
      when, data = waiting.get()
      time.sleep(max(when - time.monotonic(), 0))
      try:
        if not data:
          sink.shutdown(socket.SHUT_WR)
          return
        sink.sendall(data)
      except OSError:
        return

  for each in (read, write):
    threading.Thread(target=each, daemon=True).start()


def work(index, addresses, model, batch_size, steps, fp16, exchanges):
  """Trains some steps as one worker; returns what it measured."""
  # Here, as numpy starts threads, and a process that has some does not always
  # get a network of its own.
  import benchmark_worker

  import ptb_word_lm
  from lm import checkpoints, tf1, workers

  config = benchmark_worker.read_config(model, {"batch_size": batch_size})
  found = workers.find_workers(addresses, index, batch_size, fp16=fp16)
  reduced = []
  if len(addresses) > 1:
    exchange = found._reduced

    def counted(tensor, how):
      reduced.append(tensor)
      return exchange(tensor, how) if exchanges else tensor

    found._reduced = counted
  with found, tf1.Graph().as_default(), found.device():
    with tf1.variable_scope("Model"):
      lm = ptb_word_lm.PTBModel(
        True,
        config,
        ptb_word_lm.PTBInput(config, benchmark_worker.draw_ids(config)),
        workers=found,
      )
    # With the losses, though training does not fetch them: they are small.
    gradient_bytes = sum(
      tensor.shape.num_elements() * tensor.dtype.size for tensor in reduced
    )
    with found.session() as session:
      session.run(tf1.global_variables_initializer())
      found.copy_first(session, checkpoints.Progress())
      lm.assign_lr(session, 0.1)
      state = session.run(lm.initial_state)
      times = []
      for step in range(WARM_UP + steps):
        if step == WARM_UP:
          found.of_first(None)  # All are here.
          sent = bytes_sent()
        start = time.perf_counter()
        state, *_ = found.run(
          session,
          [lm.final_state, lm.cost, lm.grad_norm, lm.train_op],
          ptb_word_lm._feed(lm.initial_state, state),
        )
        times.append(1e3 * (time.perf_counter() - start))
      sent = bytes_sent() - sent
  return {
    "ms": statistics.median(times[WARM_UP:]),
    "bytes": sent / steps,
    "gradient_bytes": gradient_bytes,
  }


def bytes_sent():
  """Returns how many bytes the loopback has carried."""
  text = pathlib.Path("/proc/self/net/dev").read_text()
  (line,) = (line for line in text.splitlines() if line.strip()[:3] == "lo:")
  return int(line.split(":")[1].split()[8])


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
