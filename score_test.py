"""Tests of `python score.py`."""

import dataclasses
import io
import json
import math
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from absl.flags import FlagValues, IllegalFlagValueError

import language_model
import score
from conftest import TF1_CHECKPOINT, TINY
from lm.base import command, files
from lm.text import preparation
from lm.text.word_ids import DataError

TEST_TEXT = TINY / "ptb.test.txt"


@pytest.fixture
def scores(call_command, tmp_path):
  """A function from a text and flags to the objects that --json prints."""

  def score_text(text, *args):
    (tmp_path / "text").write_text(text)
    args = ["--json", f"--file={tmp_path / 'text'}", *args]
    status, out, _ = call_command("score", *TF1_CHECKPOINT, *args)
    assert status == 0
    return [json.loads(line) for line in out.splitlines()]

  return score_text


def read_lines(model, text, carry_state=False):
  """Returns the lines of a text as a block of score.Line."""
  lines = text.splitlines(keepends=True)
  return [score.read_line(model, line, carry_state) for line in lines]


def words_in(lines):
  return [word for line in lines for word in line.words]


def test_a_stream_has_the_test_perplexity_of_tensorflow_1_15(scores):
  expected = json.loads((TINY / "expected.json").read_text())["test"]
  text = TEST_TEXT.read_text()
  total = scores(text, "--carry_state")[-1]
  assert total["perplexity"] == pytest.approx(expected["perplexity"], rel=1e-5)
  assert total["lines"] == 60
  assert total["num_words"] == len(text.split()) + 60 - 1


@pytest.mark.parametrize("flags", [(), ("--carry_state",)])
def test_sums_add_up(scores, flags):
  text = TEST_TEXT.read_text()
  *lines, total = scores(text, "--per_word", *flags)
  assert [line["line"] for line in lines] == list(range(1, 61))
  for line, words in zip(lines, text.splitlines(), strict=True):
    assert [w["word"] for w in line["words"]] == [*words.split(), "<eos>"]
    scored = [w for w in line["words"] if w["log_prob"] is not None]
    sum_ = sum(w["log_prob"] for w in scored)
    assert line["log_prob"] == pytest.approx(sum_, rel=1e-12)
    assert line["num_words"] == len(scored)
    perplexity = math.exp(-sum_ / len(scored))
    assert line["perplexity"] == pytest.approx(perplexity, rel=1e-12)
    assert all(1 <= word["rank"] <= 50 for word in scored)
  for name in ("log_prob", "num_words", "num_unknown"):
    sum_ = sum(line[name] for line in lines)
    assert total[name] == pytest.approx(sum_, rel=1e-12)
  assert total["lines"] == 60
  first = lines[0]["words"][0]
  assert (first["log_prob"] is None) == ("--carry_state" in flags)


def test_each_line_is_a_sentence_of_its_own(scores):
  text = "w01 w02 w03\nw04 w14\n\nw04 w14"
  *lines, _ = scores(text, "--per_word")
  for other in (lines[1], scores("w04 w14\n", "--per_word")[0]):
    for one, word in zip(lines[3]["words"], other["words"], strict=True):
      assert one["log_prob"] == pytest.approx(word["log_prob"], rel=1e-5)
      assert one["rank"] == word["rank"]
  assert [line["num_words"] for line in lines] == [4, 3, 1, 3]
  stream = scores(text, "--carry_state")
  assert stream[1]["log_prob"] != pytest.approx(lines[1]["log_prob"], rel=1e-3)
  # In a stream, a last line without a newline has no end.
  assert [line["num_words"] for line in stream] == [3, 3, 1, 2, 9]


@pytest.mark.parametrize("carry_state", [True, "document"])
def test_a_stream_does_not_depend_on_the_blocks(model, carry_state):
  text = "w01 w02\nw03\n\n\nzzz w04 w05 w06\nw07\n"
  lines, others = (read_lines(model, text, carry_state) for _ in range(2))
  blocks = [lines], [[line] for line in others]
  together, apart = (
    words_in(score.score(model, b, carry_state)) for b in blocks
  )
  for i, (one, other) in enumerate(zip(together, apart, strict=True)):
    assert (one.word, one.id, one.rank) == (other.word, other.id, other.rank)
    if one.word == "zzz" or (i == 0 and carry_state is True):
      assert one.log_prob is other.log_prob is None
    else:
      assert one.log_prob == pytest.approx(other.log_prob, rel=1e-5)


def test_the_output_for_people(call_command, tmp_path):
  (tmp_path / "text").write_text("w18 zzz w08\n\n")
  args = [*TF1_CHECKPOINT, f"--file={tmp_path / 'text'}", "--per_word"]
  status, out, err = call_command("score", *args)
  assert status == 0
  assert err == (
    "Left out 1 unknown word, because the vocabulary has no <unk>. Their "
    "lines seem likelier than they are: do not rank lines by scores.\n"
  )
  # The numbers themselves may round differently on another processor.
  out = re.sub(r"-\d+\.\d{4}\b", "-1.2345", out)
  assert re.sub(r"\b\d+\.\d{3}\b", "9.9", out) == (
    "Line 1: log-probability -1.2345, perplexity 9.9, 3 words, 1 unknown, "
    "1 left out\n"
    "     -1.2345       35  w18\n"
    "           -        -  zzz (left out)\n"
    "     -1.2345        3  w08\n"
    "     -1.2345       24  <eos>\n"
    "Line 2: log-probability -1.2345, perplexity 9.9, 1 word, 0 unknown\n"
    "     -1.2345       50  <eos>\n"
    "Whole text: log-probability -1.2345, perplexity 9.9, 4 words, 1 unknown, "
    "1 left out\n"
  )


def test_unknown_words_are_left_out_if_there_is_no_unk(scores):
  with_unknown, _ = scores("w18 zzz w08\n", "--per_word")
  expected, _ = scores("w18 w08\n", "--per_word")
  word = {"word": "zzz", "log_prob": None, "rank": None, "unknown": True}
  assert with_unknown["words"].pop(1) == word | {"place": 2}
  assert with_unknown["words"][1].pop("place") == 3
  assert expected["words"][1].pop("place") == 2
  assert with_unknown == {**expected, "num_unknown": 1, "num_left_out": 1}


def show_line(words, shown_words=None):
  """Prints the scores of a line's words, and some words."""
  scores = {"line": 1} | score.with_perplexities(score.add_up(words), "e")
  score.show_text(scores, shown_words, log_base="e")


def test_text_is_prepared_as_the_training_text_was(tf1_models, capsys):
  words = ["the", "cat", ",", "N", ":", "<unk>", "<eos>"]
  prepared = dataclasses.replace(
    tf1_models[0],
    vocabulary=words + tf1_models[0].vocabulary[len(words) :],
    preparation=preparation.Preparation(
      lower_case=True, number_word="N", punctuation="split"
    ),
  )
  text = "The CAT, 1,000.5 zebras:\nthe cat , N <unk> :\n"
  with language_model.LanguageModel([prepared]) as model:
    raw, expected = (
      line.words for line in score.score(model, [read_lines(model, text)])
    )
  shown = [word.word for word in raw]
  assert shown == ["the", "cat", ",", "N", "zebras", ":", "<eos>"]
  assert [word.word for word in expected if word.unknown] == ["<unk>"]
  for one, other in zip(raw, expected, strict=True):
    assert (one.id, one.rank) == (other.id, other.rank)
    assert one.log_prob == pytest.approx(other.log_prob, rel=1e-5)
  show_line(raw, raw)
  out = capsys.readouterr().out
  assert "7 words, 1 unknown, without them log" in out
  assert "  zebras (<unk>)\n" in out
  with pytest.raises(language_model.ModelError, match="out --tokenize=ptb"):
    language_model.LanguageModel([prepared], "ptb")


def test_a_model_without_line_ends(model, monkeypatch):
  known = {w: i for w, i in model._word_to_id.items() if w != "<eos>"}
  monkeypatch.setattr(model, "_word_to_id", known)
  for carry_state in (False, "document"):
    blocks = [read_lines(model, "w01 w02\n", carry_state)]
    with pytest.raises(DataError, match="The vocabulary has no <eos>, because"):
      next(score.score(model, blocks, carry_state))
  blocks = [read_lines(model, "w01 w02\n", True)]
  words = words_in(score.score(model, blocks, True))
  assert [word.word for word in words] == ["w01", "w02"]


@pytest.fixture
def model_with_unk(model, monkeypatch):
  """The model with w05 as the word that stands for unknown words."""
  monkeypatch.setattr(model, "unknown", "w05")
  return model


def test_sums_with_and_without_unknown_words(model_with_unk):
  text = "w01 zzz w02 w05\nw01 w05 w02 zzz\nw01\n"
  lines = read_lines(model_with_unk, text)
  first, second, known = score.score(model_with_unk, [lines])
  for line in (first, second):  # A literal <unk> is unknown as well.
    log_probs = [word.log_prob for word in line.words]
    assert [word.unknown for word in line.words] == [0, 1, 0, 1, 0]
    sums = score.add_up(line.words)
    assert (sums["num_words"], sums["num_known"]) == (5, 3)
    assert (sums["num_unknown"], sums["num_left_out"]) == (2, 0)
    without = math.fsum(log_probs[::2])
    assert sums["log_prob"] == pytest.approx(math.fsum(log_probs), rel=1e-12)
    assert sums["known_log_prob"] == pytest.approx(without, rel=1e-12)
    scores = score.with_perplexities(sums, "e")
    expected = pytest.approx(math.exp(-without / 3), rel=1e-12)
    assert scores["known_perplexity"] == expected
  assert [word.fate for word in first.words] == ["", "w05", "", "", ""]
  scores = score.with_perplexities(score.add_up(known.words), "e")
  for name in ("log_prob", "perplexity"):
    assert scores[f"known_{name}"] == scores[name]


def test_a_line_of_unknown_words_only(model_with_unk, capsys):
  lines = read_lines(model_with_unk, "zzz zzz zzz", True)
  (line,) = score.score(model_with_unk, [lines], True)
  show_line(line.words)
  assert capsys.readouterr().out.endswith(
    "2 words, 3 unknown, without them log-probability 0.0000, perplexity -\n"
  )


@pytest.mark.parametrize("base", ["2", "10"])
def test_the_base_of_logarithms(scores, call_command, tmp_path, base):
  flag, text = f"--log_base={base}", "w01 w03\nw04\n"
  nats, others = scores(text, "--per_word"), scores(text, "--per_word", flag)
  for line, other in zip(nats, others, strict=True):
    for one in (line, *line.get("words", ())):
      for name in {"log_prob", "known_log_prob"} & {*one}:
        one[name] = pytest.approx(one[name] / math.log(int(base)), rel=1e-12)
    for name in ("perplexity", "known_perplexity"):
      line[name] = pytest.approx(line[name], rel=1e-12)
    assert other == line
  args = [*TF1_CHECKPOINT, f"--file={tmp_path / 'text'}", flag]
  out = call_command("score", *args)[1]
  assert out.startswith(f"Line 1: log{base}-probability -")


def test_ids_and_marks_around_a_line_are_not_scored(
  scores, call_command, tmp_path
):
  plain = scores("w01 w02\n\nw03\n\nw04 zzz")
  text = "utt1-1 <s> w01 w02 </s>\n\n w01\tw03 </s>\nutt2\nutt3 w04 zzz"
  named = scores(text, "--ids")
  ids = [line.pop("id", "none") for line in named]
  assert ids == ["utt1-1", None, "w01", "utt2", "utt3", "none"]
  assert named == plain
  args = [*TF1_CHECKPOINT, f"--file={tmp_path / 'text'}", "--ids"]
  _, out, err = call_command("score", *args)
  assert [line.partition(":")[0] for line in out.splitlines()] == [
    "Line 1, utt1-1", "Line 2", "Line 3, w01", "Line 4, utt2", "Line 5, utt3",
    "Whole text",
  ]  # fmt: skip
  marks = "<s> and </s> were removed from 2 lines: <eos> stands for both.\n"
  assert err.startswith(marks) and err.count("\n") == 2


@pytest.mark.parametrize(
  ("line", "words"),
  [
    ("<s> w01 </s>\n", "<s> w01"),
    ("<s> </s>", "<s>"),
    ("w01 </s>", "w01"),
    ("</s> w01 w02", "</s> w01 w02"),
    ("w01 </s> w02\n", "w01 </s> w02"),
  ],
)
def test_marks_stay_in_a_line_or_if_the_vocabulary_has_them(
  model, monkeypatch, line, words
):
  monkeypatch.setitem(model._word_to_id, "<s>", 1)
  result = score.read_line(model, line)
  assert [w.word for w in result.words] == [*words.split(), "<eos>"]
  assert result.had_marks == (line.strip() != words)


def test_sentences_of_a_document_are_given_those_before_them(scores):
  text = "w01 w02\nw03 w04\n\n\nw05\nw03 w04"
  *lines, total = scores(text, "--carry_state=document", "--per_word")
  assert [line["num_words"] for line in lines] == [3, 3, 0, 0, 2, 3]
  assert total["num_words"] == 11
  assert lines[2]["perplexity"] is None and lines[2]["words"] == []
  # It is a stream after a line end, which is given.
  for document, in_document in (
    ("w01 w02\nw03 w04\n", lines[:2]), ("w05\nw03 w04\n", lines[4:])
  ):  # fmt: skip
    in_stream = scores(f"\n{document}", "--carry_state")[1:-1]
    for one, other in zip(in_stream, in_document, strict=True):
      assert one["log_prob"] == pytest.approx(other["log_prob"], rel=1e-5)
  assert lines[1]["log_prob"] != pytest.approx(lines[5]["log_prob"], rel=1e-3)


@pytest.mark.parametrize(
  ("args", "value"),
  [
    ([], False),
    (["--carry_state"], True),
    (["--nocarry_state"], False),
    (["--carry_state=true"], True),
    (["--carry_state=False"], False),
    (["--carry_state=1"], True),
    (["--carry_state=document"], "document"),
  ],
)
def test_values_of_carry_state(args, value):
  values = FlagValues()
  score.define_flags(command.Define(values))
  values(["score.py", *args])
  assert values.carry_state == value
  message = "carry_state=documents: value should be true, false or document"
  with pytest.raises(IllegalFlagValueError, match=message):
    values(["score.py", "--carry_state=documents"])


def test_raw_english_gets_the_words_of_ptb(call_command, tmp_path):
  (tmp_path / "text").write_text("I don't!\n")
  args = [*TF1_CHECKPOINT, f"--file={tmp_path / 'text'}", "--per_word"]
  for flag, words in (([], "I don't!"), (["--tokenize=ptb"], "i do n't")):
    out = call_command("score", *args, *flag)[1]
    assert re.findall(r"(\S+) \(left out", out) == words.split()


def test_each_word_has_the_place_of_the_written_one(scores):
  text = 'n1 He said "I don\'t -- can\u2019t" ... pay US$5!\n'
  for flags, places in (
    ([], "123456789"),
    (["--tokenize=ptb"], "1234466899"),
  ):
    line, _ = scores(text, "--ids", "--per_word", *flags)
    *words, last = line["words"]
    assert "".join(str(word["place"]) for word in words) == places
    assert (last["word"], last["place"]) == ("<eos>", None)


def test_an_adapted_text_has_the_perplexity_of_evaluate(
  call_command, runs, tmp_path, monkeypatch
):
  monkeypatch.setattr(files, "_BUFFER", 300)  # The text is read in blocks.
  text = tmp_path / "text"
  text.write_text(TEST_TEXT.read_text() * 3)
  data = tmp_path / "data"
  data.mkdir()
  shutil.copy(text, data / "ptb.test.txt")
  shutil.copy(TINY / "ptb.valid.txt", data)
  adapt = ["--adapt=0.2", "--adapt_steps=11"]
  _, out, _ = call_command(
    *("ptb_word_lm", "--evaluate", f"--save_path={runs}/a"),
    *(f"--data_path={data}", *adapt),
  )
  perplexity = re.search(r"Test Perplexity: (\S+)", out)[1]
  args = [f"--run={runs}/a", f"--file={text}", *adapt]
  _, out, _ = call_command("score", *args, "--carry_state")
  assert f"perplexity {perplexity}," in out.splitlines()[-1]
  _, plain, _ = call_command("score", *args[:2], "--carry_state")
  assert f"perplexity {perplexity}," not in plain
  # Each document starts from the trained weights.
  text.write_text("w01 w02\nw03 w04\n\nw01 w02\nw03 w04\n")
  args[2:] = ["--adapt=0.2", "--adapt_steps=2", "--carry_state=document"]
  _, adapted, _ = call_command("score", *args)
  _, plain, _ = call_command("score", *args[:2], args[-1])
  lines = [line.partition(":")[2] for line in adapted.splitlines()]
  assert lines[:2] == lines[3:5]
  assert lines[1] != plain.splitlines()[1].partition(":")[2]


def test_a_document_is_printed_at_its_end(model):
  lines = read_lines(model, "a\nb\n\nc\n\n", "document")

  def blocks():
    yield lines[:2]
    yield lines[2:4]
    pytest.fail("More was read than the first document and its block.")

  assert next(score.documents(blocks(), "document")) == lines[:3]
  documents = list(score.documents([lines[:2], lines[2:]], "document"))
  assert documents == [lines[:3], lines[3:], []]
  assert list(score.documents([lines[:2], lines[2:]], True)) == [lines]


@pytest.mark.parametrize(
  ("command", "flags", "message"),
  [
    ("score", ["--adapt=0.1"], "--adapt needs --carry_state"),
    ("score", ["--adapt_steps=3"], "--adapt_steps has no effect without --ad"),
    (
      "score",
      ["--adapt=1e9", "--carry_state", f"--file={TEST_TEXT}"],
      "The perplexity is too large for a floating-point number. Choose a small",
    ),
    ("score", ["--adapt=nan"], "flag --adapt=nan: must be a finite number abo"),
    ("ptb_word_lm", ["--adapt=0.1"], "--adapt has no effect without --evaluat"),
    (
      "ptb_word_lm",
      ["--adapt=1e9", "--evaluate", f"--data_path={TINY}"],
      "Valid: the perplexity is too large for a floating-point number. Choose",
    ),
  ],
)
def test_rates_that_cannot_adapt(call_command, runs, command, flags, message):
  if command == "score":
    flags = [*flags, f"--run={runs}/a"]
  elif "--evaluate" in flags:
    flags = [*flags, f"--save_path={runs}/a"]
  status, _, err = call_command(command, *flags)
  assert status == 1 and message in err


def test_a_pipe_is_answered_line_by_line():
  # Python's own buffering, whatever the shell has set.
  env = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
  with subprocess.Popen(
    [sys.executable, score.__file__, *TF1_CHECKPOINT, "--json"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/", env=env,
  ) as process:  # fmt: skip
    for number in (1, 2, 3):
      process.stdin.write("w01 w02\n")
      process.stdin.flush()
      assert json.loads(process.stdout.readline())["line"] == number
    process.stdin.close()
    assert json.loads(process.stdout.readline())["lines"] == 3
    assert process.wait(60) == 0


def pipe(*pieces):
  """Returns a file of which each reading gives one piece."""

  class Raw(io.RawIOBase):
    def readable(self):
      return True

    def readinto(self, buffer):
      piece = next(left, b"")
      buffer[: len(piece)] = piece
      return len(piece)

  left = iter(pieces)
  return io.BufferedReader(Raw())


@pytest.mark.parametrize(
  ("pieces", "blocks"),
  [
    ([b"a b\nc\nd", b"\n", b"e"], [["a b\n", "c\n", "d\n"], ["e"]]),
    ([b"a", b" b", b" c", b"\nd"], [["a b c\n"], ["d"]]),
    ([b"a\r", b"\nb\rc"], [["a\n"], ["b\n", "c"]]),
    ([b"\n", b"\n\n"], [["\n"], ["\n", "\n"]]),
    ([b"\xc3", b"\xa9\n"], [["é\n"]]),
    ([b"\xef\xbb\xbfa\n"], [["a\n"]]),
    ([b"a\x0bb\x0c\xe2\x80\xa8c\n"], [["a\x0bb\x0c\u2028c\n"]]),
    ([], []),
  ],
)
def test_lines_end_at_newlines_only(pieces, blocks):
  assert list(score.read_blocks(pipe(*pieces), "T")) == blocks


def test_a_bad_line_is_named():
  blocks = score.read_blocks(pipe(b"a\nb", b" c\n", b"d\n\xff\n"), "T")
  assert next(blocks) == ["a\n", "b c\n"]
  with pytest.raises(DataError, match="T, line 4, is not UTF-8"):
    next(blocks)


@pytest.mark.parametrize(
  ("content", "args", "message"),
  [
    (b"", [], "TEXT has nothing to score: no word was predicted."),
    (b"w01", ["--carry_state"], "TEXT has nothing to score: no word was pred"),
    (b"\xff\n", [], "TEXT, line 1, is not UTF-8 text: byte 0xff at offset 0."),
    (b"w\x00\n", [], "TEXT, line 1, has NUL characters, as UTF-16"),
    (b"", ["--file=/none"], "/none: No such file or directory."),
    (b"", ["--file=/"], "/: Is a directory."),
    (b"", ["--run=/none"], "--data_path has no effect with --run, whose"),
  ],
)
def test_bad_input_gets_one_sentence(
  call_command, tmp_path, content, args, message
):
  (tmp_path / "text").write_bytes(content)
  args = [*TF1_CHECKPOINT, f"--file={tmp_path / 'text'}", *args]
  status, out, err = call_command("score", *args)
  assert (status, out.count("\n")) == (1, content.count(b"w01"))
  message = message.replace("TEXT", str(tmp_path / "text"))
  assert err.startswith(f"score.py: {message}") and err.count("\n") == 1


@pytest.mark.parametrize("name", ["score", "generate", "export"])
def test_help_lists_the_flags_that_name_models(name):
  file = pathlib.Path(score.__file__).with_name(f"{name}.py")
  command = [sys.executable, file, "--help"]
  shown = subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout
  for flag in ("--run:", "--checkpoint:", "--data_path:"):
    assert flag in shown
