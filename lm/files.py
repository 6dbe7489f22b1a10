"""Files and folders that are written completely or not at all."""

import contextlib
import os
import secrets
import shutil

from lm.command import InputError


class NewFolderError(InputError, OSError):
  """The folder exists already or cannot be made."""


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
