"""Reads JSON; writes files and folders completely or not at all."""

import contextlib
import json
import os
import pathlib
import secrets
import shutil

from lm.base.command import InputError


class NewFolderError(InputError, OSError):
  """The folder exists already or cannot be made."""


class DamagedFileError(InputError, ValueError):
  """A file that is missing, unreadable, or not as this program wrote it."""


def read_json(path, check, advice, **options):
  """Returns what `check` makes of the JSON value in a file.

  A file.jsonl has a value on each line: `check` gets them as a list. `options`
  are those of json.loads.

  Raises:
    DamagedFileError: if the file cannot be read, if it is not JSON, or if
      `check` fails. Its sentence ends with the advice.
  """
  try:
    text = pathlib.Path(path).read_text("utf-8")
    if os.fspath(path).endswith(".jsonl"):
      text = f"[{','.join(text.splitlines())}]"
    return check(json.loads(text, **options))
  except OSError as error:
    raise DamagedFileError(
      f"{path} cannot be read: {error.strerror}. {advice}"
    ) from None
  except (ValueError, TypeError, KeyError, AttributeError):
    raise DamagedFileError(
      f"{path} is damaged or was not written by this program. {advice}"
    ) from None


def same_path(one, other):
  """Says whether two paths name the same file or folder; None names none."""
  if one is None or other is None:
    return False
  return os.path.realpath(one) == os.path.realpath(other)


def open_text(path):
  """Opens a text that a flag names, to read its bytes; "-" is standard input.

  Raises OSError if it cannot be read.
  """
  name, closefd = (0, False) if path == "-" else (path, True)
  return open(name, "rb", 1 << 18, closefd=closefd)


@contextlib.contextmanager
def new_file(path):
  """Yields a temporary name to write to; afterwards the file replaces `path`.

  If the block fails, `path` stays as it is and nothing is left beside it.
  """
  path = os.path.realpath(path)  # What a link points to, not the link.
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
    if error.filename is None:  # It is not about this folder.
      raise
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
