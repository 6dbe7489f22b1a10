"""Runs the programs of library.md in order, and compares what they print."""

import contextlib
import io

import pytest
from tutorial_test import BLOCK, ROOT, check_output

from lm.text import sample_corpus

PAGE = (ROOT / "docs" / "library.md").read_text()


# TensorFlow warns of the cells that the page makes.
@pytest.mark.filterwarnings("ignore:.*is deprecated:UserWarning")
def test_page(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  sample_corpus.write_corpus("sample-corpus")
  names = {"__name__": "program"}
  outputs = 0
  for kind, lines, is_example, expected in BLOCK.findall(PAGE):
    if kind == "sh":
      continue
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
      exec(lines, names)
    if not is_example:
      check_output(expected, out.getvalue())
    outputs += bool(expected)
  assert outputs > 12
