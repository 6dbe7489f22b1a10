"""Tests of `python score.py`."""

import io
import json
import math
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import language_model
import reader
import score
from conftest import TF1_CHECKPOINT, TINY, call_main

COMMAND = [sys.executable, str(pathlib.Path(score.__file__))]
COMMAND_FOLDER = pathlib.Path(score.__file__).parent
# Python's own buffering, whatever the shell has set.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
TEST_TEXT = str(TINY / "ptb.test.txt")


@pytest.fixture
def call(call_command):
  """Scores with the checkpoint of TensorFlow 1.15."""
  return lambda *args: call_command("score", *TF1_CHECKPOINT, *args)


@pytest.fixture
def scores(call):
  """Returns what --json prints of a text's bytes, after the flags."""

  def scores_of(path, content, *args):
    path.write_bytes(content)
    status, out, err = call("--json", f"--file={path}", *args)
    assert (status, err) == (0, "")
    return [json.loads(line) for line in out.splitlines()]

  return scores_of


def test_a_stream_has_the_test_perplexity_of_tensorflow_1_15(call):
  expected = json.loads((TINY / "expected.json").read_text())["test"]
  status, out, err = call("--json", "--carry_state", f"--file={TEST_TEXT}")
  assert (status, err) == (0, "")
  total = json.loads(out.splitlines()[-1])
  assert total["perplexity"] == pytest.approx(expected["perplexity"], rel=1e-5)
  assert total["lines"] == 60
  words = len(pathlib.Path(TEST_TEXT).read_text().split()) + 60
  assert total["num_words"] == words - 1


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_stream_has_the_test_perplexity_of_the_run(call_command, runs, name):
  result = json.loads((runs / name / "result.json").read_text())
  status, out, _ = call_command(
    "score",
    f"--run={runs / name}",
    "--carry_state",
    "--json",
    f"--file={TEST_TEXT}",
  )
  assert status == 0
  found = json.loads(out.splitlines()[-1])["perplexity"]
  assert found == pytest.approx(result["test_perplexity"], rel=1e-5)


def test_the_test_perplexity_of_several_runs(call_command, runs):
  """That of the mean of their probabilities: lower than the worse at least."""
  flags = [f"--file={TEST_TEXT}", "--carry_state", "--json", "--per_word"]
  texts = []
  for run in (f"{runs}/a", f"{runs}/b", f"{runs}/a,{runs}/b"):
    status, out, _ = call_command("score", f"--run={run}", *flags)
    assert status == 0
    texts.append([json.loads(line) for line in out.splitlines()])
  *each, both = (
    [word["log_prob"] for line in text[:-1] for word in line["words"]]
    for text in texts
  )
  assert both[0] is None
  for one, other, mean in list(zip(*each, both, strict=True))[1:]:
    assert math.exp(mean) == pytest.approx(
      (math.exp(one) + math.exp(other)) / 2, rel=1e-5
    )
  perplexities = [text[-1]["perplexity"] for text in texts]
  assert perplexities[2] < max(perplexities[:2])


@pytest.mark.parametrize("flags", [(), ("--carry_state",)])
def test_sums_add_up(call, flags):
  args = ["--json", "--per_word", f"--file={TEST_TEXT}"]
  status, out, _ = call(*args, *flags)
  assert status == 0
  *lines, total = map(json.loads, out.splitlines())
  assert [line["line"] for line in lines] == list(range(1, 61))
  for line, text in zip(
    lines, pathlib.Path(TEST_TEXT).read_text().splitlines(), strict=True
  ):
    words = line["words"]
    assert [word["word"] for word in words] == [*text.split(), "<eos>"]
    log_probs = [w["log_prob"] for w in words if w["log_prob"] is not None]
    assert line["log_prob"] == pytest.approx(sum(log_probs), rel=1e-12)
    assert line["num_words"] == len(log_probs)
    mean = sum(log_probs) / len(log_probs)
    assert line["perplexity"] == pytest.approx(math.exp(-mean), rel=1e-12)
    assert all(1 <= w["rank"] <= 50 for w in words if w["rank"])
  for name in ("log_prob", "num_words", "num_unknown"):
    sums = sum(line[name] for line in lines)
    assert total[name] == pytest.approx(sums, rel=1e-12)
  assert total["lines"] == 60
  first = lines[0]["words"][0]
  assert (first["log_prob"] is None) == ("--carry_state" in flags)


def test_what_is_printed_to_be_read(call, tmp_path):
  (tmp_path / "text").write_text("w18 w08 w25\n\n")
  status, out, _ = call(f"--file={tmp_path / 'text'}", "--per_word")
  assert status == 0
  numbers = [line.split() for line in out.splitlines()]
  assert numbers[0][:3] == ["Line", "1:", "log-probability"]
  assert [row[2] for row in numbers[1:5]] == ["w18", "w08", "w25", "<eos>"]
  assert [row[:2] for row in numbers[5:7]] == [["Line", "2:"], numbers[6][:2]]
  assert " perplexity " in out and out.count("\n") == 8
  assert numbers[7][:3] == ["Whole", "text:", "log-probability"]
  assert out.splitlines()[-1].endswith(" 5 words, 0 unknown")
  total = sum(float(row[0]) for row in (*numbers[1:5], numbers[6]))
  assert float(numbers[7][3].rstrip(",")) == pytest.approx(total, abs=5e-4)


def test_each_line_is_a_sentence_of_its_own(scores, tmp_path):
  alone = scores(tmp_path / "1", b"w04 w14\n", "--per_word")
  text = b"w01 w02 w03\nw04 w14\n\nw04 w14"
  together = scores(tmp_path / "2", text, "--per_word")
  stream = scores(tmp_path / "3", text, "--carry_state", "--per_word")
  for line in (together[1], together[3]):
    for one, other in zip(line["words"], alone[0]["words"], strict=True):
      assert one["log_prob"] == pytest.approx(other["log_prob"], rel=1e-5)
      assert one["rank"] == other["rank"]
  assert together[2]["num_words"] == 1  # The end of a line without words.
  assert stream[1]["log_prob"] != pytest.approx(together[1]["log_prob"], 1e-3)
  # In a stream, a last line without a newline has no end.
  assert [line["num_words"] for line in stream] == [3, 3, 1, 2, 9]


def test_newlines_and_marks_are_read_as_in_training(scores, tmp_path):
  plain = scores(tmp_path / "1", b"w01 w02\nw03\nw04\n")
  other = b"\xef\xbb\xbfw01\tw02 \r\n w03\rw04\n"
  assert scores(tmp_path / "2", other) == plain


def test_unknown_words_are_left_out_if_there_is_no_unk(call, tmp_path):
  (tmp_path / "text").write_text("w04 zzz w14\nyyy\n")
  (tmp_path / "same").write_text("w04 w14\n\n")
  flags = ["--json", "--per_word"]
  status, out, err = call(*flags, f"--file={tmp_path / 'text'}")
  assert status == 0
  assert err == (
    "2 unknown words were left out, as the vocabulary has no <unk> for them.\n"
  )
  *lines, total = map(json.loads, out.splitlines())
  _, out, _ = call("--json", f"--file={tmp_path / 'same'}")
  assert total["log_prob"] == json.loads(out.splitlines()[-1])["log_prob"]
  assert (total["num_words"], total["num_unknown"]) == (4, 2)
  word = lines[0]["words"][1]
  assert word == {"word": "zzz", "log_prob": None, "rank": None, "unknown": 1}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
  """A run on a text that prepare_text.py prepared; it knows <unk>."""
  folder = tmp_path_factory.mktemp("prepared")
  return make_run(folder, "The cat, the dog: 7 CATS sat; a b. \n" * 60)


def make_run(folder, text):
  """Trains on a text, prepared; returns the run's folder."""
  (folder / "text").write_text(text)
  call_main(
    "prepare_text",
    f"--text={folder / 'text'}",
    f"--output={folder / 'data'}",
    "--vocab_size=11",
    "--test_share=0.2",
  )
  call_main(
    "ptb_word_lm",
    f"--data_path={folder / 'data'}",
    "--hparams=hidden_size=8,batch_size=3,num_steps=5,max_max_epoch=1",
    f"--save_path={folder / 'run'}",
  )
  return folder / "run"


def test_text_is_prepared_as_the_training_text_was(
  call_command, prepared, tmp_path
):
  texts = {"plain": "The CAT, 1,000.5 zebras: a\n"}
  texts["prepared"] = "the cat , N <unk> : a\n"
  found = {}
  for name, text in texts.items():
    (tmp_path / name).write_text(text)
    status, out, err = call_command(
      "score", f"--run={prepared}", f"--file={tmp_path / name}", "--json",
      "--per_word",
    )  # fmt: skip
    assert (status, err) == (0, "")
    found[name] = json.loads(out.splitlines()[0])
  plain, other = found["plain"], found["prepared"]
  words = [word["word"] for word in plain["words"]]
  assert words == ["the", "cat", ",", "N", "zebras", ":", "a", "<eos>"]
  assert plain["log_prob"] == other["log_prob"]
  assert (plain["num_unknown"], other["num_unknown"]) == (1, 0)
  assert [w["word"] for w in plain["words"] if w["unknown"]] == ["zebras"]


def test_what_reads_as_unk_is_marked(call_command, prepared, tmp_path):
  (tmp_path / "text").write_text("the zebras\n")
  args = [f"--run={prepared}", f"--file={tmp_path / 'text'}", "--per_word"]
  _, out, _ = call_command("score", *args)
  words = [line.split()[2:] for line in out.splitlines()[1:4]]
  assert words == [["the"], ["zebras", "(<unk>)"], ["<eos>"]]


def test_a_stream_goes_on_from_block_to_block(runs):
  trained = language_model.find([str(runs / "a")], None, None)
  lines = ["w01 w02\n", "w03\n", "\n", "w04 w05 w06\n"]
  with language_model.LanguageModel(trained) as model:
    blocks = [[lines], [[line] for line in lines]]
    together, apart = (
      [word for words in score.score_as_stream(model, block) for word in words]
      for block in blocks
    )
  assert [word.word for word in together] == [word.word for word in apart]
  assert together[0].log_prob is apart[0].log_prob is None
  for one, other in zip(together[1:], apart[1:], strict=True):
    assert one.log_prob == pytest.approx(other.log_prob, rel=1e-5)


def test_a_prepared_run_is_its_test_text(call_command, prepared):
  result = json.loads((prepared / "result.json").read_text())
  text = prepared.parent / "data" / "ptb.test.txt"
  args = [f"--run={prepared}", f"--file={text}", "--carry_state", "--json"]
  _, out, _ = call_command("score", *args)
  found = json.loads(out.splitlines()[-1])["perplexity"]
  assert found == pytest.approx(result["test_perplexity"], rel=1e-5)


def test_a_model_without_line_ends(call_command, tmp_path):
  data = tmp_path / "data"
  data.mkdir()
  for part in ("train", "valid", "test"):
    (data / f"ptb.{part}.txt").write_text("a b c a " * 99)
  run = f"--run={tmp_path / 'run'}"
  hparams = "--hparams=batch_size=2,hidden_size=4,max_max_epoch=1"
  assert not call_command(
    "ptb_word_lm", f"--data_path={data}", hparams, f"--save_path={run[6:]}"
  )[0]
  text = tmp_path / "text"
  text.write_text("a b\nc\n")
  status, out, err = call_command("score", run, f"--file={text}")
  assert (status, out) == (1, "")
  assert err.startswith("score.py: The model knows no <eos>, as its training")
  assert err.count("\n") == 1
  _, out, err = call_command(
    "score", run, f"--file={text}", "--carry_state", "--json"
  )
  *_, total = map(json.loads, out.splitlines())
  assert (total["num_words"], total["num_unknown"], err) == (2, 0, "")


def test_a_line_of_many_words(scores, tmp_path):
  line, total = scores(tmp_path / "text", b"w01 w02 " * 50_000)
  assert line["num_words"] == 100_001
  assert line["log_prob"] == total["log_prob"]
  assert math.isfinite(line["log_prob"])


def test_a_pipe_is_answered_line_by_line():
  with subprocess.Popen(
    [*COMMAND, *TF1_CHECKPOINT, "--json"],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
    cwd="/",
    env=ENVIRONMENT,
  ) as process:
    for number in (1, 2, 3):
      process.stdin.write("w01 w02\n")
      process.stdin.flush()
      answer = json.loads(process.stdout.readline())
      assert answer["line"] == number
    process.stdin.close()
    assert json.loads(process.stdout.readline())["lines"] == 3
    assert process.wait(60) == 0


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b"", "TEXT has nothing to score: no word was predicted."),
    (b"w01\nw02 \xff\n",
     "TEXT, line 2, is not UTF-8 text: byte 0xff at offset 4."),
    (b"w01\nw\x00\n", "TEXT, line 2, is not UTF-8 text: it has NUL"),
  ],
)  # fmt: skip
def test_bad_texts(call, tmp_path, content, message):
  path = tmp_path / "text"
  path.write_bytes(content)
  status, out, err = call(f"--file={path}")
  assert status == 1
  assert err.startswith("score.py: " + message.replace("TEXT", str(path)))
  assert err.count("\n") == 1
  # The lines before it are scored.
  assert out.count("\n") == content.count(b"\n", 0, 4)


def test_files_that_cannot_be_read(call, tmp_path):
  for path in ("/none", tmp_path, "", "a\0b"):
    status, out, err = call(f"--file={path}")
    assert (status, out) == (1, "")
    assert err.startswith(f"score.py: --file={path} cannot be read: ")
    assert err.count("\n") == 1


def test_what_stands_before_a_bad_line_is_scored():
  """As far as it has come before it; a pipe may be long."""
  file = io.BufferedReader(Chunks([b"a\nb", b" c\n", b"\xff\n"]))
  blocks = score.blocks_of(file, "T")
  assert next(blocks) == ["a\n"]
  assert next(blocks) == ["b c\n"]
  with pytest.raises(reader.DataError, match="T, line 3, is not UTF-8"):
    next(blocks)


class Chunks(io.RawIOBase):
  """A file that gives these bytes, a piece for each reading."""

  def __init__(self, pieces):
    self._pieces = [*pieces, b""]

  def readable(self):
    return True

  def readinto(self, buffer):
    piece = self._pieces.pop(0)
    buffer[: len(piece)] = piece
    return len(piece)


@pytest.mark.parametrize(
  ("pieces", "blocks"),
  [
    ([b"a b\nc\nd", b"\n"], [["a b\n", "c\n"], ["d\n"]]),
    ([b"a", b" b", b" c", b"\nd"], [["a b c\n"], ["d"]]),
    ([b"a\r", b"\nb\rc"], [["a\n"], ["b\n", "c"]]),
    ([b"\n", b"\n\n"], [["\n"], ["\n", "\n"]]),
    ([b"\xc3", b"\xa9\n"], [["é\n"]]),
    ([b"a\x0bb\x0c\xe2\x80\xa8c\n"], [["a\x0bb\x0c\u2028c\n"]]),
    ([], []),
  ],
)
def test_lines_are_cut_at_newlines_alone(pieces, blocks):
  file = io.BufferedReader(Chunks(pieces))
  assert list(score.blocks_of(file, "T")) == blocks


@pytest.mark.parametrize("name", ["score", "generate", "export"])
def test_help_lists_the_flags_that_name_models(name):
  command = [sys.executable, str(COMMAND_FOLDER / f"{name}.py"), "--help"]
  process = subprocess.run(command, capture_output=True, text=True)
  for flag in ("--run:", "--checkpoint:", "--data_path:"):
    assert flag in process.stdout


def test_what_is_left_out_is_marked_and_told(call, tmp_path):
  (tmp_path / "text").write_text("zzz <unk>\n")
  args = [f"--file={tmp_path / 'text'}", "--per_word"]
  status, out, _ = call(*args)
  assert status == 0
  words = [line.split()[2:] for line in out.splitlines()[1:3]]
  assert words == [["zzz", "(left", "out)"], ["<unk>", "(left", "out)"]]
  (tmp_path / "text").write_text("zzz yyy")
  status, _, err = call(*args, "--carry_state")
  assert status == 1
  assert err.splitlines()[0].startswith("2 unknown words were left out")
  assert err.splitlines()[1].endswith("no word was predicted.")


def test_wrong_arguments(call, call_command, runs, tmp_path):
  run = shutil.copytree(runs / "a", tmp_path / "run")
  (run / "vocabulary.txt").unlink()
  for args, message in (
    ([], "Name the folder of a trained run, --run; or"),
    ([f"--run={run}"], f"{run}/vocabulary.txt cannot be read. The command"),
    ([f"--run={runs}/a,{run}"], f"{run}/vocabulary.txt cannot be read. The"),
    ([f"--run={runs}/a", f"--data_path={TINY}"], "--run has its own vocabul"),
    ([f"--run={runs}/a", "--checkpoint=x"], f"There is no checkpoint {runs}/a"),
  ):
    status, out, err = call_command("score", f"--file={TEST_TEXT}", *args)
    assert (status, out) == (1, "")
    assert err.startswith(f"score.py: {message}")
    assert err.count("\n") == 1
  process = subprocess.run([*COMMAND, "x"], capture_output=True, text=True)
  assert process.returncode == 2
  assert process.stderr == "score.py: 'x' is not a flag; --help lists them.\n"
