"""Tests of scripts/prepare_text.py."""

import hashlib
import json
import subprocess
import sys

import prepare_text
import pytest

import reader
from lm.text import preparation

LINES = [f"The word{i % 7} says {i}, and so on." for i in range(100)]


@pytest.fixture
def text(tmp_path):
  path = tmp_path / "text.txt"
  path.write_text("\n".join(LINES) + "\n\n  \n")
  return path


@pytest.fixture
def make(call_command, tmp_path):
  """A function: of flags to (status, stdout, stderr); makes tmp_path/new."""
  return lambda *args: call_command(
    "prepare_text", f"--output={tmp_path / 'new'}", *args
  )


def lines_of(tmp_path, part):
  text = (tmp_path / "new" / f"ptb.{part}.txt").read_text()
  assert text.endswith("\n")
  return text[:-1].split("\n")


def test_a_text_is_split_and_prepared(text, make, tmp_path):
  status, out, err = make(f"--text={text}", "--test_share=0.1")
  assert status == 0
  assert err.startswith("The training text has no <unk>, so a model with its")
  expected = [f"the word{i % 7} says N , and so on ." for i in range(100)]
  assert lines_of(tmp_path, "train") == expected[:85]
  assert lines_of(tmp_path, "valid") == expected[85:90]
  assert lines_of(tmp_path, "test") == expected[90:]
  new = tmp_path / "new"
  assert out == (
    f"{new}/ptb.train.txt: 85 lines, 765 words, 0.0% of them read as <unk>\n"
    f"{new}/ptb.valid.txt: 5 lines, 45 words, 0.0% of them read as <unk>\n"
    f"{new}/ptb.test.txt: 10 lines, 90 words, 0.0% of them read as <unk>\n"
    "Vocabulary: 16 words\n"
  )


def test_words_of_the_penn_treebank(text, make, tmp_path):
  status, _, err = make(f"--text={text}", "--tokenize=ptb", "--min_count=0")
  assert (status, err) == (0, "")
  assert lines_of(tmp_path, "train")[:2] == [
    "the word0 says N and so on", "the word1 says N and so on"
  ]  # fmt: skip
  assert not (tmp_path / "new" / "preparation.json").exists()


def test_all_words_stay(make, tmp_path):
  (tmp_path / "text.txt").write_text("a b a\nb a\nc\nd\n")
  flags = ["--valid_share=0.25", "--test_share=0.25", "--min_count=0"]
  status, _, err = make(f"--text={tmp_path / 'text.txt'}", *flags)
  assert (status, err) == (0, "")
  assert lines_of(tmp_path, "train") == ["a b a", "b a"]
  assert lines_of(tmp_path, "valid") == ["c"]
  assert lines_of(tmp_path, "test") == ["d"]
  description = json.loads((tmp_path / "new" / "preparation.json").read_text())
  assert (description["vocab_size"], description["min_count"]) == (None, 0)


def test_the_choices_are_written(text, make, tmp_path):
  make(f"--text={text}", "--number_word=", "--nolower_case", "--vocab_size=9")
  description = json.loads((tmp_path / "new" / "preparation.json").read_text())
  choices = {"lower_case": False, "number_word": "", "punctuation": "split"}
  choices["version"] = preparation.VERSION
  sha256 = hashlib.sha256(text.read_bytes()).hexdigest()
  assert description == {
    "preparation": choices,
    "vocab_size": 9,
    "min_count": 2,
    "sources": {"text": {"path": str(text), "sha256": sha256}},
    "lines": {"train": 90, "valid": 5, "test": 5},
  }
  choices = preparation.Preparation(**choices)
  assert preparation.read_preparation(tmp_path / "new") == choices


@pytest.mark.parametrize(
  ("args", "train", "valid", "size"),
  [
    ([], "b b b a a a c c <unk> <unk>", "a b c <unk> <unk>", 5),
    (["--min_count=1"], "b b b a a a c c d e", "a b c d <unk>", 6),
    (["--min_count=3"], "b b b a a a" + " <unk>" * 4,
     "a b <unk> <unk> <unk>", 4),
    (["--min_count=1", "--vocab_size=4"], "b b b a a a" + " <unk>" * 4,
     "a b <unk> <unk> <unk>", 4),
    # Words that are equally frequent are in alphabetical order.
    (["--vocab_size=3"], "<unk> <unk> <unk> a a a" + " <unk>" * 4,
     "a <unk> <unk> <unk> <unk>", 3),
  ],
)  # fmt: skip
def test_the_vocabulary_is_the_training_texts(
  make, tmp_path, args, train, valid, size
):
  texts = {"train": "b b b a a a c c d e", "valid": "a b c d x", "test": "a c"}
  for part, text in texts.items():
    (tmp_path / part).write_text(text)
  names = [f"--{part}={tmp_path / part}" for part in texts]
  status, out, err = make(*names, *args)
  assert status == 0
  assert lines_of(tmp_path, "train") == [train]
  assert lines_of(tmp_path, "valid") == [valid]
  assert out.endswith(f"Vocabulary: {size} words\n")
  assert ("has no <unk>" in err) == ("<unk>" not in train)


def test_it_runs_as_a_command_and_can_be_trained_on(text, tmp_path):
  args = [f"--text={text}", "--output=new", "--vocab_size=10"]
  command = [sys.executable, prepare_text.__file__, *args]
  done = subprocess.run(command, cwd=tmp_path, capture_output=True)
  assert (done.returncode, done.stderr) == (0, b"")
  corpus = reader.read_corpus(str(tmp_path / "new"))
  assert (len(corpus.vocabulary), len(corpus.train)) == (10, 90 * 10)


RAW = {
  "train": 'The cat sat.\n\n"Well-known" cats: 3,000 or 12!\n' * 60,
  "valid": "A cat\u00a0sat ...\r\n\r\nthe 12 CATS\r\n" * 90,
  "test": "\n \nThe dog; a CAT sat.\n!!!\n<eos> said 12\n\u2026\n\nCats" * 9,
}


KEEP = ["--number_word=", "--nolower_case"]


@pytest.mark.parametrize(
  ("punctuation", "min_count", "more"),
  [
    ("split", 1, []), ("split", 2, KEEP), ("drop", 1, KEEP), ("drop", 2, []),
    ("keep", 1, []), ("keep", 2, KEEP),
  ],
)  # fmt: skip
def test_a_raw_text_scores_as_the_prepared_one(
  make, call_command, tmp_path, punctuation, min_count, more
):
  for part, text in RAW.items():
    (tmp_path / part).write_text(text)
  args = [f"--{part}={tmp_path / part}" for part in RAW]
  args += [f"--min_count={min_count}", f"--punctuation={punctuation}"]
  assert make(*args, *more)[0] == 0
  hparams = "--hparams=num_steps=5,hidden_size=8,max_max_epoch=1,init_scale=0.3"
  args = ["--model=test", hparams, f"--save_path={tmp_path / 'run'}"]
  args.append(f"--data_path={tmp_path / 'new'}")
  assert call_command("ptb_word_lm", *args)[0] == 0
  result = json.loads((tmp_path / "run" / "result.json").read_text())
  args = [f"--run={tmp_path / 'run'}", "--carry_state", "--json"]
  status, out, _ = call_command("score", *args, f"--file={tmp_path / 'test'}")
  *lines, total = map(json.loads, out.splitlines())
  assert status == 0
  expected = pytest.approx(result["test_perplexity"], rel=1e-5)
  assert total["perplexity"] == expected
  assert len(lines) == RAW["test"].count("\n") + 1
  assert lines[0]["num_words"] == lines[1]["num_words"] == 0
  if min_count == 1:
    assert total["num_left_out"] > 0


@pytest.mark.parametrize(
  ("args", "message"),
  [
    ([], "Use --text alone, or all of --train, --valid and --test."),
    (["--train=TEXT", "--valid=TEXT", "--test=TEXT", "--valid_share=0.1"],
     "--valid_share has no effect with --train, --valid and --test: leave it"),
    (["--text=TEXT", "--tokenize=ptb", "--nolower_case"],
     "--lower_case has no effect with --tokenize=ptb: leave it out."),
    (["--text=TEXT", "--min_count=0", "--vocab_size=9"],
     "--vocab_size has no effect with --min_count=0: leave it out."),
    (["--text=/none"], "/none: No such file or directory."),
    (["--text=/"], "/: Is a directory."),
    (["--text=EMPTY"], "EMPTY has no words."),
    (["--text=LATIN"], "LATIN is not UTF-8 text: byte 0xe9 at offset 1. Conv"),
    (["--text=SHORT"], "2 lines cannot be split by --valid_share=0.05 and "),
    (["--text=TEXT", "--test_share=0.99"], "100 lines cannot be split by --v"),
    (["--text=TEXT", "--test_share=nan"], "100 lines cannot be split by --va"),
    (["--text=TEXT", "--number_word=a b"], "number_word must be empty or one "),
    (["--text=TEXT", "--output="], "--output is missing: give the folder to "),
    (["--text=TEXT", "--output=FOLDER"], "--output=FOLDER already exists."),
    (["--text=TEXT", "--output=/proc/x"], "Cannot create the folder --output="),
  ],
)  # fmt: skip
def test_bad_input_gets_one_sentence(make, text, tmp_path, args, message):
  contents = {"EMPTY": b"\n \n", "LATIN": b"\n\xe9", "SHORT": b"a\nb\n"}
  places = {"TEXT": text, "FOLDER": tmp_path}
  for name, content in contents.items():
    places[name] = tmp_path / name
    places[name].write_bytes(content)
  for name, place in places.items():
    args = [arg.replace(name, str(place)) for arg in args]
    message = message.replace(name, str(place))
  before = sorted(tmp_path.iterdir())
  status, out, err = make(*args)
  assert (status, out) == (1, "")
  assert err.startswith(f"prepare_text.py: {message}")
  assert err.count("\n") == 1
  assert sorted(tmp_path.iterdir()) == before
