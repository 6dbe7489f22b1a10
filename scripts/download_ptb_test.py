"""Tests of download_ptb.py, with a server of our own."""

import contextlib
import functools
import hashlib
import http.server
import io
import os
import signal
import tarfile
import threading

import download_ptb
import pytest

TEXTS = {  # Made up, with no word of the PTB's.
  f"ptb.{part}.txt": f"zyx {part}\n".encode() * 300
  for part in ("train", "valid", "test")
}
HASHES = {
  name: hashlib.sha256(text).hexdigest() for name, text in TEXTS.items()
}
NOWHERE = "file:///nonexistent/simple-examples.tgz"


def make_archive():
  """Returns an archive with the texts and another file."""
  file = io.BytesIO()
  with tarfile.open(fileobj=file, mode="w:gz") as archive:
    for name, text in {"../../../evil": b"evil", **TEXTS}.items():
      member = tarfile.TarInfo(f"./simple-examples/data/{name}")
      member.size = len(text)
      archive.addfile(member, io.BytesIO(text))
  return file.getvalue()


ARCHIVE = make_archive()


@contextlib.contextmanager
def serving(answer):
  """Answers each GET with answer(handler); yields the server's URL."""

  class Handler(http.server.BaseHTTPRequestHandler):
    do_GET = answer  # noqa: N815

    def log_message(self, *args):
      pass

  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
  with server:
    server.handle_error = lambda *args: None  # The client may hang up.
    run = functools.partial(server.serve_forever, 0.02)
    threading.Thread(target=run, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def send(handler, body):
  handler.send_response(200)
  handler.end_headers()
  handler.wfile.write(body)


def place(root, texts=TEXTS):
  folder = root / "simple-examples/data"
  folder.mkdir(parents=True)
  for name, text in texts.items():
    (folder / name).write_bytes(text)
  return folder


@pytest.fixture
def download(tmp_path, monkeypatch, capfd):
  """A function: the sources to (exit status, lines of stderr, {name: text})."""
  root = tmp_path / "a root"
  folder = root / "simple-examples/data"

  def call(*sources, url=None):
    monkeypatch.setattr(download_ptb, "SOURCES", sources)
    monkeypatch.setenv("PTB_URL", url or "")
    status = download_ptb.main(["download_ptb.py", str(root)])
    out, err = capfd.readouterr()
    assert out == ""
    files = [path for path in folder.glob("*") if path.is_file()]
    texts = {path.name: path.read_bytes() for path in files}
    return status, err.splitlines(), texts

  monkeypatch.setattr(download_ptb, "HASHES", HASHES)
  monkeypatch.setattr(
    download_ptb, "ARCHIVE_HASH", f"md5:{hashlib.md5(ARCHIVE).hexdigest()}"
  )
  monkeypatch.setenv("no_proxy", "*")
  call.root, call.folder = root, folder
  return call


def test_the_three_texts_and_nothing_else(download, tmp_path):
  assert download(NOWHERE)[0] == 1
  assert not os.listdir(tmp_path)
  with serving(lambda handler: send(handler, ARCHIVE)) as url:
    url += "/simple-examples.tgz"
    told = [f"Fetching {url}", f"The Penn Treebank is in {download.folder}"]
    assert download(url) == (0, told, TEXTS)
  assert set(os.listdir(tmp_path)) == {"a root"}
  # What is there is not fetched again.
  told = [f"The Penn Treebank is already in {download.folder}"]
  assert download(NOWHERE) == (0, told, TEXTS)


def test_wrong_files_are_kept_aside(download, tmp_path):
  (tmp_path / "x.tgz").write_bytes(ARCHIVE)
  mine = {"ptb.train.txt": b"mine", "ptb.train.txt.bad1": b"older"}
  folder = place(download.root, {**mine, "ptb.test.txt": TEXTS["ptb.test.txt"]})
  (folder / "ptb.valid.txt").symlink_to("gone")
  inode = (folder / "ptb.test.txt").stat().st_ino
  assert download(NOWHERE)[2]["ptb.train.txt"] == b"mine"
  status, told, files = download(url=f"file://{tmp_path}/x.tgz")
  assert status == 0
  path = folder / "ptb.train.txt"
  assert f"{path} was not PTB's text: renamed to {path}.bad2" in told
  assert files == {
    **TEXTS,
    "ptb.train.txt.bad1": b"older",
    "ptb.train.txt.bad2": b"mine",
  }
  assert os.readlink(folder / "ptb.valid.txt.bad1") == "gone"
  assert (folder / "ptb.test.txt").stat().st_ino == inode


def test_sources_in_turn_and_a_reason_for_each(download):
  def answer(handler):
    folder, _, name = handler.path[1:].partition("/")
    if folder in ("other", "good") and name in TEXTS:
      send(handler, TEXTS[name] if folder == "good" else b"other")
    elif folder == "archive":
      send(handler, b"other")
    else:
      handler.send_error(404)

  with serving(answer) as url:
    sources = [NOWHERE, "http://127.0.0.1:1/", f"{url}/x", f"{url}/archive"]
    sources += [f"{url}/{folder}/" for folder in ("none", "other", "good")]
    status, told, files = download(*sources)
  assert (status, files) == (0, TEXTS)
  assert told[::2] == [f"Fetching {source}" for source in sources]
  reasons = ["No such file", "refused", "404", "MD5", "404", "SHA256"]
  for line, reason in zip(told[1:-1:2], reasons, strict=True):
    assert line.startswith("  failed: ") and reason in line


@pytest.mark.parametrize(
  ("url", "lines"),
  [("/tmp/x.tgz", 1), ("ftp://127.0.0.1/x.tgz", 1), ("http://h:x/", 3)],
)
def test_ptb_url_is_no_address(download, url, lines):
  status, told, _ = download(url=url)
  assert (status, len(told)) == (1, lines)


def test_silent_and_strange_servers(download, monkeypatch):
  monkeypatch.setattr(download_ptb, "TIMEOUT", 0.2)
  done = threading.Event()

  def answer(handler):
    if handler.path == "/strange":
      handler.wfile.write(b"\x1b[31m220 ready\r\n")
    else:
      send(handler, b"x")
      done.wait(10)

  with serving(answer) as url:
    status, told, files = download(f"{url}/strange", f"{url}/silent")
    done.set()
  assert (status, files) == (1, {})
  assert r"\x1b[31m220 ready" in told[1] and "timed out" in told[3]
  assert "Set PTB_URL" in told[4] and len(told) == 5


# The interrupted download leaves its temporary file to Python.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c(download):
  def answer(handler):
    send(handler, b"x")
    os.kill(os.getpid(), signal.SIGINT)

  with serving(answer) as url:
    assert download(url) == (130, [f"Fetching {url}", "Interrupted."], {})


def test_the_folder_is_a_file(download, tmp_path):
  (tmp_path / "x.tgz").write_bytes(ARCHIVE)
  download.root.write_bytes(b"mine")
  _, told, _ = download(url=f"file://{tmp_path}/x.tgz")
  assert told[1:] == [f"download_ptb.sh: {download.folder}: Not a directory."]


def test_what_came_meanwhile_stays(download, monkeypatch):
  """Another download has ended before this one."""

  def answer(handler):
    place(download.root)
    send(handler, ARCHIVE)

  with serving(answer) as url:
    url += "/simple-examples.tgz"
    told = [f"Fetching {url}", f"The Penn Treebank is in {download.folder}"]
    assert download(url) == (0, told, TEXTS)


def test_the_real_ptb_and_the_real_hashes(download, monkeypatch, ptb_data):
  monkeypatch.undo()
  status, _, files = download(url=f"file://{os.path.abspath(ptb_data)}/")
  assert status == 0 and files.keys() == TEXTS.keys()
