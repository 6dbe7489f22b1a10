"""How much memory there is for this process."""

import contextlib
import os
import pathlib
import re

import psutil

OF_TENSORFLOW = 500_000_000  # What TensorFlow needs of it, in bytes.


def free():
  """Returns how many bytes this process can still get.

  The process (RLIMIT_AS) or its control group (a container) may be limited.
  """
  limits = [psutil.virtual_memory().available + psutil.swap_memory().free]
  with contextlib.suppress(AttributeError):  # Of a system without limits.
    soft, _ = psutil.Process().rlimit(psutil.RLIMIT_AS)
    if soft != psutil.RLIM_INFINITY:
      # It counts addresses. TensorFlow reserves so many that it does not use;
      # each of its threads, of two for a core, reserves a stack.
      reserved = 2_000_000_000 + 16_000_000 * os.cpu_count()
      limits.append(max(soft - reserved, 0))
  with contextlib.suppress(OSError, ValueError):  # ValueError: "max".
    most = int(_read_of_group("memory.max"))
    # Without the cache of files, which can be dropped.
    used = dict(re.findall(r"(\w+) (\d+)", _read_of_group("memory.stat")))
    limits.append(most - int(used["anon"]))
  return min(limits)


def _read_of_group(name):
  """Returns a file about the process's control group, which Linux has."""
  return pathlib.Path("/sys/fs/cgroup", name).read_text()
