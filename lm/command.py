"""What all commands share: how they end, and what they tell their users."""

import os
import signal
import sys
import threading

from absl import logging

from lm import tf1


class InputError(Exception):
  """What a user can mend. Its text is a sentence for them."""


class FlagError(InputError, ValueError):
  """Flags that do not go together."""


def refuse(args, names, where):
  """Raises FlagError if one of the flags was given, where it does nothing."""
  for name in names:
    if args[name].present:
      raise FlagError(f"--{name} has no effect with {where}: leave it out.")


def run(name, argv, body, *, arguments=0, too_large="Use a smaller one."):
  """Runs a command; turns whatever ends it into a sentence and an exit status.

  Args:
    name: the command's name, such as "score.py", which errors start with.
    argv: what absl left of the command line: the program and its positional
      arguments.
    body: a function that does the work and returns the exit status.
    arguments: how many positional arguments the command takes at most.
    too_large: a sentence that says what to do if the model does not fit into
      memory.

  Returns:
    The exit status.
  """
  if len(argv) > 1 + arguments:
    tell(f"{name}: '{argv[-1]}' is not a flag; --help lists them.")
    return 2
  logging.get_absl_handler().setFormatter(None)  # Messages as they are.
  for stream in ("stdin", "stdout", "stderr"):  # As after "2>&-".
    if getattr(sys, stream) is None:
      # Else the next file opened would get what is printed.
      setattr(sys, stream, open(os.devnull, "r+"))  # noqa: SIM115
  before = {}
  for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(signum) is not signal.SIG_IGN:  # As nohup has it.
      before[signum] = signal.signal(signum, _stop)
  try:
    status = body()
    sys.stdout.flush()  # Here, where an error is met.
    return status
  except InputError as error:
    tell(f"{name}: {error}")
  except ImportError as error:
    tell(
      f"{name}: TensorFlow cannot be loaded: {error}. Is all of "
      "requirements.txt installed (scripts/setup_venv.sh does it)? Is there "
      "enough memory?"
    )
  except KeyboardInterrupt:
    tell("Interrupted.")
    return 128 + signal.SIGINT
  except UnicodeEncodeError as error:
    tell(
      f"{name}: cannot print {error.object[error.start : error.end]!a} in "
      f"{error.encoding}: set PYTHONIOENCODING=utf-8."
    )
  except OSError as error:
    if error.filename is not None:
      # Of a part that cannot be renamed, what it was to become.
      file = error.filename2 or error.filename
      tell(f"{name}: {file}: {error.strerror}.")
      return 1
    # Of stdout: what it tells cannot be written.
    if not isinstance(error, BrokenPipeError):  # As "| head": nobody reads on.
      tell(f"{name}: cannot print: {error.strerror}.")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  except Exception as error:
    if not _is_lack_of_memory(error):
      raise
    tell(f"{name}: The model does not fit into memory. {too_large}")
  finally:
    for signum, handler in before.items():
      signal.signal(signum, handler)
  return 1


def _stop(signum, frame):
  """Ends the process, so that what is half-written is removed on the way."""

  def once_more():
    threading.Timer(0.1, os.kill, [os.getpid(), signum]).start()

  def after_stop(unraisable):
    # Python drops what is raised in a destructor or the like: so once more.
    # What else a destructor finds half made is no news now.
    if issubclass(unraisable.exc_type, KeyboardInterrupt | SystemExit):
      once_more()

  while frame is not None:
    if frame.f_code is after_stop.__code__:  # It is dropped in there, too.
      return once_more()
    frame = frame.f_back
  sys.unraisablehook = after_stop
  if signum == signal.SIGINT:
    raise KeyboardInterrupt
  sys.exit(128 + signum)


def _is_lack_of_memory(error):
  """Says whether Python or TensorFlow could get no more memory."""
  if isinstance(error, MemoryError):
    return True
  return "tensorflow" in sys.modules and isinstance(
    error, tf1.errors.ResourceExhaustedError
  )


def tell(sentence):
  """Prints to stderr, so that stdout has nothing but results."""
  print(sentence, file=sys.stderr, flush=True)
