"""What all commands share: how they end, signals, and messages to users."""

import functools
import os
import re
import signal
import sys

from absl import app, flags, logging

from lm.base import imports, signals


class InputError(Exception):
  """An error that the user can fix. Its text is a sentence for them."""


class FlagError(InputError, ValueError):
  """Flags that do not work together."""


# What TensorFlow raises if a GPU fails, and how it says that memory ran out.
_OF_GPU = {"InternalError", "UnknownError", "FailedPreconditionError"}
_OF_GPU |= {"UnimplementedError"}
_GPU_FAILS = r"\b(CUDA|CUDNN|CUBLAS|CU)_[A-Z]|cuDNN|cuBLAS|\bDNN library|GPU:\d"
_GPU_IS_FULL = "OUT_OF_MEMORY|ALLOC_FAILED|[Oo]ut of memory"


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


def start(main, define_flags=None, advice_for=None):
  """Ends the process with the exit status of a command's `main`.

  Errors in the flags get a sentence. For the name of a flag that does not
  exist, the function `advice_for` may return another sentence.
  """

  def parse(argv):
    try:
      return flags.FLAGS(argv)
    except (
      flags.Error,
      ValueError,
    ) as error:  # The latter of absl's own flags.
      name = getattr(error, "flagname", None)
      advice = advice_for and advice_for(name)
      sentence = str(error).rstrip(".? ")
      raise InputError(
        f"{sentence}. {advice or '--help lists the flags.'}"
      ) from None

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
  before = signals.handle(signals.Stop())
  try:
    for argument in sys.argv:
      argument.encode()  # A UnicodeEncodeError if it is not UTF-8.
    try:
      status = body()
    except SystemExit as end:  # As after --help, or by a signal.
      status = end.code
    sys.stdout.flush()  # Here, where an error is handled.
    return status
  except BaseException as error:
    signals.handle(signal.SIG_IGN)  # It ends anyway, and with one sentence.
    if isinstance(error, KeyboardInterrupt):
      tell("Interrupted.")
      return 128 + signal.SIGINT
    if sentence := _sentence_for(error, too_large):
      tell(f"{name}: {sentence}")
    return 1
  finally:
    signals.restore(before)


def reason_of(error):
  """Returns what an exception says, as one sentence."""
  # TensorFlow's own have it within a stack trace, before the operation's name.
  text = getattr(error, "message", str(error)).partition("[[{{node")[0]
  lines = [line.strip() for line in text.split("\n") if line.strip()]
  return (lines or [type(error).__name__])[-1].rstrip(".?") + "."


def is_out_of_memory(error):
  """Says whether an exception says that memory ran out, also a GPU's."""
  # By its name, as TensorFlow may not be loaded.
  return (
    isinstance(error, MemoryError)
    or type(error).__name__ == "ResourceExhaustedError"
    or (_is_of_gpu(error) and bool(re.search(_GPU_IS_FULL, str(error))))
  )


def _is_of_gpu(error):
  """Says whether an exception is what TensorFlow raises if a GPU fails."""
  return type(error).__name__ in _OF_GPU and re.search(_GPU_FAILS, str(error))


def _sentence_for(error, too_large):
  """Returns what to say about an error, if anything; raises a bug of ours."""
  if is_out_of_memory(error):
    return too_large
  if _is_of_gpu(error):
    return (
      f"The GPU failed: {reason_of(error)} With CUDA_VISIBLE_DEVICES=-1 in "
      "the environment, the CPU computes."
    )
  if isinstance(error, InputError):
    return str(error)
  if isinstance(error, ModuleNotFoundError):
    return imports.sentence_for(error)
  if isinstance(error, ImportError):
    return (
      f"TensorFlow cannot be loaded: {error}. Is there enough memory? If so, "
      "its installation is damaged: give .venv another name, and "
      "scripts/setup_venv.sh makes a new one."
    )
  if isinstance(error, UnicodeEncodeError):
    if error.object in sys.argv:
      return f"the argument {error.object!a} is not UTF-8. Use another name."
    character = error.object[error.start : error.end]
    return (
      f"cannot print {character!a} in {error.encoding}: set "
      "PYTHONIOENCODING=utf-8."
    )
  if not isinstance(error, OSError):
    raise error
  if error.filename is not None:
    return f"{error.filename}: {error.strerror}."
  if "temporary directory" in str(error):  # From Python's module tempfile.
    return (
      f"{error.strerror}: they are full or read-only. Make room in one, or "
      "name another in the environment variable TMPDIR."
    )
  if isinstance(error, FileNotFoundError):
    return "the current folder does not exist any more: leave it."
  # Without a file's name, other errors are about stdout.
  os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  if isinstance(error, BrokenPipeError):  # As by "| head".
    return ""
  return f"cannot print: {error.strerror}."


def counted(number, noun):
  """Returns a number with its noun, as in "1 word" or "2,000 words"."""
  return f"{number:,} {noun}{'s' * (number != 1)}"


def tell(sentence):
  """Prints to stderr, since stdout is for results only."""
  print(f"{sentence}\n", file=sys.stderr, end="", flush=True)  # One write.
