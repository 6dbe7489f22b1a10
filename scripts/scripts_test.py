"""Tests of the scripts, as processes of their own, with a server of our own."""

import contextlib
import hashlib
import http.server
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time

import pytest

SCRIPTS = os.path.dirname(os.path.abspath(__file__))
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
# Runs the script with some of its constants changed.
RUN = """
import json, sys
sys.path.insert(0, sys.argv[1])
import download_ptb
vars(download_ptb).update(json.loads(sys.argv[2]))
sys.exit(download_ptb.main(sys.argv[3:]))
"""


def member(name, data=b"", **fields):
  info = tarfile.TarInfo(name)
  info.size = len(data)
  for field, value in fields.items():
    setattr(info, field, value)
  return info, data


def make_archive(members):
  file = io.BytesIO()
  with tarfile.open(fileobj=file, mode="w:gz") as archive:
    for info, data in members:
      archive.addfile(info, io.BytesIO(data))
  return file.getvalue()


def text_members(prefix="./simple-examples/data/", texts=TEXTS):
  return [member(prefix + name, text) for name, text in texts.items()]


# The padding, which gzip cannot shrink, makes room for cuts in the middle.
PADDING = member("./simple-examples/padding", os.urandom(300_000))
ARCHIVE = make_archive([PADDING, *text_members()])


class Handler(http.server.BaseHTTPRequestHandler):
  def do_GET(self):
    self.server.requests.append((self.path, self.headers.get("Range")))
    self.server.answer(self)

  def log_message(self, *args):
    pass


class Server(http.server.ThreadingHTTPServer):
  """Answers each GET with answer(handler) and lists (path, Range)."""

  def __init__(self, answer):
    super().__init__(("127.0.0.1", 0), Handler)
    self.answer = answer
    self.requests = []
    self.url = f"http://127.0.0.1:{self.server_port}/simple-examples.tgz"

  def handle_error(self, request, client_address):
    pass  # The client hung up, as some tests want.


@contextlib.contextmanager
def serving(answer):
  with Server(answer) as server:
    thread = threading.Thread(
      target=server.serve_forever, kwargs={"poll_interval": 0.02}
    )
    thread.start()
    try:
      yield server
    finally:
      server.shutdown()
      thread.join()


def send(handler, body, length=None, status=200, **headers):
  handler.send_response(status)
  handler.send_header("Content-Length", len(body) if length is None else length)
  for name, value in headers.items():
    handler.send_header(name.replace("_", "-"), value)
  handler.end_headers()
  handler.wfile.write(body)


def send_range(handler, body, most=None):
  """Answers as a server that knows Range, with `most` bytes and no more."""
  wanted = handler.headers.get("Range")
  start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted else 0
  if start and start >= len(body):
    send(handler, b"", status=416)
    return
  rest = body[start:]
  send(
    handler,
    rest[:most],
    length=len(rest),
    status=206 if wanted else 200,
    Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}",
  )


def whole(handler):
  send_range(handler, ARCHIVE)


def start_download(root, url=None, **constants):
  env = {**os.environ, "no_proxy": "*", "PTB_URL": url or ""}
  constants = {"HASHES": HASHES, **constants}
  return subprocess.Popen(
    [sys.executable, "-c", RUN, SCRIPTS, json.dumps(constants), str(root)],
    stderr=subprocess.PIPE,
    text=True,
    env=env,
  )


def finish(process):
  """Returns the exit status and what was told."""
  told = process.communicate(timeout=30)[1]
  assert "Traceback" not in told
  return process.returncode, told


def download(root, url=None, **constants):
  return finish(start_download(root, url, **constants))


def tree(root):
  """Returns {path: bytes} of all files below."""
  return {
    str(path.relative_to(root)): path.read_bytes()
    for path in root.rglob("*")
    if not path.is_dir()
  }


def placed(texts=TEXTS):
  return {f"simple-examples/data/{name}": text for name, text in texts.items()}


def place(root, texts=TEXTS):
  folder = root / "simple-examples/data"
  folder.mkdir(parents=True)
  for name, text in texts.items():
    (folder / name).write_bytes(text)
  return folder


def wait_for(condition):
  end = time.monotonic() + 10
  while not condition():
    assert time.monotonic() < end
    time.sleep(0.01)


# download_ptb.py: what it leaves in the folder.


@pytest.mark.parametrize("prefix", ["./", ""])
def test_the_three_texts_and_nothing_else(tmp_path, prefix):
  archive = make_archive(
    [PADDING, *text_members(prefix + "simple-examples/data/")]
  )
  with serving(lambda handler: send_range(handler, archive)) as server:
    status, told = download(tmp_path, server.url)
  assert status == 0
  assert told.splitlines() == [
    f"Fetching {server.url}",
    f"The Penn Treebank is in {tmp_path}/simple-examples/data",
  ]
  assert tree(tmp_path) == placed()


def test_what_is_there_is_not_fetched(tmp_path):
  place(tmp_path)
  status, told = download(tmp_path, NOWHERE)
  assert status == 0
  assert told == (
    f"The Penn Treebank is already in {tmp_path}/simple-examples/data\n"
  )


def test_only_what_is_wrong_is_replaced_and_it_is_kept(tmp_path):
  folder = place(tmp_path, {**TEXTS, "ptb.valid.txt": b"mine"})
  (folder / "ptb.valid.txt.bad").write_bytes(b"mine, too")
  (folder / "ptb.test.txt").unlink()
  inode = (folder / "ptb.train.txt").stat().st_ino
  with serving(whole) as server:
    status, told = download(tmp_path, server.url)
  assert status == 0
  assert f"{folder}/ptb.valid.txt is not PTB's" in told
  assert f"as {folder}/ptb.valid.txt.bad1" in told
  assert tree(folder) == {
    **TEXTS,
    "ptb.valid.txt.bad": b"mine, too",
    "ptb.valid.txt.bad1": b"mine",
  }
  assert (folder / "ptb.train.txt").stat().st_ino == inode


def test_a_folder_and_a_dangling_link_are_kept_aside(tmp_path):
  folder = place(tmp_path, {})
  (folder / "ptb.train.txt").mkdir()
  (folder / "ptb.valid.txt").symlink_to("gone")
  with serving(whole) as server:
    assert download(tmp_path, server.url)[0] == 0
  assert (folder / "ptb.train.txt.bad").is_dir()
  assert os.readlink(folder / "ptb.valid.txt.bad") == "gone"
  assert (folder / "ptb.valid.txt").read_bytes() == TEXTS["ptb.valid.txt"]


def test_what_is_wrong_stays_if_no_source_delivers(tmp_path):
  texts = {"ptb.train.txt": b"mine"}
  place(tmp_path, texts)
  assert download(tmp_path, NOWHERE)[0] == 1
  assert tree(tmp_path) == placed(texts)


# download_ptb.py: sources.


def test_sources_in_turn_and_a_reason_for_each(tmp_path):
  def answer(handler):
    name = os.path.basename(handler.path)
    if name in TEXTS:
      send_range(handler, TEXTS[name])
    else:
      send(handler, b"", status=404)

  with serving(answer) as server:
    folder = os.path.dirname(server.url) + "/"
    sources = [NOWHERE, server.url, folder]
    status, told = download(tmp_path, SOURCES=sources)
  assert status == 0
  assert told.splitlines() == [
    f"Fetching {NOWHERE}",
    "  failed: No such file or directory",
    f"Fetching {server.url}",
    "  failed: HTTP status 404",
    *(f"Fetching {folder}{name}" for name in TEXTS),
    f"The Penn Treebank is in {tmp_path}/simple-examples/data",
  ]
  assert tree(tmp_path) == placed()


def test_no_source_delivers(tmp_path):
  status, told = download(tmp_path, SOURCES=["http://127.0.0.1:1/", NOWHERE])
  assert status == 1
  assert "  failed: Connection refused" in told.splitlines()
  assert "Set PTB_URL" in told.splitlines()[-1]
  assert tree(tmp_path) == {}


def test_ptb_url_may_be_a_file_or_a_folder(tmp_path):
  (tmp_path / "my archive.tgz").write_bytes(ARCHIVE)
  texts = place(tmp_path)
  for i, url in enumerate([tmp_path / "my archive.tgz", f"{texts}/"]):
    root = tmp_path / str(i)
    assert download(root, f"file://{url}")[0] == 0
    assert tree(root) == placed()


@pytest.mark.parametrize(
  "url", ["/tmp/x.tgz", "ftp://127.0.0.1/x.tgz", "http://h:x/", "http://[/x"]
)
def test_ptb_url_is_no_address(tmp_path, url):
  status, told = download(tmp_path, url)
  assert status == 1
  assert len(told.splitlines()) == 3


@pytest.mark.parametrize(
  ("body", "reason"),
  [
    (b"", "no .tgz archive"),
    (b"<html>For sale!</html>" * 1000, "no .tgz archive"),
    (ARCHIVE[: len(ARCHIVE) // 2], "no .tgz archive"),
    (ARCHIVE[:20] + bytes(2000) + ARCHIVE[2020:], "no .tgz archive"),
    (make_archive([PADDING]), "it has no ptb.train.txt, ptb.valid.txt, "),
    (
      make_archive(text_members(texts={**TEXTS, "ptb.test.txt": b"other"})),
      "it has no ptb.test.txt with the right SHA-256",
    ),
  ],
)
def test_not_the_archive(tmp_path, body, reason):
  with serving(lambda handler: send_range(handler, body)) as server:
    status, told = download(tmp_path, server.url)
  assert status == 1
  assert f"  failed: {reason}" in told
  assert tree(tmp_path) == {}


def test_not_http(tmp_path):
  def answer(handler):
    handler.wfile.write(b"\x1b[31m220 ready\r\n")

  with serving(answer) as server:
    status, told = download(tmp_path, server.url)
  assert status == 1
  assert "\x1b" not in told
  assert len(told.splitlines()) == 3


def test_endless_answers_end(tmp_path):
  def answer(handler):
    handler.send_response(200)
    handler.end_headers()
    while True:
      handler.wfile.write(bytes(10_000))

  with serving(answer) as server:
    status, told = download(tmp_path, server.url, MAX_DOWNLOAD=1_000_000)
  assert status == 1
  assert "  failed: longer than 1000000 bytes" in told
  assert tree(tmp_path) == {}


def test_an_announced_excess_is_not_awaited(tmp_path):
  def answer(handler):
    send(handler, ARCHIVE, length=10**12)

  with serving(answer) as server:
    status, told = download(tmp_path, server.url)
  assert status == 1
  assert "longer than 100000000 bytes" in told


# download_ptb.py: archives that mean harm.


def hostile_members(root):
  text = TEXTS["ptb.train.txt"]
  name = "simple-examples/data/ptb.train.txt"
  link = {"type": tarfile.SYMTYPE, "linkname": f"{root}/secret"}
  hard = {"type": tarfile.LNKTYPE, "linkname": "../secret"}
  return [
    member("../evil", text),
    member("simple-examples/data/../../../evil", text),
    member(f"{root}/evil", text),
    member("/" + name, text),
    member("././" + name, text),
    member("ptb.train.txt", text),
    member(name, **link),
    member(name, **hard),
    member(name, type=tarfile.DIRTYPE),
    member(name, type=tarfile.FIFOTYPE),
    member("simple-examples/data", **link),
  ]


def test_members_that_point_elsewhere_are_passed_over(tmp_path):
  root = tmp_path / "root"
  (tmp_path / "secret").write_bytes(TEXTS["ptb.train.txt"])
  harm = hostile_members(tmp_path)
  for members, expected in [
    (harm, {}),
    ([*harm, *text_members()], placed()),
  ]:
    (tmp_path / "x.tgz").write_bytes(make_archive(members))
    status, _ = download(root, f"file://{tmp_path}/x.tgz")
    assert status == (0 if expected else 1)
    assert tree(root) == expected
    assert sorted(os.listdir(tmp_path)) == ["root", "secret", "x.tgz"]


def test_archives_that_unpack_without_end(tmp_path):
  bomb = make_archive([member("bomb", bytes(3_000_000)), *text_members()])
  (tmp_path / "x.tgz").write_bytes(bomb)
  url = f"file://{tmp_path}/x.tgz"
  status, told = download(tmp_path / "a", url, MAX_UNPACKED=2_000_000)
  assert status == 1
  assert "unpacked it has more than 2000000 bytes" in told
  assert download(tmp_path / "b", url, MAX_TEXT=1000)[0] == 1


# download_ptb.py: broken downloads.


def test_a_cut_off_download_is_resumed(tmp_path):
  most = 100_000
  with serving(lambda handler: send_range(handler, ARCHIVE, most)) as server:
    status, _ = download(tmp_path, server.url)
  assert status == 0
  assert tree(tmp_path) == placed()
  starts = range(most, len(ARCHIVE), most)
  assert [wanted for _, wanted in server.requests] == [
    None,
    *(f"bytes={start}-" for start in starts),
  ]


def test_no_more_tries_than_bring_something(tmp_path):
  def answer(handler):
    send_range(handler, ARCHIVE, 0 if handler.headers.get("Range") else 1000)

  with serving(answer) as server:
    status, told = download(tmp_path, server.url)
  assert status == 1
  assert f"  failed: ended after 1000 of {len(ARCHIVE)} bytes" in told
  assert len(server.requests) == 2
  assert tree(tmp_path) == {"simple-examples.tgz.part": ARCHIVE[:1000]}


def test_tries_are_counted(tmp_path):
  with serving(lambda handler: send_range(handler, ARCHIVE, 9)) as server:
    assert download(tmp_path, server.url, TRIES=5)[0] == 1
  assert len(server.requests) == 5


def test_a_server_without_ranges_starts_over(tmp_path):
  def answer(handler):
    first = len(server.requests) == 1
    send(handler, ARCHIVE[: 100_000 if first else None], length=len(ARCHIVE))

  with serving(answer) as server:
    assert download(tmp_path, server.url)[0] == 0
  assert [wanted for _, wanted in server.requests] == [None, "bytes=100000-"]
  assert tree(tmp_path) == placed()


def test_a_server_that_sends_another_range(tmp_path):
  def answer(handler):
    if handler.headers.get("Range"):
      send(handler, b"x", status=206, Content_Range="bytes 7-7/8")
    else:
      send_range(handler, ARCHIVE)

  (tmp_path / "simple-examples.tgz.part").write_bytes(ARCHIVE[:1000])
  with serving(answer) as server:
    assert download(tmp_path, server.url)[0] == 0
  assert tree(tmp_path) == placed()


@pytest.mark.parametrize(
  ("part", "requests"),
  [
    (b"garbage", ["bytes=7-", None]),
    (bytes(400_000), ["bytes=400000-", None]),
    (ARCHIVE, [f"bytes={len(ARCHIVE)}-"]),
    (b"", [None]),
  ],
)
def test_the_part_is_garbage_or_complete(tmp_path, part, requests):
  (tmp_path / "simple-examples.tgz.part").write_bytes(part)
  with serving(whole) as server:
    assert download(tmp_path, server.url)[0] == 0
  assert [wanted for _, wanted in server.requests] == requests
  assert tree(tmp_path) == placed()


@pytest.mark.parametrize(
  ("signum", "expected"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)]
)
def test_a_stopped_script_resumes(tmp_path, signum, expected):
  stopped = threading.Event()

  def answer(handler):
    first = len(server.requests) == 1
    send_range(handler, ARCHIVE, 100_000 if first else None)
    if first:
      stopped.wait(10)

  part = tmp_path / "simple-examples.tgz.part"
  with serving(answer) as server:
    process = start_download(tmp_path, server.url)
    # The tail of what was sent may still be in the buffer of the file.
    wait_for(lambda: part.exists() and part.stat().st_size > 50_000)
    process.send_signal(signum)
    assert finish(process)[0] == expected
    stopped.set()
    kept = part.stat().st_size
    assert download(tmp_path, server.url)[0] == 0
  assert [wanted for _, wanted in server.requests] == [None, f"bytes={kept}-"]
  assert tree(tmp_path) == placed()


def test_a_silent_server_is_left(tmp_path):
  done = threading.Event()

  def answer(handler):
    send_range(handler, ARCHIVE, 0 if handler.headers.get("Range") else 1000)
    done.wait(10)

  with serving(answer) as server:
    status, told = download(tmp_path, server.url, TIMEOUT=0.5)
    done.set()
  assert status == 1
  assert "  failed: broke off: no answer within 0.5 seconds" in told
  assert tree(tmp_path) == {"simple-examples.tgz.part": ARCHIVE[:1000]}


def test_a_slow_server_is_left(tmp_path):
  def answer(handler):
    for i in range(200):
      if i == 0:
        send_range(handler, ARCHIVE, 1)
      handler.wfile.write(ARCHIVE[i + 1 : i + 2])
      time.sleep(0.02)

  with serving(answer) as server:
    status, told = download(tmp_path, server.url, TIMEOUT=0.3)
  assert status == 1
  assert "  failed: less than 1000 bytes per second" in told


def test_two_at_once_download_once(tmp_path):
  go_on = threading.Event()

  def answer(handler):
    send_range(handler, ARCHIVE, 1000)
    go_on.wait(10)
    handler.wfile.write(ARCHIVE[1000:])

  with serving(answer) as server:
    first = start_download(tmp_path, server.url)
    wait_for(lambda: server.requests)
    second = start_download(tmp_path, server.url)
    assert second.stderr.readline().startswith("Waiting for another download")
    go_on.set()
    assert finish(first)[0] == 0
    status, told = finish(second)
  assert status == 0
  assert "already in" in told
  assert len(server.requests) == 1


# download_ptb.py: folders that cannot be used.


@pytest.mark.parametrize("path", ["file", "file/below"])
def test_the_folder_is_a_file(tmp_path, path):
  (tmp_path / "file").write_bytes(b"mine")
  status, told = download(tmp_path / path, NOWHERE)
  assert status == 1
  assert re.fullmatch("Cannot use .*: Not a directory. Mend .* DIR\n", told)
  assert tree(tmp_path) == {"file": b"mine"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_the_folder_is_read_only(tmp_path):
  tmp_path.chmod(0o555)
  status, told = download(tmp_path, NOWHERE)
  assert status == 1
  assert re.fullmatch("Cannot use .*: Permission denied. Mend .* DIR\n", told)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="of Linux")
def test_the_disk_is_full(tmp_path):
  (tmp_path / "simple-examples.tgz.part").symlink_to("/dev/full")
  with serving(whole) as server:
    status, told = download(tmp_path, server.url)
  assert status == 1
  assert re.search(
    "\nCannot use .*: No space left on device. Mend .* DIR\n$", told
  )


# The shell scripts, in a project of their own in a folder with a space.

STUB_PYTHON = """#!/usr/bin/env bash
# Python but for two modules: venv copies this stub, pip tells what it is asked.
case "${1-} ${2-}" in
  "-m venv")
    rm -rf "${@: -1}"
    mkdir -p "${@: -1}/bin"
    cp "$0" "${@: -1}/bin/python"
    ;;
  "-m pip") echo "pip: ${*: -1}" && exit "${PIP_STATUS-0}" ;;
  *) exec "$REAL_PYTHON" "$@" ;;
esac
"""
STUBS = {
  "requirements.txt": "",
  "requirements-dev.txt": "-r requirements.txt\n",
  "ptb_word_lm.py": "import sys\nprint('ptb_word_lm.py', *sys.argv[1:])\n",
  "lm/sample_corpus.py": """
import os, sys
print("lm/sample_corpus.py", *sys.argv[1:])
os.mkdir(sys.argv[1])
for part in ("train", "valid", "test"):
  with open(f"{sys.argv[1]}/ptb.{part}.txt", "w") as file:
    file.write("a word")
""",
}


class Project:
  def __init__(self, root):
    self.root = root
    self.bin = root.parent / "bin"
    self.env = {
      "PATH": f"{self.bin}:/usr/bin:/bin",
      "PTB_URL": NOWHERE,
      "REAL_PYTHON": sys.executable,
    }
    shutil.copytree(SCRIPTS, root / "scripts")
    for name, text in STUBS.items():
      (root / name).write_text(text)
    self.bin.mkdir()
    for name in ("python3", "python3.13", "python3.12", "python3.11"):
      self.stub(name, "exit 1")
    self.stub("python3.10", STUB_PYTHON)

  def stub(self, name, text):
    path = self.bin / name
    path.write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)

  def run(self, script, *args, cwd="/", **env):
    """Returns the exit status, the lines of stdout and those of stderr."""
    done = subprocess.run(
      [self.root / "scripts" / script, *args],
      cwd=cwd,
      env={**self.env, **env},
      capture_output=True,
      text=True,
      timeout=300,
      check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()


@pytest.fixture
def project(tmp_path):
  return Project(tmp_path / "a project")


def test_no_python_fits(project):
  project.stub("python3.10", "exit 1")
  for script in ("download_ptb.sh", "train.sh", "test.sh"):
    status, out, err = project.run(script)
    assert (status, out) == (1, [])
    assert err[-1].startswith("There is no Python 3.10, 3.11, 3.12 or 3.13 on")
  assert not (project.root / ".venv").exists()


def test_the_first_python_that_fits(project):
  wrong = 'case "$*" in *version_info*) exit 1 ;; *) exit 0 ;; esac'
  project.stub("python3", wrong)
  project.stub("other", STUB_PYTHON)
  assert project.run("find_python.sh")[1] == [f"{project.bin}/python3.10"]
  for name in ("other", f"{project.bin}/other"):
    out = project.run("find_python.sh", PYTHON=name)[1]
    assert out == [f"{project.bin}/other"]
  out = project.run("find_python.sh", PYTHON="python2")[1]
  assert out == [f"{project.bin}/python3.10"]


def test_download_ptb_takes_no_other_arguments(project):
  for args in (["--fast"], ["a", "b"]):
    status, out, err = project.run("download_ptb.sh", *args)
    assert (status, out) == (2, [])
    assert err[0] == "usage: download_ptb.sh [-h] [DIR]"


def test_download_ptb_goes_to_the_project_root_unless_told(project, tmp_path):
  for args, root in (([], project.root), (["an other"], tmp_path / "an other")):
    status, _, err = project.run("download_ptb.sh", *args, cwd=tmp_path)
    assert status == 1
    assert f"into {root}/simple-examples/data yourself." in err[-1]


def test_no_venv_module(project):
  project.stub(
    "python3.10", 'case "$*" in *ensurepip*) exit 1 ;; *) exit 0 ;; esac'
  )
  status, _, err = project.run("setup_venv.sh", "requirements.txt")
  assert status == 1
  assert f"{project.bin}/python3.10 has no venv module" in err[-1]
  assert "python3-venv" in err[-1]


def setup_venv(project, requirements, **env):
  """Returns the exit status, what pip was asked for, and what was told."""
  status, out, err = project.run("setup_venv.sh", requirements, **env)
  return status, [os.path.basename(line) for line in out], err


def test_pip_runs_only_for_what_is_new(project):
  status, asked, err = setup_venv(project, "requirements.txt")
  assert (status, asked) == (0, ["requirements.txt"])
  assert err == [
    "Making .venv and installing TensorFlow (a few minutes the first time)."
  ]
  assert setup_venv(project, "requirements.txt") == (0, [], [])
  assert setup_venv(project, "requirements-dev.txt")[1] == [
    "requirements-dev.txt"
  ]
  for requirements in ("requirements-dev.txt", "requirements.txt"):
    assert setup_venv(project, requirements) == (0, [], [])
  (project.root / "requirements.txt").write_text("tqdm\n")
  assert setup_venv(project, "requirements-dev.txt")[1] == [
    "requirements-dev.txt"
  ]
  assert setup_venv(project, "requirements.txt") == (0, [], [])


def test_a_failed_install_is_repaired(project):
  status, _, err = setup_venv(project, "requirements-dev.txt", PIP_STATUS="1")
  assert status == 1
  assert err[-1].startswith("pip could not install requirements-dev.txt into")
  for requirements in ("requirements-dev.txt", "requirements.txt"):
    shutil.rmtree(project.root / ".venv")
    assert setup_venv(project, requirements, PIP_STATUS="1")[0] == 1
    assert setup_venv(project, requirements)[1] == [requirements]
  (project.root / "requirements.txt").write_text("tqdm\n")
  assert setup_venv(project, "requirements.txt", PIP_STATUS="1")[0] == 1
  (project.root / "requirements.txt").write_text("")
  assert setup_venv(project, "requirements.txt")[1] == ["requirements.txt"]


@pytest.mark.parametrize("python", [None, "exit 1", "gone"])
def test_a_broken_venv_is_made_anew(project, python):
  setup_venv(project, "requirements.txt")
  path = project.root / ".venv/bin/python"
  path.unlink()
  if python == "gone":
    path.symlink_to("/nonexistent/python3.10")
  elif python:
    path.write_text(f"#!/bin/sh\n{python}\n")
    path.chmod(0o755)
  status, asked, err = setup_venv(project, "requirements.txt")
  assert (status, asked) == (0, ["requirements.txt"])
  assert err[0].startswith("The present .venv does not work")
  assert setup_venv(project, "requirements.txt") == (0, [], [])


def test_a_real_venv(project):
  env = {"PYTHON": sys.executable}
  assert setup_venv(project, "requirements.txt", **env)[0] == 0
  assert setup_venv(project, "requirements.txt", **env) == (0, [], [])
  status, out, _ = project.run("train.sh", "--help")
  assert (status, out) == (0, ["ptb_word_lm.py --help"])


def test_train_with_ptb(project):
  place(project.root)
  known = f"\nHASHES = {HASHES}\n\n\nclass SourceError"
  path = project.root / "scripts/download_ptb.py"
  path.write_text(path.read_text().replace("\n\nclass SourceError", known))
  status, out, err = project.run("train.sh", "--model=medium", "--seed", "1")
  assert status == 0
  assert out[1:] == [
    f"ptb_word_lm.py --data_path={project.root}"
    "/simple-examples/data --model=medium --seed 1"
  ]
  assert "is already in" in err[-1]


def test_train_without_ptb_takes_the_sample_corpus(project):
  sample = project.root / "sample-corpus"
  ran = f"ptb_word_lm.py --data_path={sample}"
  status, out, err = project.run("train.sh")
  assert status == 0
  assert out[1:] == [f"sample_corpus.py {sample}", ran]
  assert err[-1].endswith("its perplexities are not PTB's.")
  assert project.run("train.sh")[:2] == (0, [ran])


@pytest.mark.parametrize(
  "flags",
  [
    ["--data_path=my corpus"],
    ["--data_path", "my corpus"],
    ["-data_path=x"],
    ["--seed=1", "-data_path", "x"],
    ["--help"],
    ["-helpfull"],
    ["-?"],
  ],
)
def test_train_fetches_nothing_needlessly(project, flags):
  status, out, err = project.run("train.sh", *flags)
  assert status == 0
  assert out[1:] == [f"ptb_word_lm.py {' '.join(flags)}"]
  assert len(err) == 1


def test_train_stops_at_the_first_failure(project):
  assert project.run("train.sh", PIP_STATUS="1")[0] == 1
  (project.root / "lm/sample_corpus.py").write_text("raise SystemExit(3)")
  status, out, _ = project.run("train.sh")
  assert status == 3
  assert "ptb_word_lm.py" not in "".join(out)
  project.stub("python3.10", STUB_PYTHON)
  (project.root / "scripts/download_ptb.py").write_text("raise SystemExit(130)")
  status, out, _ = project.run("train.sh")
  assert (status, out) == (130, [])


def test_train_runs_in_the_current_folder(project, tmp_path):
  (project.root / "ptb_word_lm.py").write_text("import os; print(os.getcwd())")
  status, out, _ = project.run("train.sh", "--data_path=x", cwd=tmp_path)
  assert (status, out[1:]) == (0, [str(tmp_path)])


def test_test_runs_pytest_in_the_project_root(project, tmp_path):
  (project.root / "a_test.py").write_text(
    "import os\ndef test_it(): assert os.path.exists('ptb_word_lm.py')\n"
  )
  args = ["-p", "no:cacheprovider", "-q", "a_test.py"]
  status, out, _ = project.run("test.sh", *args, cwd=tmp_path)
  assert status == 0
  assert "1 passed" in out[-1]
  assert project.run("test.sh", *args, "-k", "no_such")[0] == 5


def test_the_real_ptb_and_the_real_hashes(tmp_path, ptb_data):
  texts = {}
  for name in TEXTS:
    with open(os.path.join(ptb_data, name), "rb") as file:
      texts[name] = file.read()
  archive = make_archive([PADDING, *text_members(texts=texts)])
  (tmp_path / "real.tgz").write_bytes(archive)
  most = 1_000_000
  with serving(lambda handler: send_range(handler, archive, most)) as server:
    for i, url in enumerate([server.url, f"file://{tmp_path}/real.tgz"]):
      root = tmp_path / str(i)
      done = subprocess.run(
        [os.path.join(SCRIPTS, "download_ptb.sh"), root],
        env={**os.environ, "no_proxy": "*", "PTB_URL": url},
        check=False,
      )
      assert done.returncode == 0
      assert tree(root) == placed(texts)
  assert len(server.requests) == -(-len(archive) // most)
