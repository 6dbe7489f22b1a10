"""Reads files without waiting for ever; writes them completely or not at all.

All files but the texts that flags name are read here, and all are written here,
except for TensorFlow's own.
"""

import contextlib
import json
import math
import os
import pathlib
import secrets
import shutil
import stat

from lm.base.command import InputError

_MOST = 1 << 28  # The size of a small file, in bytes.


class NewFolderError(InputError, OSError):
  """The folder exists already or cannot be made."""


class DamagedFileError(InputError, ValueError):
  """A file that is missing, unreadable, or not as this program wrote it."""


def read_file(path, most=_MOST):
  """Returns the bytes of a regular file.

  Raises:
    OSError: if it cannot be read, is something else, such as a pipe or a
      device, for which one may wait for ever, or has more than `most` bytes.
  """
  if (size := size_of(path)) > most:
    raise OSError(0, f"it has {size:,} bytes", os.fspath(path))
  return pathlib.Path(path).read_bytes()


def size_of(path):
  """Returns the size of a regular file; raises OSError if it is none."""
  status = os.stat(path)
  if not stat.S_ISREG(status.st_mode):
    raise OSError(0, "it is not a regular file", os.fspath(path))
  return status.st_size


def read_json(path, check, advice, **options):
  """Returns what `check` makes of the JSON value in a small file.

  A file.jsonl has a value on each line: `check` gets them as a list. `options`
  are those of json.loads.

  Raises:
    DamagedFileError: if the file cannot be read, if it is not JSON, or if
      `check` fails. Its sentence ends with the advice.
  """
  try:
    text = read_file(path).decode()
    if os.fspath(path).endswith(".jsonl"):
      text = f"[{','.join(text.splitlines())}]"
    return check(parse_json(text, **options))
  except OSError as error:
    raise DamagedFileError(
      f"{path} cannot be read: {error.strerror}. {advice}"
    ) from None
  except (ValueError, TypeError, KeyError, AttributeError):
    raise DamagedFileError(
      f"{path} is damaged or was not written by this program. {advice}"
    ) from None


def parse_json(text, **options):
  """Returns a JSON value; raises ValueError for whatever is wrong with it.

  So it does for numbers that are not finite or too large for a float.
  """
  try:
    number = {"parse_int": _whole}
    number |= dict.fromkeys(("parse_float", "parse_constant"), _finite)
    return json.loads(text, **number, **options)
  except RecursionError:
    raise ValueError("it is nested too deeply") from None


def _whole(text):
  _finite(text)
  return int(text)


def _finite(text):
  if not math.isfinite(number := float(text)):
    raise ValueError(f"a number is not finite: {text[:20]}")
  return number


def same_path(one, other):
  """Says whether two paths name the same file or folder; None names none."""
  if one is None or other is None:
    return False
  return one == other or os.path.realpath(one) == os.path.realpath(other)


def open_text(path):
  """Opens a text that a flag names, to read its bytes; "-" is standard input.

  Raises OSError if it cannot be read, or if it is a device, which may never
  end, other than a terminal or the empty one.
  """
  name, closefd = (0, False) if path == "-" else (path, True)
  file = open(name, "rb", 1 << 18, closefd=closefd)  # noqa: SIM115
  status = os.fstat(file.fileno())
  is_device = stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)
  is_empty = status.st_rdev == os.stat(os.devnull).st_rdev
  if is_device and not is_empty and not file.isatty():
    file.close()
    raise OSError(0, "it is a device", path)
  return file


@contextlib.contextmanager
def new_file(path):
  """Yields a temporary name to write to; afterwards the file replaces `path`.

  If the block fails, `path` stays as it is and nothing is left beside it.
  """
  path = os.path.realpath(path)  # What a link points to, not the link.
  if os.path.exists(path) and not os.path.isfile(path):
    raise OSError(0, "it is not a regular file", path)
  temporary = path + ".tmp"
  try:
    with contextlib.suppress(FileNotFoundError):
      os.remove(temporary)  # Of a process that was killed, or a pipe.
    yield temporary
    with open(temporary, "rb+") as f:
      os.fsync(f.fileno())
    os.replace(temporary, path)
  except OSError as error:
    error.filename, error.filename2 = path, None  # Not the temporary name.
    raise
  finally:
    with contextlib.suppress(OSError):
      os.remove(temporary)


def write_file(path, content):
  """Writes a file, of bytes or of text as UTF-8, completely or not at all."""
  data = content.encode() if isinstance(content, str) else content
  with new_file(path) as temporary, open(temporary, "wb") as f:
    f.write(data)


@contextlib.contextmanager
def new_folder(path, flag):
  """Makes a folder that appears under its name only if the block succeeds.

  Yields its name until then. Raises NewFolderError, which names the flag that
  gave the path, if the folder exists, or cannot be made or written.
  """
  check_new_folder(path, flag)
  parent = os.path.dirname(os.path.abspath(path))
  # Named before it is made, so that a signal between the two cannot lose it.
  made = f"{parent}/.making-{secrets.token_hex(8)}"
  try:
    os.makedirs(parent, exist_ok=True)
    os.mkdir(made)
    yield made
    os.rename(made, path)
  except InputError:
    raise
  except OSError as error:
    raise NewFolderError(
      f"Cannot make the folder {flag}={path}: {error.strerror}."
    ) from None
  finally:
    shutil.rmtree(made, ignore_errors=True)


def check_new_folder(path, flag):
  """Raises NewFolderError if a folder of this name cannot be made."""
  if not path:
    raise NewFolderError(f"{flag} is missing: the folder to make.")
  if "://" in path:
    raise NewFolderError(f"{flag}={path} is not a local folder. Name one.")
  if os.path.lexists(path):
    raise NewFolderError(f"{flag}={path} exists already. Choose another name.")
