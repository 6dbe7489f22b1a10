"""What all commands share: how they end, signals, and messages to users."""

import functools
import os
import signal
import sys
import threading
import traceback

from absl import app, flags, logging


class InputError(Exception):
  """An error that the user can fix. Its text is a sentence for them."""


class FlagError(InputError, ValueError):
  """Flags that do not work together."""


def refuse(args, names, where):
  """Raises FlagError if a flag was given that has no effect with `where`."""
  for name in names:
    if args[name].present:
      raise FlagError(f"--{name} has no effect with {where}: leave it out.")


def entry_point(name, **options):
  """Decorates a command's main function, so that absl's app.run can call it.

  The function gets flags.FLAGS, parsed, and then the command line's other
  arguments; it returns the exit status. `options` are those of `run`.
  """

  def decorate(function):
    @functools.wraps(function)
    def main(argv):
      body = functools.partial(function, flags.FLAGS, *argv[1:])
      return run(name, argv, body, **options)

    return main

  return decorate


def start(main, define_flags=None):
  """Ends the process with the exit status of a command's `main`.

  Errors on the way there, as in flags and their help, get a sentence, too.
  """

  def parse(argv):
    try:
      return app.parse_flags_with_usage(argv)
    except ValueError as error:  # Of a flag that absl itself defines.
      raise InputError(f"A flag has an impossible value: {error}.") from None

  def body():
    if define_flags:
      define_flags()
    app.run(main, flags_parser=parse)

  name = os.path.basename(sys.argv[0])
  sys.exit(run(name, [name], body))


def run(name, argv, body, *, arguments=0, too_large="The memory is too small."):
  """Runs a command; returns an exit status, with a sentence for each error.

  The function `body` does the work and returns the exit status. absl leaves
  argv: the program and at most `arguments` others. Errors start with the
  command's name; `too_large` is the sentence for too little memory.
  """
  if len(argv) > 1 + arguments:
    tell(f"{name}: '{argv[-1]}' is not a flag; --help lists them.")
    return 2
  logging.get_absl_handler().setFormatter(None)  # Messages as they are.
  for stream in ("stdin", "stdout", "stderr"):
    # If it is closed, as by "2>&-", the next file opened would get the output.
    if getattr(sys, stream) is None:
      setattr(sys, stream, open(os.devnull, "r+"))  # noqa: SIM115
  before = handle_signals(_stop)
  try:
    try:
      status = body()
    except SystemExit as end:  # As after --help, or by a signal.
      status = end.code
    sys.stdout.flush()  # Here, where an error is handled.
    return status
  except InputError as error:
    tell(f"{name}: {error}")
  except ImportError as error:
    tell(
      f"{name}: TensorFlow cannot be loaded: {error}. Is there enough memory? "
      "Is all of requirements.txt installed (scripts/setup_venv.sh does that)?"
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
      tell(f"{name}: {error.filename}: {error.strerror}.")
      return 1
    if isinstance(error, FileNotFoundError):
      tell(f"{name}: the current folder does not exist any more: leave it.")
      return 1
    # Without a file's name, other errors are about stdout.
    if not isinstance(error, BrokenPipeError):  # As by "| head".
      tell(f"{name}: cannot print: {error.strerror}.")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  except Exception as error:
    # By its name, as TensorFlow may not be loaded.
    is_tensorflows = type(error).__name__ == "ResourceExhaustedError"
    if not is_tensorflows and not isinstance(error, MemoryError):
      raise
    tell(f"{name}: {too_large}")
  finally:
    for signum, handler in before.items():
      signal.signal(signum, handler)
  return 1


def handle_signals(handler):
  """Sets the handler of SIGINT, SIGTERM and SIGHUP; returns those before.

  A signal that is ignored, as SIGHUP is under nohup, stays ignored.
  """
  before = {}
  for name in ("SIGINT", "SIGTERM", "SIGHUP"):
    signum = getattr(signal, name, None)  # Windows has no SIGHUP.
    if signum and signal.getsignal(signum) != signal.SIG_IGN:
      before[signum] = signal.signal(signum, handler)
  return before


def _stop(signum, frame):
  """Ends the process by an exception: it then removes half-written files."""
  repeat = threading.Timer(0.1, os.kill, [os.getpid(), signum])

  def after_stop(unraisable):
    # Python drops an exception that is raised in a destructor: then repeat the
    # signal. Other errors of destructors are no news at this point.
    if issubclass(unraisable.exc_type, KeyboardInterrupt | SystemExit):
      repeat.start()

  running = [outer.f_code for outer, _ in traceback.walk_stack(frame)]
  if after_stop.__code__ in running:  # Python would drop it here, too.
    return repeat.start()
  sys.unraisablehook = after_stop
  if signum == signal.SIGINT:
    raise KeyboardInterrupt
  sys.exit(128 + signum)


def tell(sentence):
  """Prints to stderr, since stdout is for results only."""
  print(f"{sentence}\n", file=sys.stderr, end="", flush=True)  # One write.
