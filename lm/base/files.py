"""Reads JSON; writes files and folders completely or not at all."""

import contextlib
import json
import os
import pathlib
import secrets
import shutil

from lm.base.command import InputError, tell

_BUFFER = 1 << 18  # Bytes that are read at a time.


class NewFolderError(InputError, OSError):
  """The folder exists already or cannot be made."""


class DamagedFileError(InputError, ValueError):
  """A file is missing, unreadable, or not as this program wrote it."""


def read_json(path, convert, advice):
  """Reads the JSON value in a file; returns `convert(value)`.

  A .jsonl file has a value on each line; `convert` gets the list of them.

  Raises:
    DamagedFileError: if the file cannot be read, if it is not JSON, or if
      `convert` fails. Its message ends with the advice.
  """
  try:
    text = pathlib.Path(path).read_text("utf-8")
    if os.fspath(path).endswith(".jsonl"):
      text = f"[{','.join(text.splitlines())}]"
    return convert(json.loads(text))
  except OSError as error:
    raise DamagedFileError(
      f"{path} cannot be read: {error.strerror}. {advice}"
    ) from None
  except InputError as error:  # Of `convert`: it tells what is wrong.
    raise DamagedFileError(
      f"{path} is damaged or was written by another version of this program: "
      f"{error} {advice}"
    ) from None
  except (ValueError, TypeError, KeyError, AttributeError):
    raise DamagedFileError(
      f"{path} is damaged or was not written by this program. {advice}"
    ) from None


def same_path(one, other):
  """Returns whether two paths name the same file or folder; None names none."""
  if one is None or other is None:
    return False
  return os.path.realpath(one) == os.path.realpath(other)


def open_text(path):
  """Opens the text that a flag names as a binary file; "-" is standard input.

  Raises OSError if it cannot be read.
  """
  if path == "-":
    if os.isatty(0):
      tell("Type the text, then press Ctrl-D on an empty line.")
    return open(0, "rb", _BUFFER, closefd=False)
  return open(path, "rb", _BUFFER)


@contextlib.contextmanager
def new_file(path):
  """Yields a temporary name to write to; then the new file replaces `path`.

  If the block fails, `path` keeps its content, and the new file is removed.
  """
  path = os.path.realpath(path)  # The target of a link, not the link.
  temporary = path + ".tmp"
  try:
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
  """Writes bytes, or text as UTF-8, to a file: completely or not at all."""
  data = content.encode() if isinstance(content, str) else content
  with new_file(path) as temporary, open(temporary, "wb") as f:
    f.write(data)


@contextlib.contextmanager
def new_folder(path, flag):
  """Makes a folder that appears as `path` only if the block succeeds.

  Yields its temporary name. Raises NewFolderError, whose message names the flag
  that the path comes from, if the folder exists or cannot be made or written.
  """
  check_new_folder(path, flag)
  parent = os.path.dirname(os.path.abspath(path))
  # Named before it is made, so that a signal between the two cannot lose it.
  temporary = f"{parent}/.making-{secrets.token_hex(8)}"
  try:
    os.makedirs(parent, exist_ok=True)
    os.mkdir(temporary)
    yield temporary
    os.rename(temporary, path)
  except InputError:
    raise
  except OSError as error:
    if error.filename is None:  # Not about this folder, but about stdout.
      raise
    raise NewFolderError(
      f"Cannot create the folder {flag}={path}: {error.strerror}."
    ) from None
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def flush_to_disk(path):
  """Waits until a file, or the list of files in a folder, is on the disk."""
  if os.name == "nt" and os.path.isdir(path):
    return  # Windows cannot, and need not, sync a folder.
  fd = os.open(path, os.O_RDONLY)
  try:
    os.fsync(fd)
  finally:
    os.close(fd)


def check_new_folder(path, flag):
  """Raises NewFolderError if a folder of this name cannot be made."""
  if not path:
    raise NewFolderError(f"{flag} is missing: give the folder to create.")
  if "://" in path:
    raise NewFolderError(f"{flag}={path} is not a local folder. Choose one.")
  if os.path.lexists(path):
    raise NewFolderError(f"{flag}={path} already exists. Choose another name.")
