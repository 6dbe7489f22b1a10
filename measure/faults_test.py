"""Tests of faults.py: it notices bad answers, and some of its cases."""

import random
import signal

import faults
import pytest

GOOD = faults.Answer(1, "", "score.py: It is damaged. Remove it.\n", 1.0)
USUAL = faults.Answer(0, "perplexity 5.0\n", "", 1.0)
USUAL.files = {"out/ids": "1"}
FILES = {"run/config.json": "1", "run/model.ckpt-1.index": "2"}
TRACEBACK = "Traceback (most recent call last):\nKeyError: 'a'."


def faults_of(kind="run", name="score", after=FILES, streams="", **answer):
  case = faults.Case(kind, name, "", streams=streams)
  found = faults.Answer(**{**vars(GOOD), **answer})
  return faults.faults_of(case, found, USUAL, FILES, after)


@pytest.mark.parametrize(
  ("answer", "fault"),
  [
    (dict(), None),
    (dict(status=0, out="perplexity 5.0\n"), None),
    (dict(status=0, out="perplexity 6.0\n", err="Taking another.\n"), None),
    (dict(streams="2>&-", err=""), None),
    (dict(status=None), "it hangs"),
    (dict(status=-6), "its exit status"),
    (dict(status=134), "its exit status"),
    (dict(err=TRACEBACK), "a traceback"),
    (dict(err="Fatal Python error: Aborted."), "a traceback"),
    (dict(err=""), "no sentence"),
    (dict(err="oops\n"), "no sentence"),
    (dict(err="It is so.\n" * 9), "too many lines"),
    (dict(status=0, out="perplexity 6.0\n", err=""), "other numbers, and no w"),
    (dict(after={**FILES, "run/x.tmp": "3"}), "it leaves run/x.tmp"),
    (dict(after={**FILES, ".making-1/x": "3"}), "it leaves .making-1/x"),
    (dict(after={**FILES, "out/half": "3"}), "it leaves an incomplete folder"),
    (dict(after={**FILES, "run/config.json": "0"}), "it changes run/config.js"),
    (dict(after={}), "it changes run/config.json"),
    (dict(name="train", after={}), "it loses all checkpoints"),
  ],
)
def test_bad_answers_are_noticed(answer, fault):
  found = faults_of(**answer)
  assert len(found) == (fault is not None), found
  if fault:
    assert found[0].startswith(fault)


def test_a_signal_is_a_good_end():
  case = faults.Case("signal", "score", "", signals=(signal.SIGTERM,))
  for status in (-15, 143, 0, 1):
    answer = faults.Answer(status, "", "", 1.0)
    assert not faults.faults_of(case, answer, USUAL, FILES, FILES)
  assert faults.faults_of(
    case, faults.Answer(139, "", "", 1.0), USUAL, FILES, FILES
  )


@pytest.fixture(scope="module")
def base(tmp_path_factory):
  folder = tmp_path_factory.mktemp("base")
  faults.make_base(folder)
  return folder


def good_answer(case, base):
  """Returns the Answer of a case, which must be a good one."""
  answer, found = faults.try_case(case, base, USUAL)
  assert not found
  return answer


@pytest.mark.parametrize("name", ["evaluate", "score", "generate", "export"])
@pytest.mark.parametrize("kilobytes", [400_000, 1_600_000])
def test_too_little_memory(base, name, kilobytes):
  case = faults.Case("limit", name, "", limit=f"ulimit -v {kilobytes};")
  answer = good_answer(case, base)
  assert answer.status == 1
  assert "MB of memory are free, but TensorFlow needs 500 MB" in answer.err


@pytest.mark.parametrize(
  ("name", "args", "message"),
  [
    ("start", "--save_path=gs://x/y", "is not a local folder"),
    ("export", "--export_dir=ram://x", "is not a local folder"),
    ("plot", "--nonesuch", "Unknown command line flag 'nonesuch'"),
    ("score", "--file=/dev/zero", "it is a device"),
    ("prepare", "--text=/dev/zero", "it is a device"),
  ],
)
def test_flags(base, name, args, message):
  case = faults.Case("flag", name, "", args=(args,))
  answer = good_answer(case, base)
  assert answer.status in (1, 2) and message in answer.err


def test_a_wrong_backend_of_matplotlib_does_no_harm(base):
  case = faults.Case("environment", "plot", "", environment={"MPLBACKEND": "x"})
  assert good_answer(case, base).status == 0


@pytest.mark.parametrize(
  ("user", "name", "what"),
  [
    ("score", "run/config.json", "is a pipe"),
    ("score", "run/vocabulary.txt", "is an endless device"),
    ("start", "text/ptb.valid.txt", "is a pipe"),
    ("start", "text/preparation.json", "is an endless device"),
    ("plot", "run/epochs.jsonl", "is a pipe"),
  ],
)
def test_files_that_one_could_wait_for(base, user, name, what):
  def change(folder):
    faults.damage_file(name, faults.DAMAGES[what], True, folder)

  case = faults.Case(name.partition("/")[0], user, what, change=change)
  answer = good_answer(case, base)
  assert answer.status == 1
  assert f"{name} cannot be read: it is not a regular file" in answer.err


def test_cases_are_drawn_for_all_commands(base):
  found = faults.cases(random.Random(1), base)
  assert {case.name for case in found} == {*faults.COMMANDS}
  assert len(found) > 1500
