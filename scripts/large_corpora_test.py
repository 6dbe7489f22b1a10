"""Tests of large texts and vocabularies: from the first start to the export."""

import json

import numpy as np
import pytest

import reader
from conftest import TINY, call_main
from lm.base import tf1
from lm.text import word_ids

HPARAMS = "hidden_size=8,num_steps=5,init_scale=0.3,max_max_epoch=1"


@pytest.fixture
def train(call_command):
  """Trains in a folder with --hparams and flags; returns what it printed."""

  def train(folder, hparams, *flags, data=TINY, expected=0):
    status, out, err = call_command(
      *("ptb_word_lm", f"--data_path={data}", f"--save_path={folder}"),
      f"--hparams={HPARAMS}{hparams}",
      *flags,
    )
    assert status == expected, err
    return out if status == 0 else err

  return train


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory):
  """The folder of a run with HPARAMS, without what large corpora need."""
  folder = tmp_path_factory.mktemp("runs") / "plain"
  flags = f"--data_path={TINY}", f"--hparams={HPARAMS}"
  assert call_main("ptb_word_lm", *flags, f"--save_path={folder}") == 0
  return folder


def perplexities_in(run):
  """Returns the lines that a finished run of one epoch printed."""
  result = json.loads((run / "result.json").read_text())
  return [
    f"Epoch: 1 Train Perplexity: {result['train_perplexity']:.3f}",
    f"Epoch: 1 Valid Perplexity: {result['valid_perplexity']:.3f}",
    f"Test Perplexity: {result['test_perplexity']:.3f}",
  ]


def perplexities(out):
  return [line for line in out.splitlines() if "Perplexity: " in line]


def test_a_limited_vocabulary_is_that_of_a_prepared_text(
  tmp_path, call_command
):
  lines = (TINY / "ptb.train.txt").read_text().splitlines()
  lines = [f"{line} <unk> rare{n}" for n, line in enumerate(lines[:300])]
  for part in ("train", "valid", "test"):
    (tmp_path / f"ptb.{part}.txt").write_text("\n".join(lines) + "\n")
  for size in (3, 17, 40, 349, 350, 351, 352, 353, 1000):
    texts = [f"--{part}={tmp_path}/ptb.{part}.txt" for part in
             ("train", "valid", "test")]  # fmt: skip
    flags = ["--nolower_case", "--number_word=", "--punctuation=keep"]
    flags += ["--min_count=1", f"--vocab_size={size}"]
    output = tmp_path / f"prepared-{size}"
    status, _, err = call_command(
      "prepare_text", *texts, *flags, f"--output={output}"
    )
    assert status == 0, err
    prepared = reader.read_corpus(str(output))
    limited = reader.read_corpus(str(tmp_path), vocab_size=size)
    assert limited.vocabulary == prepared.vocabulary
    np.testing.assert_array_equal(limited.train, prepared.train)
    np.testing.assert_array_equal(limited.valid, prepared.valid)


def test_batches_from_a_file_are_those_of_a_constant(tmp_path, monkeypatch):
  ids = np.random.RandomState(1).randint(0, 99, 1234, np.int32)
  ids.tofile(tmp_path / "ids")
  mapped = np.memmap(tmp_path / "ids", np.int32, "r")
  batches = []
  for most in (1 << 26, 0):
    monkeypatch.setattr(reader, "_MOST_IN_GRAPH", most)
    with tf1.Graph().as_default() as graph, tf1.Session() as session:
      x, y = reader.ptb_producer(mapped, 7, 4)
      batches.append([session.run([x, y]) for _ in range(90)])
      index = tf1.placeholder(tf1.int32, [])
      batch = reader.batch_at(index, mapped, 7, 4, slice(2, 5))
      batches[-1] += [session.run(batch, {index: n}) for n in (3, 0, 41)]
      assert x.shape == y.shape == (7, 4)
      is_read = any("PyFunc" in op.type for op in graph.get_operations())
      assert is_read == (most == 0)
  for a, b in zip(*batches, strict=True):
    np.testing.assert_array_equal(a, b)


def test_a_large_text_trains_as_a_small_one(
  train, tmp_path, monkeypatch, plain_run
):
  monkeypatch.setattr(word_ids, "_LARGE", 0)
  monkeypatch.setattr(reader, "_MOST_IN_GRAPH", 0)
  cache = tmp_path / "cache"
  out = train(tmp_path / "large", "", f"--cache_dir={cache}")
  assert perplexities(out) == perplexities_in(plain_run)
  assert len([*cache.glob("text-*")]) == 3
  assert not (TINY / ".ids_cache").exists()


def test_a_run_that_samples_is_of_use(train, tmp_path, call_command, plain_run):
  """It repeats, and evaluates, scores, exports and starts the other kind."""
  outs = [train(tmp_path / name, ",num_samples=20") for name in "ab"]
  assert perplexities(outs[0]) == perplexities(outs[1])
  run, data = tmp_path / "a", f"--data_path={TINY}"
  result = json.loads((tmp_path / "a" / "result.json").read_text())
  test = f"Test Perplexity: {result['test_perplexity']:.3f}"
  args = ["--evaluate", data, f"--save_path={run}"]
  assert test in call_command("ptb_word_lm", *args)[1]
  args = [f"--run={run}", f"--file={TINY}/ptb.test.txt", "--carry_state"]
  _, out, _ = call_command("score", *args)
  assert f"perplexity {result['test_perplexity']:.3f}," in out
  args = [f"--run={run}", f"--export_dir={tmp_path}/out"]
  assert call_command("export", *args)[0] == 0
  for source, other_kind in ((run, ""), (plain_run, ",num_samples=20")):
    hparams = f",learning_rate=1e-9{other_kind}"
    flags = [f"--init_from={source}"]
    out = train(tmp_path / f"other{other_kind}", hparams, *flags)
    # Its weights hardly change, so it reaches what it started from.
    assert perplexities(out)[-1] == perplexities_in(source)[-1]
  checkpoint = next((tmp_path / "a").glob("*.index")).with_suffix("")
  shapes = dict(tf1.train.list_variables(str(checkpoint)))
  assert shapes["Model/softmax_w_rows"] == [50, 8]
  assert "Model/softmax_w" not in shapes


def test_too_many_samples_are_refused(train, tmp_path):
  err = train(tmp_path / "run", ",num_samples=26", expected=1)
  assert "num_samples=26 is more than half of the 50 words" in err
  assert not (tmp_path / "run").exists()


def test_a_limited_run_is_used_with_its_vocabulary(
  train, tmp_path, call_command
):
  out = train(tmp_path / "run", "", "--vocab_size=20")
  vocabulary = (tmp_path / "run" / "vocabulary.txt").read_text().split()
  assert len(vocabulary) == 20 and {"<unk>", "<eos>"} < set(vocabulary)
  args = [f"--data_path={TINY}", f"--save_path={tmp_path}/run"]
  _, evaluated, _ = call_command("ptb_word_lm", *args, "--evaluate")
  assert perplexities(evaluated)[-1] == perplexities(out)[-1]
  args = [f"--run={tmp_path}/run", f"--file={TINY}/ptb.test.txt"]
  _, scored, _ = call_command("score", *args, "--carry_state")
  assert perplexities(out)[-1].split()[-1] in scored
  path = next((tmp_path / "run").glob("*.index")).with_suffix("")
  args = ["--evaluate", f"--data_path={TINY}", f"--checkpoint={path}"]
  args += ["--vocab_size=20", "--hparams=num_steps=5"]
  _, evaluated, _ = call_command("ptb_word_lm", *args)
  assert perplexities(evaluated)[-1].startswith("Test Perplexity: ")
  err = train(tmp_path / "run", "", "--vocab_size=21", expected=1)
  assert "vocab_size is 20 there, 21 here" in err
