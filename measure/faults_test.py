"""Tests of faults.py: it notices bad answers, and some of its cases."""

import random
import shutil

import faults
import pytest

from conftest import OLD_RUN, TINY

FILES = {"run/config.json": "1", "run/model.ckpt-1.index": "2"}
GOOD = {
  "status": 1,
  "out": "",
  "err": "score.py: It is damaged. Remove it.\n",
  "seconds": 1.0,
  "before": FILES,
  "after": FILES,
}
USUAL = faults.Answer(0, "perplexity 5.0\n", "", 1.0, FILES, {"out/ids": "1"})
OTHER = {"status": 0, "out": "perplexity 6.0\n"}
TRACEBACK = "Traceback (most recent call last):\nKeyError: 'a'."


def faults_of(name="score", **answer):
  case = faults.Case(name, "run/config.json is empty")
  return [*faults.faults_of(case, faults.Answer(**GOOD | answer), USUAL)]


def test_good_answers():
  assert not faults_of()
  assert not faults_of(status=0, out=USUAL.out, err="")
  assert not faults_of(**OTHER, err="Taking another.\n")


@pytest.mark.parametrize(
  ("answer", "fault"),
  [
    (dict(status=None), "it hangs"),
    (dict(status=-6), "its exit status -6"),
    (dict(err=TRACEBACK), "a traceback"),
    (dict(err="Fatal Python error: Aborted."), "a traceback"),
    (dict(err=""), "no sentence"),
    (dict(err="oops\n"), "no sentence"),
    (dict(err="It is so.\n" * 9), "too many lines"),
    (dict(**OTHER, err=""), "other numbers, and no warning"),
    (dict(after={**FILES, "run/x.tmp": "3"}), "it leaves run/x.tmp"),
    (dict(after={**FILES, "out/half": "3"}), "it leaves an incomplete folder"),
    (dict(after={**FILES, "run/config.json": "0"}), "it changes run/config.js"),
    (dict(name="train", after={}), "it loses all checkpoints"),
  ],
)
def test_bad_answers_are_noticed(answer, fault):
  (found,) = faults_of(**answer)
  assert found.startswith(fault)


@pytest.mark.parametrize(
  ("status", "is_good"), [(-15, True), (143, True), (0, True), (139, False)]
)
def test_a_signal_is_a_good_end(status, is_good):
  case = faults.Case("score", signal=15)
  answer = faults.Answer(**GOOD | {"status": status, "err": ""})
  assert is_good != bool([*faults.faults_of(case, answer, USUAL)])


@pytest.fixture(scope="module")
def base(tmp_path_factory):
  folder = tmp_path_factory.mktemp("base")
  shutil.copytree(OLD_RUN, folder / "run")
  text = shutil.ignore_patterns("*.json", "model*", "checkpoint")
  shutil.copytree(TINY, folder / "text", ignore=text)
  return folder


def test_cases_are_tried(base):
  found = faults.cases(random.Random(1), base)
  assert {case.name for case in found} == {*faults.COMMANDS}
  for what, message in (
    ("run/config.json is cut off", "config.json is damaged"),
    ('"$@" >/dev/full', "cannot print: No space left on device"),
  ):
    case = next(case for case in found if str(case) == f"score, {what}")
    answer = faults.answer_to(case, base)
    assert not [*faults.faults_of(case, answer, USUAL)]
    assert answer.status == 1 and message in answer.err
