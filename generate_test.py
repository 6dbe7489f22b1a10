"""Tests of `python generate.py`: it draws what the model says."""

import itertools
import math
import re

import numpy as np
import pytest

import generate
from conftest import TF1_CHECKPOINT

RANDOM = np.random.RandomState(7)


@pytest.fixture
def call(call_command):
  """Generates with the checkpoint of TensorFlow 1.15."""
  return lambda *args: call_command("generate", *TF1_CHECKPOINT, *args)


def in_plain_numpy(log_probs, temperature=1.0, top_k=None, top_p=None):
  """Does the same as `distribution` for one row, word by word."""
  probs = np.exp(log_probs / temperature)
  probs /= probs.sum()
  order = sorted(range(len(probs)), key=lambda i: (-probs[i], i))
  if top_k is not None:
    probs[order[top_k:]] = 0
    probs /= probs.sum()
  if top_p is not None:
    kept = 0.0
    for i in order:
      if kept >= top_p:
        probs[i] = 0
      kept += probs[i]
    probs /= probs.sum()
  return probs


@pytest.mark.parametrize("temperature", [0.01, 0.5, 1.0, 3.0, 1e9])
def test_the_distribution_is_as_in_plain_numpy(temperature):
  log_probs = np.log(RANDOM.dirichlet(np.full(13, 0.5), 4) + 1e-12)
  log_probs[1, 3:7] = log_probs[1, 2]  # Some are equally likely.
  for top_k, top_p in itertools.product(
    [None, 1, 2, 7, 13, 99], [None, 1e-9, 0.3, 0.95, 1.0]
  ):
    change = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    found = generate.distribution(log_probs, **change)
    for row, probs in zip(log_probs, found, strict=True):
      expected = in_plain_numpy(row - row.max(), **change)
      np.testing.assert_allclose(probs, expected, atol=1e-12)


@pytest.mark.parametrize(
  ("temperature", "last"), [(0, [1, 0, 0]), (1e-300, [0.5, 0, 0.5])]
)
def test_the_lowest_temperature_takes_the_likeliest(temperature, last):
  log_probs = np.log([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4]])
  found = generate.distribution(log_probs, temperature=temperature)
  np.testing.assert_array_equal(found, [[0, 1, 0], last])


def test_draw_words_takes_what_the_number_falls_on():
  probs = np.array([[0.0, 0.25, 0.0, 0.5, 0.25, 0.0]])
  below = math.nextafter(1, 0)
  for number, word in [
    (0, 1), (0.2499, 1), (0.25, 3), (0.7499, 3), (0.75, 4), (below, 4),
  ]:  # fmt: skip
    assert generate.draw_words(probs, np.array([number])) == [word]
  many = RANDOM.dirichlet(np.full(999, 0.1), 50)
  many[:, -1] = 0
  for number in (0, below):
    words = generate.draw_words(many, np.full(50, number))
    assert (many[np.arange(50), words] > 0).all()


@pytest.mark.parametrize(
  "change", [{}, {"temperature": 1.3, "top_k": 12, "top_p": 0.8}]
)
def test_each_word_is_drawn_given_all_before_it(model, change):
  start, numbers = generate.read(model, [5]), range(2, 5)
  texts = generate.draw_texts(model, start, 8, 11, numbers, change)
  for number, text in zip(numbers, texts, strict=True):
    bits, ids = np.random.PCG64([11, number]), [5]
    for word in text:
      log_probs = generate.read(model, ids)[0][0].astype(float)
      sums = np.cumsum(in_plain_numpy(log_probs, **change))
      uniform = (bits.random_raw() >> 11) / 2**53
      assert word == np.searchsorted(sums, uniform, side="right")
      ids.append(word)


def test_a_seed_draws_the_same_texts(call):
  def texts(*flags):
    args = ["--prefix=w01", "--num_words=12", "--temperature=0.8"]
    status, out, err = call(*args, *flags)
    assert (status, err) == (0, "")
    return re.split(r"Sample \d+:\n", out)

  _, *three = texts("--num_samples=3", "--seed=4")
  assert texts("--seed=4") == three[:1]
  _, *many = texts("--num_samples=103", "--seed=4")  # Not all side by side.
  assert many[:3] == three
  assert len(set(many)) == len(many) == 103
  assert not set(texts("--num_samples=3", "--seed=5")) & set(many)


def test_the_text_continues_the_prefix(call):
  _, out, err = call("--prefix=w01 w02\nw03", "--num_words=7")
  assert out.startswith("w01 w02\nw03 ") and err == ""
  words = out.replace("\n", " <eos> ").split()
  assert len(words) in (3 + 1 + 7, 3 + 1 + 7 + 1)  # A last <eos> is not seen.


@pytest.mark.parametrize("change", [{}, {"top_k": 3, "temperature": 0.5}])
def test_next_word_prints_the_distribution(call, model, change):
  flags = [f"--{name}={value}" for name, value in change.items()]
  status, out, err = call("--prefix=w01", "--next_word", *flags)
  assert (status, err) == (0, "")
  rows = [line.split() for line in out.splitlines()]
  log_probs, _ = generate.read(model, [model.id_of("w01")])
  (probs,) = generate.distribution(log_probs, **change)
  order = np.argsort(-probs, kind="stable")[: change.get("top_k", 50)]
  assert [word for _, word in rows] == [model.vocabulary[i] for i in order]
  found = [float(prob) for prob, _ in rows]
  np.testing.assert_allclose(found, probs[order], rtol=1e-5)


def test_unknown_words_of_the_prefix_are_reported(call):
  _, plain, _ = call("--prefix=w01", "--next_word")
  status, out, err = call("--prefix=zzz w01 zzz", "--next_word")
  assert (status, out) == (0, plain)
  assert err == "'zzz' is not in the vocabulary: it is left out.\n"


def test_a_model_without_line_ends_needs_a_prefix(model, monkeypatch):
  known = {w: i for w, i in model._word_to_id.items() if w != "<eos>"}
  monkeypatch.setattr(model, "_word_to_id", known)
  with pytest.raises(generate.InputError, match="knows no <eos> to start"):
    generate.read_prefix(model, "zzz")
  assert generate.read_prefix(model, "w01") == [known["w01"]]
  log_probs, _ = generate.read(model, [known["w01"]])
  expected, _ = model.next_words([known["w01"]])
  np.testing.assert_allclose(log_probs, expected, rtol=1e-6)


def test_as_lines():
  for text, lines in (
    ("a b <eos> c", "a b\nc"), ("a <eos>", "a"), ("a <eos> <eos>", "a\n"),
    ("<eos> <eos> a", "\n\na"), ("", ""),
  ):  # fmt: skip
    assert generate.as_lines(text.split()) == lines


@pytest.mark.parametrize("flag", ["num_words", "num_samples", "seed"])
def test_flags_without_effect_are_refused(call, flag):
  status, out, err = call("--next_word", f"--{flag}=3")
  assert (status, out) == (1, "")
  message = f"generate.py: --{flag} has no effect with --next_word: leave"
  assert err.startswith(message) and err.count("\n") == 1


@pytest.mark.parametrize(
  "flag",
  [
    "--temperature=-1", "--temperature=nan", "--top_k=0", "--top_p=0",
    "--top_p=1.1", "--num_words=0", "--num_samples=0", "--seed=-1",
  ],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(call, flag):
  with pytest.raises(generate.flags.IllegalFlagValueError):
    call(flag)
