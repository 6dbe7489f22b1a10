"""Runs the programs of library.md in order, and compares what they print."""

import os
import pathlib
import subprocess
import sys

from tutorial_test import BLOCK, ROOT, check_output

from lm.text import sample_corpus

PAGE = (ROOT / "docs" / "library.md").read_text()
END = "-- end of a block --"


def test_page(tmp_path):
  """The programs are one process, which imports the modules from elsewhere."""
  sample_corpus.write_corpus(tmp_path / "sample-corpus")
  blocks = [b for b in BLOCK.findall(PAGE) if b[0] == "python"]
  program = "".join(f"{lines}\nprint({END!r})\n" for _, lines, *_ in blocks)
  pathlib.Path(tmp_path / "program.py").write_text(program)
  result = subprocess.run(
    [sys.executable, "program.py"],
    cwd=tmp_path,
    env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"},
    capture_output=True,
    text=True,
  )
  assert result.returncode == 0, result.stderr
  printed = result.stdout.split(END + "\n")
  for (_, lines, is_example, expected), output in zip(
    blocks, printed, strict=False
  ):
    if not is_example:
      check_output(expected, output)
    assert expected or not output, lines
