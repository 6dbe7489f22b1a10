"""Tests of `python generate.py`."""

import contextlib
import itertools
import math
import os
import re

import numpy as np
import pytest

import generate
import language_model
from conftest import TF1_CHECKPOINT
from lm.text import tokenize_ptb

RANDOM = np.random.RandomState(7)


@pytest.fixture
def call(call_command):
  """Generates with the checkpoint of TensorFlow 1.15."""
  return lambda *args: call_command("generate", *TF1_CHECKPOINT, *args)


def by_sorting(log_probs, temperature=1.0, top_k=None, top_p=None):
  """Does the same as `distribution`, but sorts all words."""
  if temperature == 0:
    temperature, top_k = 1.0, 1
  log_probs = np.asarray(log_probs, float)
  with np.errstate(over="ignore"):
    probs = np.exp((log_probs - log_probs.max()) / temperature)
  probs /= probs.sum()
  order = np.argsort(-probs, kind="stable")  # Likeliest first.
  ordered = probs[order]
  if top_k is not None:
    ordered[top_k:] = 0
    ordered /= ordered.sum()
  if top_p is not None:
    before = np.cumsum(ordered) - ordered
    ordered[before >= top_p] = 0
    ordered /= ordered.sum()
  probs[order] = ordered
  return probs


@pytest.mark.parametrize("temperature", [0, 1e-300, 0.01, 0.5, 1.0, 3.0, 1e9])
@pytest.mark.parametrize("kind", ["random", "some tied", "all tied", "many"])
def test_the_distribution_is_as_by_sorting_all_words(kind, temperature):
  size = 3001 if kind == "many" else 13
  log_probs = np.log(RANDOM.dirichlet(np.full(size, 0.5)) + 1e-12)
  if kind == "all tied":
    log_probs[:] = log_probs[0]
  elif kind != "random":
    log_probs[RANDOM.rand(size) < 0.4] = log_probs[2]
  for top_k, top_p in itertools.product(
    [None, 1, 2, 7, 10, 13, 1500, 9999], [None, 1e-9, 0.3, 0.5, 0.95, 1.0]
  ):
    change = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    result = generate.distribution(log_probs, **change)
    expected = by_sorting(log_probs, **change)
    np.testing.assert_array_equal(result > 0, expected > 0)
    np.testing.assert_allclose(result, expected, rtol=1e-12)


@pytest.mark.parametrize("temperature", [0, 0.5, 2.0])
def test_a_word_can_be_without_probability(temperature):
  log_probs = np.log([0.2, 0.4, 0.1, 0.3])
  change = {"temperature": temperature, "top_k": 2}
  result = generate.distribution(log_probs, without=1, **change)
  expected = by_sorting(np.delete(log_probs, 1), **change)
  np.testing.assert_allclose(result, np.insert(expected, 1, 0), rtol=1e-12)


def test_draw_word_returns_the_word_at_the_number():
  probs = np.array([0.0, 0.25, 0.0, 0.5, 0.25, 0.0])
  below = math.nextafter(1, 0)
  for number, word in [
    (0, 1), (0.2499, 1), (0.25, 3), (0.7499, 3), (0.75, 4), (below, 4),
  ]:  # fmt: skip
    assert generate.draw_word(probs, number) == word
  for probs in RANDOM.dirichlet(np.full(999, 0.1), 50):
    probs[-1] = 0
    assert probs[generate.draw_word(probs, 0)] > 0
    assert probs[generate.draw_word(probs, below)] > 0


@pytest.mark.parametrize(
  "change", [{}, {"temperature": 1.3, "top_k": 12, "top_p": 0.8}]
)
def test_each_word_is_drawn_given_all_before_it(model, change):
  prefixes, numbers = [[5], [], [5, 7, 9]], range(2, 5)
  start = generate.read(model, prefixes)
  texts = generate.draw_texts(model, start, 8, 11, numbers, change)
  for prefix, number, text in zip(prefixes, numbers, texts, strict=True):
    bits, ids = np.random.PCG64([11, number]), [model.id_of("<eos>"), *prefix]
    for word in text:
      *_, states = model.score_stream(ids)
      log_probs, _ = model.next_words(ids[-1:], states)
      sums = np.cumsum(by_sorting(log_probs[0], **change))
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


def test_words_are_joined_to_english(call, monkeypatch):
  join = tokenize_ptb.detokenizer()
  text = "i ca n't say the company 's <unk> \\/ N unit"
  assert join(text.split()) == "i can't say the company's <unk> / N unit"
  args = ["--prefix=w01 w02\nw03", "--num_words=7"]
  _, plain, _ = call(*args)
  monkeypatch.setattr(tokenize_ptb, "detokenizer", lambda: "-".join)
  _, joined, _ = call(*args, "--detokenize")
  assert joined == plain.replace(" ", "-") != plain


def test_sentences_end_the_same_texts_earlier(call):
  args = ["--prefix=w01", "--num_samples=30", "--num_words=6", "--seed=2"]
  _, plain, _ = call(*args)
  status, out, err = call(*args, "--sentences")
  assert (status, err) == (0, "")
  heads_and_texts = re.findall(r"(Sample \d+:\n.*\n)", plain)
  assert out == "".join(heads_and_texts) != plain
  lengths = {len(line.split()) for line in out.splitlines()[1::2]}
  assert {3, 1 + 6} <= lengths  # Some end early, some at --num_words.


def test_each_prefix_of_a_file_is_continued_as_if_alone(call, tmp_path):
  prefixes = ["w01", "", "w02 w03 zzz w04", *(f"w{i:02}" for i in range(1, 49))]
  (tmp_path / "prefixes").write_text("\n".join(prefixes))
  file = f"--prefix_file={tmp_path}/prefixes"
  flags = ["--num_samples=3", "--num_words=5"]
  status, out, err = call(file, *flags)
  assert status == 0
  assert err == "'zzz' is not in the vocabulary: it is left out.\n"
  for number, prefix in enumerate(prefixes[:5], 1):
    _, alone, _ = call(f"--prefix={prefix}", *flags)
    assert alone.replace("Sample", f"Prefix {number}, sample") in out
  assert out.count("Prefix") == 3 * len(prefixes)
  _, once, _ = call(file, "--num_words=5")
  assert once.startswith(f"Prefix 1:\n{out.splitlines()[1]}")


def test_next_word_after_prefixes_from_standard_input(call, tmp_path):
  (tmp_path / "prefixes").write_bytes(b"w01\r\nw02 w03\n")
  with open(tmp_path / "prefixes") as file, redirected(0, file):
    status, out, err = call("--prefix_file=-", "--next_word", "--top_k=4")
  _, first, _ = call("--prefix=w01", "--next_word", "--top_k=4")
  _, second, _ = call("--prefix=w02 w03", "--next_word", "--top_k=4")
  assert (status, err) == (0, "")
  assert out == f"Prefix 1:\n{first}Prefix 2:\n{second}"


@contextlib.contextmanager
def redirected(descriptor, file):
  """Lets a file descriptor of this process read from a file."""
  copy = os.dup(descriptor)
  os.dup2(file.fileno(), descriptor)
  yield
  os.dup2(copy, descriptor)
  os.close(copy)


@pytest.mark.parametrize(
  ("content", "sentence"),
  [
    (None, "prefixes: No such file or directory."),
    (b"", "is empty: it must have a prefix on each line."),
    (b"w01\n\xff\n", "is not UTF-8 text: byte 0xff at offset 4."),
    (b"w01\n\nzzz zzz\n", "Line 3 of --prefix_file has no known word."),
  ],
)
def test_a_bad_file_of_prefixes_is_refused(call, tmp_path, content, sentence):
  if content is not None:
    (tmp_path / "prefixes").write_bytes(content)
  status, out, err = call(f"--prefix_file={tmp_path}/prefixes")
  assert (status, out) == (1, "")
  assert err.splitlines()[-1].startswith("generate.py: ") and sentence in err


def test_no_unknown_never_draws_the_unknown_word(call, model, monkeypatch):
  monkeypatch.setattr(language_model, "LanguageModel", lambda *_: model)
  monkeypatch.setattr(model, "unknown", "w01")
  monkeypatch.setattr(type(model), "__exit__", lambda *_: None)
  flags = ["--num_samples=50", "--num_words=20"]
  assert "w01" in call(*flags)[1]
  assert "w01" not in call(*flags, "--no_unknown")[1]
  _, out, _ = call("--next_word", "--no_unknown")
  rows = [line.split() for line in out.splitlines()]
  _, out, _ = call("--next_word")
  others = [line.split() for line in out.splitlines() if "w01" not in line]
  assert rows == others and len(rows) == 49


@pytest.mark.parametrize(
  ("temperature", "cut", "size"),
  [(1, {}, 50), (0.5, {"top_k": 3}, 3), (1, {"top_k": 4, "top_p": 0.7}, 2)],
)
def test_next_word_prints_the_probabilities(
  call, model, temperature, cut, size
):
  """The flags that cut the list off do not change the model's numbers."""
  change = {"temperature": temperature, **cut}
  flags = [f"--{name}={value}" for name, value in change.items()]
  status, out, err = call("--prefix=w01", "--next_word", *flags)
  assert (status, err) == (0, "")
  rows = [line.split() for line in out.splitlines()]
  log_probs, _ = generate.read(model, [[model.id_of("w01")]])
  probs = generate.distribution(log_probs[0], temperature=temperature)
  order = np.argsort(-probs, kind="stable")[:size]
  assert [word for _, word in rows] == [model.vocabulary[i] for i in order]
  result = [float(prob) for prob, _ in rows]
  np.testing.assert_allclose(result, probs[order], rtol=1e-5)


def test_unknown_words_of_the_prefix_are_reported(call):
  _, plain, _ = call("--prefix=w01", "--next_word")
  status, out, err = call("--prefix=zzz w01 zzz", "--next_word")
  assert (status, out) == (0, plain)
  assert err == "'zzz' is not in the vocabulary: it is left out.\n"


def test_a_model_without_line_ends_needs_a_prefix(call, model, monkeypatch):
  known = {w: i for w, i in model._word_to_id.items() if w != "<eos>"}
  monkeypatch.setattr(model, "_word_to_id", known)
  with pytest.raises(generate.InputError, match="has no <eos> to start"):
    generate.read_prefixes(model, ["zzz"], are_lines=False)
  with pytest.raises(generate.InputError, match=r"Line 2 .* no known word"):
    generate.read_prefixes(model, ["w01", ""], are_lines=True)
  prefixes = generate.read_prefixes(model, ["w01"], are_lines=False)
  assert prefixes == [[known["w01"]]]
  log_probs, _ = generate.read(model, prefixes)
  expected, _ = model.next_words(prefixes[0])
  np.testing.assert_allclose(log_probs, expected, rtol=1e-6)
  monkeypatch.setattr(language_model, "LanguageModel", lambda *_: model)
  monkeypatch.setattr(type(model), "__exit__", lambda *_: None)
  status, _, err = call("--sentences", "--prefix=w01")
  assert status == 1
  assert "has no <eos>: leave out --sentences." in err


def test_as_lines():
  for text, lines in (
    ("a b <eos> c", "a b\nc"), ("a <eos>", "a"), ("a <eos> <eos>", "a\n"),
    ("<eos> <eos> a", "\n\na"), ("", ""),
  ):  # fmt: skip
    assert generate.as_lines(text.split()) == lines


def test_a_prefix_and_a_file_of_prefixes_are_refused(call):
  status, out, err = call("--prefix=w01", "--prefix_file=-")
  assert (status, out) == (1, "") and "no effect with --prefix_file" in err


@pytest.mark.parametrize(
  "flag", ["num_words=3", "sentences", "num_samples=3", "seed=3"]
)
def test_flags_without_effect_are_refused(call, flag):
  status, out, err = call("--next_word", f"--{flag}")
  assert (status, out) == (1, "")
  name = flag.partition("=")[0]
  message = f"generate.py: --{name} has no effect with --next_word: leave"
  assert err.startswith(message) and err.count("\n") == 1


@pytest.mark.parametrize(
  "flag",
  [
    "--temperature=-1.0", "--temperature=nan", "--top_k=0", "--top_p=0.0",
    "--top_p=1.1", "--num_words=0", "--num_samples=0", "--seed=-1",
  ],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(call, flag):
  status, out, err = call(flag)
  assert (status, out) == (1, "") and f"flag {flag}" in err
