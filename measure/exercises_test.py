"""Tests of exercises.py; docs/tutorial_test.py checks the exercises."""

from unittest import mock

import exercises
import processes
import pytest

from lm.base import command

PAGE = """
### 0. Start

```sh
.venv/bin/python ptb_word_lm.py --data_path=sample-corpus --model=small
.venv/bin/python ptb_word_lm.py --data_path=sample-corpus
```
### 1. Change it

```diff
--- a/lm/model/network.py
+++ b/lm/model/network.py
@@ -7,3 +7,3 @@
 from lm.base import tf1
-from lm.model.config import ConfigError
+from lm.model.config import ConfigError as Error
 from lm.model.rnn_modes import (
```
```sh
.venv/bin/python ptb_word_lm.py --data_path=sample-corpus
```
"""


def test_all_are_done_in_copies(call_command, monkeypatch, tmp_path):
  (tmp_path / "page.md").write_text(PAGE)
  monkeypatch.setattr(exercises, "PAGE", tmp_path / "page.md")
  started, changed = [], []
  name = "lm/model/network.py"

  def run(script, *args):
    started.append((script.name, *args))
    original = (exercises.ROOT / name).read_text()
    changed.append((script.parent / name).read_text() != original)
    out = "Epoch: 1 Valid Perplexity: 3.5\nEpoch: 2 Valid Perplexity: 2.5\n"
    return f"{out}Test Perplexity: 4.5\n"

  monkeypatch.setattr(processes, "run", run)
  status, out, err = call_command("exercises", "--data_path=/texts")
  command_line = "ptb_word_lm.py", "--data_path=/texts"
  assert (status, err) == (0, "")
  assert started == [(*command_line, "--model=small"), *[command_line] * 2]
  assert changed == [False, False, True]
  assert out.endswith(
    "Exercise 1: Change it\nptb_word_lm.py --data_path=sample-corpus\n"
    "  valid 2.5, test 4.5; 0 s\n"
  )


def test_a_diverged_training_is_a_result(call_command, monkeypatch):
  error = command.InputError("Epoch 1: the loss is not a finite number, or is")
  monkeypatch.setattr(processes, "run", mock.Mock(side_effect=error))
  status, out, err = call_command("exercises", "--data_path=/texts", "2", "8")
  assert (status, err) == (0, "")
  assert out.count(f"\n  {error}\n") == 2


def test_some_are_chosen():
  assert [e.number for e in exercises.choose(["7", "2"])] == ["7", "2"]
  with pytest.raises(
    command.InputError, match=r"exercise 99\. Choose from 0, 1,"
  ):
    exercises.choose(["2", "99"])


def test_a_failure_is_reported(call_command, tmp_path):
  status, _, err = call_command("exercises", f"--data_path={tmp_path}")
  assert status == 1 and err.count("\n") == 1
  assert "ptb.train.txt" in err
