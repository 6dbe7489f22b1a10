"""What all commands share: flags, how they end, and messages to users."""

import functools
import os
import re
import signal
import sys

from absl import flags

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


class Define:
  """Defines flags in a FlagValues; `string` is DEFINE_string, and so on."""

  def __init__(self, values):
    self._values = values

  def __getattr__(self, kind):
    function = getattr(flags, f"DEFINE_{kind}")
    return functools.partial(function, flag_values=self._values)

  def validator(self, name, is_valid, message):
    """Refuses values of a flag for which the function `is_valid` is false."""
    flags.register_validator(name, is_valid, message, self._values)


def entry_point(name, define_flags=None, **options):
  """Decorates a command's main function.

  The function gets the command's flags, an absl FlagValues, and then the other
  arguments; it returns the exit status. Decorated, it gets the command line, a
  list, by default that of the process, and can be called again and again.

  Args:
    name: the command's name.
    define_flags: a function that gets a Define, and defines the flags.
    **options: those of `run`, and of `_parse`.
  """

  def decorate(function):
    @functools.wraps(function)
    def main(argv=None, *, arguments=0, advice_for=None, **of_run):
      def body():
        args = flags.FlagValues()
        if define_flags:
          define_flags(Define(args))
        doc = sys.modules[function.__module__].__doc__
        others = _parse(args, argv or sys.argv, doc, arguments, advice_for)
        return 0 if others is None else function(args, *others)

      return run(name, body, **of_run)

    return functools.partial(main, **options)

  return decorate


def _parse(args, argv, doc, arguments, advice_for):
  """Sets the flags of a FlagValues; returns the other arguments.

  Returns None if --help was given, after it has printed `doc` and the flags.

  Args:
    args: the FlagValues.
    argv: the command line.
    doc: what the command does.
    arguments: how many other arguments there may be.
    advice_for: a function from the name of a flag that does not exist to a
      sentence, or None.
  """
  flags.DEFINE_boolean(
    "help", False, "Show this help.", short_name="h", flag_values=args
  )
  try:
    others = args(argv)[1:]
  except flags.Error as error:
    name = getattr(error, "flagname", None)
    advice = advice_for and advice_for(name)
    sentence = str(error).rstrip(".? ")
    raise FlagError(
      f"{sentence}. {advice or '--help lists the flags.'}"
    ) from None
  if args.help:
    print(f"{doc}{args.get_help()}")
    return None
  if len(others) > arguments:
    raise FlagError(f"'{others[-1]}' is not a flag; --help lists them.")
  return others


def run(name, body, *, too_large="The memory is too small."):
  """Runs a command; returns an exit status, with a sentence for each error.

  The function `body` does the work and returns the exit status. Errors start
  with the command's name; `too_large` is the sentence for too little memory.
  """
  before = signals.handle(signals.Stop())
  try:
    status = body()
    sys.stdout.flush()  # Here, where an error is handled.
    return status
  except SystemExit as end:  # By a signal.
    return end.code
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
