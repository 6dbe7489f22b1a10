"""How commands start and end: flags, exit statuses and messages to users."""

import functools
import os
import re
import signal
import sys

from absl import flags

import lm
from lm.base import signals, tf1


class InputError(Exception):
  """An error that the user can fix. Its message is a sentence for them."""


class FlagError(InputError, ValueError):
  """A wrong flag, or flags that do not work together."""


# What TensorFlow raises if a GPU fails, or if its memory is full.
_GPU_ERRORS = {"InternalError", "UnknownError", "FailedPreconditionError"}
_GPU_ERRORS |= {"UnimplementedError"}
_GPU_FAILS = r"\b(CUDA|CUDNN|CUBLAS|CU)_[A-Z]|cuDNN|cuBLAS|\bDNN library|GPU:\d"
_GPU_IS_FULL = "OUT_OF_MEMORY|ALLOC_FAILED|[Oo]ut of memory"


def refuse(args, names, where):
  """Raises FlagError if one of the flags was given.

  `where` says where they have no effect, such as "with --evaluate".
  """
  for name in names:
    if args[name].present:
      raise FlagError(f"--{name} has no effect {where}: leave it out.")


class _BooleanParser(flags.BooleanParser):
  """Parses true or false; its error is a sentence."""

  def parse(self, argument):
    try:
      return super().parse(argument)
    except ValueError:
      raise ValueError("value should be true or false") from None


class _PathParser(flags.ArgumentParser):
  """Expands a ~ at the start, which shells leave alone after an "="."""

  def parse(self, argument):
    return os.path.expanduser(argument)


class Define:
  """Defines flags in a FlagValues: `string` calls DEFINE_string, and so on."""

  def __init__(self, values):
    self._values = values

  def __getattr__(self, kind):
    function = getattr(flags, f"DEFINE_{kind}")
    return functools.partial(function, flag_values=self._values)

  def boolean(self, name, default, help_text, **options):
    """Defines a flag that is true or false; see flags.DEFINE_boolean."""
    flags.disclaim_key_flags()  # So that --help lists it under its command.
    flag = flags.Flag(
      _BooleanParser(), None, name, default, help_text, boolean=True, **options
    )
    self.flag(flag)

  def path(self, name, default, help_text):
    """Defines a flag that names a file or a folder."""
    flags.disclaim_key_flags()
    self.flag(flags.Flag(_PathParser(), None, name, default, help_text))

  def validator(self, name, is_valid, message):
    """Refuses the values of a flag for which `is_valid` returns false."""
    flags.register_validator(name, is_valid, message, self._values)


def entry_point(
  name,
  define_flags=None,
  *,
  arguments=0,
  pass_unknown=False,
  advice_for=None,
  too_large="There is not enough memory.",
):
  """Decorates a command's main function.

  The function gets the command's flags, an absl FlagValues, and then the other
  arguments. It returns the exit status.

  The decorated function gets the command line as a list, with or without the
  name of the program; by default, it is sys.argv. It returns the exit status.
  It reports an error that the user can fix as one sentence, and can be called
  any number of times.

  Args:
    name: the command's name, for messages.
    define_flags: a function that defines the flags in a Define.
    arguments: how many arguments besides the flags there may be.
    pass_unknown: if true, unknown flags are other arguments, and there may be
      any number of these.
    advice_for: a function from the name of an unknown flag to a sentence, or
      None.
    too_large: the sentence to print if there is too little memory.
  """

  def decorate(function):
    @functools.wraps(function)
    def main(argv=None):
      # In a prompt such as IPython, the process is the user's.
      tf1.is_own_process = argv is None and not hasattr(sys, "ps1")
      handlers = signals.handle(signals.Stop())
      try:
        args = flags.FlagValues()
        if define_flags:
          define_flags(Define(args))
        others = _parse(args, _command_line(argv), pass_unknown, advice_for)
        if args.version:
          print(f"ptb_word_lm {lm.__version__}")
          status = 0
        elif args.help:
          doc = function.__globals__["__doc__"]  # The module's.
          print(f"{doc}{args.get_help()}")
          status = 0
        elif len(others) > arguments and not pass_unknown:
          raise FlagError(
            f"'{others[-1]}' is not a flag. --help lists the flags."
          )
        else:
          status = function(args, *others)
        sys.stdout.flush()  # Here, where an error is handled.
        return status
      except SystemExit as end:  # By a signal.
        return end.code
      except KeyboardInterrupt:
        tell("Interrupted.")
        return 128 + signal.SIGINT
      except InputError as error:
        tell(f"{name}: {error}")
        return 1
      except Exception as error:
        _report(error, name, too_large)
        return 1
      finally:
        signals.restore(handlers)

    return main

  return decorate


def _command_line(argv):
  """Returns the command line with the program's name first, as absl wants."""
  if argv is None:
    return sys.argv
  starts_with_flag = argv[:1] and argv[0].startswith("--")
  return ["", *argv] if starts_with_flag or not argv else argv


def _parse(args, argv, pass_unknown, advice_for):
  """Sets the flags of a FlagValues; returns the other arguments.

  Every command has the flags --help and --version. `pass_unknown` and
  `advice_for` are arguments of `entry_point`. Raises FlagError for a wrong
  flag.
  """
  Define(args).boolean("help", False, "Show this help.", short_name="h")
  Define(args).boolean("version", False, "Print the version.")
  try:
    return args(argv, known_only=pass_unknown)[1:]
  except flags.Error as error:
    advice = advice_for and advice_for(getattr(error, "flagname", None))
    sentence = str(error).rstrip(".? ")
    raise FlagError(
      f"{sentence}. {advice or '--help lists the flags.'}"
    ) from None


def _report(error, name, too_large):
  """Prints a sentence about an error that is no InputError.

  Raises the error if it is a bug or a missing package. `name` and `too_large`
  are arguments of `entry_point`.
  """
  try:
    sys.stdout.flush()
  except OSError:
    # When it exits, Python would try again to print what is left.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  if isinstance(error, BrokenPipeError):  # As by "| head".
    return
  sentence = _sentence_for(error, too_large)
  if sentence is None:
    raise error
  tell(f"{name}: {sentence}")


def _sentence_for(error, too_large):
  """Returns the sentence for an error; None if Python should report it."""
  if is_out_of_memory(error):
    return too_large
  if _is_gpu_error(error):
    return (
      f"The GPU failed: {reason_of(error)} To compute on the CPU, set "
      "CUDA_VISIBLE_DEVICES=-1 in the environment."
    )
  if isinstance(error, OSError):
    if error.strerror is None:
      return reason_of(error)
    if error.filename is None:
      return f"{error.strerror}."
    name = error.filename or "''"  # As by --file=$UNSET.
    return f"{name}: {error.strerror}."
  if isinstance(error, ModuleNotFoundError):
    return None  # imports.report_failures handles it.
  if isinstance(error, ImportError):
    return (
      f"a package cannot be loaded: {error}. If there is enough memory, its "
      "installation is damaged: rename .venv, and run scripts/setup_venv.sh to "
      "create a new one."
    )
  return None


def reason_of(error):
  """Returns the message of an exception as one sentence."""
  # TensorFlow's messages have a stack trace around that sentence.
  text = getattr(error, "message", str(error)).partition("[[{{node")[0]
  lines = [line.strip() for line in text.split("\n") if line.strip()]
  return (lines or [type(error).__name__])[-1].rstrip(".?") + "."


def is_out_of_memory(error):
  """Returns whether an exception means that the memory, or a GPU's, is full."""
  # Compares names, as TensorFlow may not be loaded.
  return (
    isinstance(error, MemoryError)
    or type(error).__name__ == "ResourceExhaustedError"
    or (_is_gpu_error(error) and bool(re.search(_GPU_IS_FULL, str(error))))
  )


def _is_gpu_error(error):
  """Returns whether an exception is what TensorFlow raises if a GPU fails."""
  name = type(error).__name__
  return name in _GPU_ERRORS and bool(re.search(_GPU_FAILS, str(error)))


def counted(number, noun):
  """Returns a number with its noun, as in "1 word" or "2,000 words"."""
  return f"{number:,} {noun}{'s' * (number != 1)}"


def tell(sentence):
  """Prints to stderr, since stdout is for results only."""
  # In one write, so that the lines of several workers do not mix.
  print(f"{sentence}\n", file=sys.stderr, end="", flush=True)
