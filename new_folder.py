"""Folders that are made as a whole or not at all."""

import contextlib
import os
import secrets
import shutil

from command import InputError


class NewFolderError(InputError, OSError):
  """The folder is there already, or cannot be made."""


@contextlib.contextmanager
def new_folder(path, flag):
  """Makes a folder; it is there after the block, if that raises no error.

  Args:
    path: its name. It must not exist.
    flag: where the name comes from, as "--export_dir".

  Yields:
    The name that the folder has until then.

  Raises:
    NewFolderError: if it cannot be made; also for an OSError in the block.
  """
  check_new_folder(path, flag)
  parent = os.path.dirname(os.path.abspath(path))
  # Named before it is made: a signal between the two must not lose it.
  made = os.path.join(parent, f".making-{secrets.token_hex(8)}")
  try:
    os.makedirs(parent, exist_ok=True)
    os.mkdir(made, 0o700)
    yield made
    os.chmod(made, 0o777 & ~_umask())
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
  """Raises NewFolderError if there is something where the folder should be."""
  if not path:
    raise NewFolderError(f"{flag} is missing: the folder to make.")
  if os.path.lexists(path):
    raise NewFolderError(f"{flag}={path} is there already. Name another one.")


def _umask():
  """Returns the permissions that new files of this process lack."""
  mask = os.umask(0)
  os.umask(mask)
  return mask
