"""Tests of `python generate.py`: it draws what the model says."""

import collections
import itertools
import math
import re

import numpy as np
import pytest

import generate
import language_model
from conftest import TF1_CHECKPOINT, TINY

RANDOM = np.random.RandomState(7)


@pytest.fixture(scope="module")
def model():
  trained = language_model.find(None, f"{TINY}/model.ckpt-7680", str(TINY))
  with language_model.LanguageModel(trained) as model:
    yield model


@pytest.fixture
def call(call_command):
  """Generates with the checkpoint of TensorFlow 1.15."""
  return lambda *args: call_command("generate", *TF1_CHECKPOINT, *args)


def p_value(counts, probs):
  """Returns how likely so unlike counts are, if `probs` is right (chi-square).

  Words expected less than ten times are one class. By the approximation of
  Wilson and Hilferty, which is good to 0.001 for so many classes.
  """
  expected = probs * counts.sum()
  few = expected < 10
  counts = np.append(counts[~few], counts[few].sum())
  expected = np.append(expected[~few], expected[few].sum())
  if expected[-1] == 0:
    assert counts[-1] == 0
    counts, expected = counts[:-1], expected[:-1]
  chi_square = ((counts - expected) ** 2 / expected).sum()
  free = len(counts) - 1
  z = (chi_square / free) ** (1 / 3) - (1 - 2 / (9 * free))
  return math.erfc(z / math.sqrt(2 / (9 * free)) / math.sqrt(2)) / 2


def in_plain_numpy(log_probs, temperature, top_k, top_p):
  """Does what `changed` says, for one row, word by word."""
  probs = np.exp(log_probs / temperature)
  probs /= probs.sum()
  order = sorted(range(len(probs)), key=lambda i: (-probs[i], i))
  if top_k is not None:
    for i in order[top_k:]:
      probs[i] = 0
    probs /= probs.sum()
  if top_p is not None:
    kept = 0.0
    for i in order:
      if kept >= top_p:
        probs[i] = 0
      kept += probs[i]
    probs /= probs.sum()
  return probs


CHANGES = [
  {},
  {"temperature": 0.7},
  {"top_p": 0.6},
  {"temperature": 1.3, "top_k": 12, "top_p": 0.8},
]


@pytest.mark.parametrize("change", CHANGES)
def test_100_000_words_are_of_the_models_distribution(model, change):
  prefix = [model.id_of(word) for word in ("w01", "w02")]
  start = generate.read(model, prefix)
  texts = [
    generate.draw_texts(
      model, start, 1, 11, range(first, first + 10_000), change
    )
    for first in range(0, 100_000, 10_000)
  ]
  counts = np.bincount(np.concatenate(texts)[:, 0], minlength=50)
  log_probs, _ = start
  every = {"temperature": 1.0, "top_k": None, "top_p": None, **change}
  probs = in_plain_numpy(log_probs[0].astype(float), **every)
  assert counts.sum() == 100_000
  assert 0.001 < p_value(counts, probs) < 0.999


def test_a_temperature_that_is_off_would_be_seen(model):
  log_probs, states = generate.read(model, [])
  texts = generate.draw_texts(
    model, (log_probs, states), 1, 11, range(20_000), {}
  )
  counts = np.bincount(texts[:, 0], minlength=50)
  probs = in_plain_numpy(log_probs[0].astype(float), 1.5, None, None)
  assert p_value(counts, probs) < 1e-6


def test_second_words_are_drawn_given_the_first(model):
  """Texts of two words, those with the same first word."""
  texts = generate.draw_texts(
    model, generate.read(model, []), 2, 3, range(20_000), {}
  )
  (first, times), *_ = collections.Counter(texts[:, 0].tolist()).most_common()
  assert times > 500
  counts = np.bincount(texts[texts[:, 0] == first, 1], minlength=50)
  log_probs, _ = generate.read(model, [first])
  probs = in_plain_numpy(log_probs[0].astype(float), 1.0, None, None)
  assert 0.001 < p_value(counts, probs) < 0.999


@pytest.mark.parametrize("temperature", [0.01, 0.5, 1.0, 3.0, 1e9])
def test_changed_is_as_in_plain_numpy(temperature):
  log_probs = np.log(RANDOM.dirichlet(np.full(13, 0.5), 4) + 1e-12)
  log_probs[1, 3:7] = log_probs[1, 2]  # Some are equally likely.
  for top_k, top_p in itertools.product(
    [None, 1, 2, 7, 13, 99], [None, 1e-9, 0.3, 0.95, 1.0]
  ):
    found = generate.changed(
      log_probs, temperature=temperature, top_k=top_k, top_p=top_p
    )
    for row, probs in zip(log_probs, found, strict=True):
      expected = in_plain_numpy(row - row.max(), temperature, top_k, top_p)
      np.testing.assert_allclose(probs, expected, atol=1e-12)


@pytest.mark.parametrize("temperature", [0, 1e-300])
def test_the_lowest_temperature_takes_the_likeliest(temperature):
  log_probs = np.log([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4]])
  found = generate.changed(log_probs, temperature=temperature)
  if temperature:
    np.testing.assert_array_equal(found, [[0, 1, 0], [0.5, 0, 0.5]])
  else:
    np.testing.assert_array_equal(found, [[0, 1, 0], [1, 0, 0]])


def test_draw_words_takes_what_the_number_falls_on():
  probs = np.array([[0.0, 0.25, 0.0, 0.5, 0.25, 0.0]])
  below = math.nextafter(1, 0)
  for number, word in [
    (0, 1),
    (0.2499, 1),
    (0.25, 3),
    (0.7499, 3),
    (0.75, 4),
    (below, 4),
  ]:
    assert generate.draw_words(probs, np.array([number])) == [word]
  many = RANDOM.dirichlet(np.full(999, 0.1), 50)
  many[:, -1] = 0
  for number in (0, below):
    words = generate.draw_words(many, np.full(50, number))
    assert (many[np.arange(50), words] > 0).all()


def test_a_seed_draws_the_same_texts(call):
  flags = ["--prefix=w01", "--num_words=12", "--temperature=0.8"]
  status, out, err = call(*flags, "--num_samples=3", "--seed=4")
  assert (status, err) == (0, "")
  assert call(*flags, "--num_samples=3", "--seed=4")[1] == out
  assert call(*flags, "--num_samples=3", "--seed=5")[1] != out
  _, samples = out.split("Sample 1:\n")
  samples = samples.split("Sample 2:\n")
  # The first text is the same, however many there are.
  assert call(*flags, "--seed=4")[1] == samples[0]
  assert samples[0] != samples[1].split("Sample 3:\n")[0]


def test_each_of_many_texts_is_another(call):
  """More than are drawn side by side."""
  _, out, _ = call("--num_samples=103", "--num_words=12")
  texts = re.split(r"Sample \d+:\n", out)[1:]
  assert len(set(texts)) == len(texts) == 103
  _, out, _ = call("--num_samples=2", "--num_words=12", "--seed=2")
  assert not set(re.split(r"Sample \d+:\n", out)[1:]) & set(texts)


def test_the_text_goes_on_from_the_prefix(call):
  _, out, err = call("--prefix=w01 w02\nw03", "--num_words=7")
  assert err == ""
  lines = out.splitlines()
  assert lines[0] == "w01 w02" and lines[1].startswith("w03 ")
  words = out.replace("\n", " <eos> ").split()
  assert len(words) in (3 + 1 + 7, 3 + 1 + 7 + 1)  # A last <eos> is not seen.


def test_next_word_prints_the_distribution(call, model):
  log_probs, _ = generate.read(model, [model.id_of("w01")])
  for flags, change in (
    ([], {}),
    (["--top_k=3", "--temperature=0.5"], {"top_k": 3, "temperature": 0.5}),
  ):
    status, out, err = call("--prefix=w01", "--next_word", *flags)
    assert (status, err) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    probs = [float(prob) for prob, _ in rows]
    assert probs == sorted(probs, reverse=True)
    assert sum(probs) == pytest.approx(1, abs=1e-4)
    assert len(rows) == change.get("top_k", 50)
    (expected,) = generate.changed(log_probs, **change)
    for prob, (_, word) in zip(probs, rows, strict=True):
      assert prob == pytest.approx(expected[model.id_of(word)], rel=1e-5)


def test_several_runs_draw_from_their_mean(call_command, runs):
  probs = []
  for run in (f"{runs}/a", f"{runs}/b", f"{runs}/a,{runs}/b"):
    status, out, _ = call_command("generate", f"--run={run}", "--next_word")
    assert status == 0
    rows = [line.split() for line in out.splitlines()]
    probs.append({word: float(prob) for prob, word in rows})
  one, other, mean = probs
  for word, prob in mean.items():
    assert prob == pytest.approx((one[word] + other[word]) / 2, rel=1e-4)


def test_unknown_words_of_the_prefix_are_told(call):
  _, plain, _ = call("--prefix=w01", "--next_word")
  status, out, err = call("--prefix=zzz w01 zzz", "--next_word")
  assert (status, out) == (0, plain)
  assert err == "'zzz' is not in the vocabulary: it is left out.\n"


def test_a_model_without_line_ends_needs_a_prefix(model, monkeypatch):
  known = dict(model._word_to_id)
  del known["<eos>"]
  monkeypatch.setattr(model, "_word_to_id", known)
  with pytest.raises(generate.PrefixError, match="knows no <eos> to start"):
    generate.read_prefix(model, "zzz")
  ids = generate.read_prefix(model, "w01")
  log_probs, _ = generate.read(model, ids)
  expected, _ = model.next_words(ids)
  np.testing.assert_allclose(log_probs, expected, rtol=1e-6)


@pytest.mark.parametrize(
  ("text", "lines"),
  [
    ("a b <eos> c", "a b\nc"),
    ("a <eos>", "a"),
    ("<eos> <eos> a", "\n\na"),
    ("", ""),
  ],
)
def test_as_lines(text, lines):
  assert generate.as_lines(text.split()) == lines


@pytest.mark.parametrize(
  ("args", "message"),
  [
    (["--run=/none"], "/none is not the folder of a run"),
    ([], "Name the folder of a trained run, --run; or a --checkpoint"),
    (["--checkpoint=/none", f"--data_path={TINY}"], "There is no checkpoint"),
    (["--next_word", "--num_words=3"], "--num_words has no effect with --nex"),
    (["--next_word", "--seed=3"], "--seed has no effect with --next_word: le"),
  ],
)
def test_bad_input_gets_one_sentence(call_command, args, message):
  status, out, err = call_command("generate", *args)
  assert (status, out) == (1, "")
  assert err.startswith(f"generate.py: {message}")
  assert err.count("\n") == 1


@pytest.mark.parametrize(
  "flag",
  [
    "--temperature=-1",
    "--temperature=nan",
    "--top_k=0",
    "--top_p=0",
    "--top_p=1.1",
    "--num_words=0",
    "--num_samples=0",
    "--seed=-1",
  ],
)
def test_numbers_out_of_range_are_refused(call, flag):
  with pytest.raises(generate.flags.IllegalFlagValueError):
    call(flag)
