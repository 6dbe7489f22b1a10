"""Tests of files.py."""

import os
import pathlib

import pytest

from lm.files import (
  NewFolderError,
  check_new_folder,
  new_file,
  new_folder,
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
  with pytest.raises(OSError, match="not a regular file"):
    write_file("/dev/null", content)


def test_the_folder_is_there_after_the_block(tmp_path):
  path = tmp_path / "deep" / "new"
  with new_folder(str(path), "--output") as made:
    pathlib.Path(made, "file").write_text("x")
    assert not path.exists()
  assert [p.name for p in path.parent.iterdir()] == ["new"]
  assert (path / "file").read_text() == "x"
  umask = os.umask(0)
  os.umask(umask)
  assert path.stat().st_mode & 0o777 == 0o777 & ~umask


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space")])
def test_an_error_leaves_nothing(tmp_path, error):
  with (
    pytest.raises((KeyboardInterrupt, NewFolderError)) as raised,
    new_folder(str(tmp_path / "new"), "--output") as made,
  ):
    pathlib.Path(made, "file").write_text("x")
    raise error
  assert not list(tmp_path.iterdir())
  if raised.type is NewFolderError:
    assert str(raised.value) == (
      f"Cannot make the folder --output={tmp_path}/new: No space."
    )


def test_nothing_is_replaced(tmp_path):
  (tmp_path / "file").write_text("x")
  (tmp_path / "link").symlink_to("nowhere")
  for path, message in (
    (None, "^--output is missing"),
    ("", "^--output is missing"),
    (str(tmp_path), "exists already. Choose another"),
    (str(tmp_path / "file"), "exists already. Choose another"),
    (str(tmp_path / "link"), "exists already. Choose another"),
    (str(tmp_path / "file" / "x"), "Cannot make the folder --output=.*: "),
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
