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
import filelock
import pytest

TEXTS = {  # Made up, with no word of the PTB's.
  f"ptb.{part}.txt": b"".join(
    b"%s zyx%d wvu%d\n" % (part.encode(), i, i * i) for i in range(300)
  )
  for part in ("train", "valid", "test")
}
HASHES = {
  name: hashlib.sha256(text).hexdigest() for name, text in TEXTS.items()
}
NOWHERE = "file:///nonexistent/simple-examples.tgz"


def make_archive(texts):
  """Returns an archive with more in it than is wanted."""
  file = io.BytesIO()
  with tarfile.open(fileobj=file, mode="w:gz") as archive:
    link = tarfile.TarInfo("simple-examples/data/ptb.train.txt")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    archive.addfile(link)
    for name, text in {"../../../evil": b"evil", **texts}.items():
      member = tarfile.TarInfo(f"./simple-examples/data/{name}")
      member.size = len(text)
      archive.addfile(member, io.BytesIO(text))
  return file.getvalue()


ARCHIVE = make_archive(TEXTS)


def hash_of(archive):
  return f"md5:{hashlib.md5(archive).hexdigest()}"


class Server(http.server.ThreadingHTTPServer):
  def handle_error(self, request, client_address):
    pass  # The client hung up, as some tests want.


@contextlib.contextmanager
def serving(answer):
  """Answers each GET with answer(handler); yields the server's URL."""

  class Handler(http.server.BaseHTTPRequestHandler):
    do_GET = answer  # noqa: N815

    def log_message(self, *args):
      pass

  with Server(("127.0.0.1", 0), Handler) as server:
    run = functools.partial(server.serve_forever, poll_interval=0.02)
    thread = threading.Thread(target=run)
    thread.start()
    try:
      yield f"http://127.0.0.1:{server.server_port}"
    finally:
      server.shutdown()
      thread.join()


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
  monkeypatch.setattr(download_ptb, "ARCHIVE_HASH", hash_of(ARCHIVE))
  monkeypatch.setenv("no_proxy", "*")
  monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
  monkeypatch.setattr(download_ptb.tempfile, "tempdir", None)
  (tmp_path / "temporary").mkdir()
  call.root, call.folder = root, folder
  yield call
  assert not os.listdir(tmp_path / "temporary")


def test_the_three_texts_and_nothing_else(download, tmp_path):
  with serving(lambda handler: send(handler, ARCHIVE)) as url:
    url += "/simple-examples.tgz"
    assert download(url) == (
      0,
      [f"Fetching {url}", f"The Penn Treebank is in {download.folder}"],
      TEXTS,
    )
  assert set(os.listdir(tmp_path)) == {"a root", "temporary"}
  # What is there is not fetched again.
  status, told, _ = download(NOWHERE)
  assert status == 0
  assert told == [f"The Penn Treebank is already in {download.folder}"]


def test_wrong_files_are_kept_aside(download, tmp_path):
  (tmp_path / "x.tgz").write_bytes(ARCHIVE)
  mine = {"ptb.train.txt": b"mine", "ptb.train.txt.bad1": b"older"}
  folder = place(download.root, {**mine, "ptb.test.txt": TEXTS["ptb.test.txt"]})
  (folder / "ptb.valid.txt").symlink_to("gone")
  inode = (folder / "ptb.test.txt").stat().st_ino
  status, _, files = download(NOWHERE)
  assert status == 1
  assert files["ptb.train.txt"] == b"mine"
  status, told, files = download(url=f"file://{tmp_path}/x.tgz")
  assert status == 0
  path = folder / "ptb.train.txt"
  assert f"{path} was not the Penn Treebank's: kept as {path}.bad2" in told
  assert files == {
    **TEXTS,
    "ptb.train.txt.bad1": b"older",
    "ptb.train.txt.bad2": b"mine",
  }
  assert os.readlink(folder / "ptb.valid.txt.bad1") == "gone"
  assert (folder / "ptb.test.txt").stat().st_ino == inode


def test_sources_in_turn_and_a_reason_for_each(download, tmp_path):
  other = {**TEXTS, "ptb.test.txt": b"other"}

  def answer(handler):
    folder, _, name = handler.path[1:].partition("/")
    if folder in ("other", "good") and name in TEXTS:
      send(handler, (other if folder == "other" else TEXTS)[name])
    elif folder == "archive":
      send(handler, make_archive(other))
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


def test_a_text_in_the_archive_is_not_the_one(download, monkeypatch):
  archive = make_archive({**TEXTS, "ptb.test.txt": b"other"})
  monkeypatch.setattr(download_ptb, "ARCHIVE_HASH", hash_of(archive))
  with serving(lambda handler: send(handler, archive)) as url:
    status, told, files = download(url)
  assert (status, files) == (1, {})
  assert told[1] == "  failed: ptb.test.txt is not the Penn Treebank's"
  assert "Set PTB_URL" in told[2] and len(told) == 3


@pytest.mark.parametrize(
  "url", ["/tmp/x.tgz", "ftp://127.0.0.1/x.tgz", "http://h:x/", "http://[/x"]
)
def test_ptb_url_is_no_address(download, url):
  status, told, _ = download(url=url)
  assert (status, len(told)) == (1, 3)


@pytest.mark.parametrize(
  ("parts", "reason"),
  [
    ([bytes(100_000)] * 100, "more than 500,000 bytes"),
    ([b"x"], "timed out"),
    ([b"x"] * 100, "less than 1,000 bytes per second"),
    (None, r"\x1b[31m220 ready"),
  ],
)
def test_endless_silent_slow_and_strange_servers(
  download, monkeypatch, parts, reason
):
  monkeypatch.setattr(download_ptb, "TIMEOUT", 0.2)
  monkeypatch.setattr(download_ptb, "MAX_SIZE", 500_000)
  done = threading.Event()

  def answer(handler):
    if not parts:
      handler.wfile.write(b"\x1b[31m220 ready\r\n")
      return
    send(handler, b"")
    for part in parts:
      handler.wfile.write(part)
      done.wait(0.01 if part == b"x" and len(parts) > 1 else 0)
    done.wait(10)

  with serving(answer) as url:
    status, told, files = download(url)
    done.set()
  assert (status, files) == (1, {})
  assert told[1].startswith("  failed: ") and reason in told[1]


def test_ctrl_c(download):
  def answer(handler):
    send(handler, b"x")
    os.kill(os.getpid(), signal.SIGINT)

  with serving(answer) as url:
    assert download(url) == (130, [f"Fetching {url}", "Interrupted."], {})


def test_the_second_call_waits_for_the_first(download, monkeypatch):
  lock = filelock.FileLock(place(download.root).parent / ".lock")
  told = []

  def tell(message):
    told.append(message)
    lock.release()

  monkeypatch.setattr(download_ptb.command, "tell", tell)
  with lock:
    assert download(NOWHERE)[0] == 0
  assert told == [
    f"Waiting for another download into {download.folder}",
    f"The Penn Treebank is already in {download.folder}",
  ]


def test_the_folder_is_a_file(download):
  download.root.write_bytes(b"mine")
  assert download(NOWHERE)[:2] == (
    1,
    [f"download_ptb.sh: {download.folder}: Not a directory."],
  )


def test_the_real_ptb_and_the_real_hashes(download, monkeypatch, ptb_data):
  monkeypatch.undo()
  assert download_ptb.wrong_texts(ptb_data) == []
  status, _, files = download(url=f"file://{os.path.abspath(ptb_data)}/")
  assert status == 0
  assert len(files) == 3 and files.keys() == TEXTS.keys()
