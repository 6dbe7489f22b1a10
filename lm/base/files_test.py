"""Tests of files.py."""

import os
import pathlib

import pytest

from lm.base.files import (
  DamagedFileError,
  NewFolderError,
  check_new_folder,
  new_file,
  new_folder,
  open_text,
  read_json,
  write_file,
)


@pytest.mark.parametrize("content", ["é\r\n", b"\xff\n"])
def test_a_file_is_replaced_at_the_end(tmp_path, content):
  path, link = tmp_path / "file", tmp_path / "link"
  path.write_text("old")
  link.symlink_to("file")
  write_file(str(link), content)
  expected = content.encode() if isinstance(content, str) else content
  assert path.read_bytes() == expected and link.is_symlink()
  with (
    pytest.raises(OSError, match="No space") as raised,
    new_file(str(link)) as temporary,
  ):
    pathlib.Path(temporary).write_text("half")
    raise OSError(28, "No space", temporary)
  assert raised.value.filename == str(path)
  assert path.read_bytes() == expected
  assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "link"]


GOOD = '{"a": 1.5, "b": 2}'
DAMAGED = ("", "{", "[]", "null", '{"a": 1}', GOOD.encode("utf-16"), b"\xff")
DAMAGED += (GOOD.replace("2", '"x"'),)


@pytest.mark.parametrize("content", DAMAGED)
@pytest.mark.parametrize("name", ["x.json", "x.jsonl"])
def test_every_damage_gets_the_same_sentence(tmp_path, content, name):
  def convert(value):
    return value["a"] + value["b"]

  path = tmp_path / name
  write_file(path, content)
  with pytest.raises(DamagedFileError) as raised:
    read_json(path, convert, "Remove it.")
  assert str(raised.value) == (
    f"{path} is damaged or was not written by this program. Remove it."
  )


def test_files_that_are_intact(tmp_path):
  write_file(tmp_path / "x.json", GOOD)
  write_file(tmp_path / "x.jsonl", f"{GOOD}\n{GOOD}\n")
  value = {"a": 1.5, "b": 2}
  assert read_json(tmp_path / "x.json", dict, "") == value
  assert read_json(tmp_path / "x.jsonl", list, "") == [value, value]


def test_files_that_cannot_be_read(tmp_path):
  for name, reason in (("none", "No such file or"), (".", "Is a directory")):
    with pytest.raises(DamagedFileError, match=rf"cannot be read: {reason}"):
      read_json(tmp_path / name, dict, "Remove it.")


def test_a_text_can_be_a_pipe():
  read, write = os.pipe()
  os.write(write, b"text")
  os.close(write)
  with open_text(f"/dev/fd/{read}") as file:
    assert file.read() == b"text"
  os.close(read)


def test_the_folder_is_there_after_the_block(tmp_path):
  path = tmp_path / "deep" / "new"
  with new_folder(str(path), "--output") as temporary:
    pathlib.Path(temporary, "file").write_text("x")
    assert not path.exists()
  assert [p.name for p in path.parent.iterdir()] == ["new"]
  assert (path / "file").read_text() == "x"
  umask = os.umask(0)
  os.umask(umask)
  assert path.stat().st_mode & 0o777 == 0o777 & ~umask


@pytest.mark.parametrize(
  "error", [KeyboardInterrupt, OSError(28, "No space", "x")]
)
def test_an_error_leaves_nothing(tmp_path, error):
  with (
    pytest.raises((KeyboardInterrupt, NewFolderError)) as raised,
    new_folder(str(tmp_path / "new"), "--output") as temporary,
  ):
    pathlib.Path(temporary, "file").write_text("x")
    raise error
  assert not list(tmp_path.iterdir())
  if raised.type is NewFolderError:
    assert str(raised.value) == (
      f"Cannot create the folder --output={tmp_path}/new: No space."
    )


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_terminal_is_told_to_type(monkeypatch, capsys, is_terminal):
  monkeypatch.setattr("os.isatty", lambda descriptor: is_terminal)
  open_text("-").close()
  sentence = "Type the text, then press Ctrl-D on an empty line.\n"
  assert capsys.readouterr().err == sentence * is_terminal


def test_nothing_is_replaced(tmp_path):
  (tmp_path / "file").write_text("x")
  (tmp_path / "link").symlink_to("nowhere")
  for path, message in (
    (None, "^--output is missing"),
    ("", "^--output is missing"),
    (str(tmp_path), "already exists. Choose another"),
    (str(tmp_path / "file"), "already exists. Choose another"),
    (str(tmp_path / "link"), "already exists. Choose another"),
    (str(tmp_path / "file" / "x"), "Cannot create the folder --output=.*: "),
  ):
    with (
      pytest.raises(NewFolderError, match=message),
      new_folder(path, "--output"),
    ):
      pytest.fail("It was made.")
  assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "link"]
  check_new_folder(str(tmp_path / "new"), "--output")


def test_what_came_in_between_is_not_replaced(tmp_path):
  path = tmp_path / "new"
  with (
    pytest.raises(NewFolderError, match="Directory not empty"),
    new_folder(str(path), "--output"),
  ):
    path.mkdir()
    (path / "file").write_text("x")
  assert [p.name for p in tmp_path.iterdir()] == ["new"]
  assert (path / "file").read_text() == "x"
