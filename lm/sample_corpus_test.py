"""Tests of sample_corpus.py."""

import itertools
import json
import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from lm import sample_corpus
from lm.sample_corpus import CorpusError

SCRIPT = sample_corpus.__file__
TEXTS = ["ptb.train.txt", "ptb.valid.txt", "ptb.test.txt"]

# The even process: "a" at will, "b" only in runs of an even length. It is in
# the first state for two words of three, and only there has a choice.
EVEN = sample_corpus.Source(
  words=("a", "b"),
  emission=np.array([[0.5, 0.5], [0.0, 1.0]]),
  next_state=np.array([[0, 1], [0, 0]]),
)


def entropy(*probabilities):
  return -sum(p * math.log(p) for p in probabilities)


@pytest.fixture(scope="module")
def source():
  return sample_corpus.make_source(np.random.RandomState(1))


@pytest.fixture(scope="module")
def text(source):
  return source.sample(30_000, np.random.RandomState(2))


@pytest.fixture
def corpus(tmp_path):
  """A folder with a small corpus."""
  folder = str(tmp_path / "made" / "corpus")
  sample_corpus.write_corpus(folder, seed=7, train_words=300)
  return folder


def read(folder, name):
  with open(os.path.join(folder, name), encoding="utf-8", newline="") as f:
    return f.read()


def contents(folder):
  return {name: read(folder, name) for name in os.listdir(folder)}


def interrupt(monkeypatch, function, calls):
  """Has a function of os raise KeyboardInterrupt after that many calls."""
  original, left = getattr(os, function), [None] * calls

  def interrupted(*args, **kwargs):
    if not left:
      raise KeyboardInterrupt
    left.pop()
    return original(*args, **kwargs)

  monkeypatch.setattr(os, function, interrupted)


def words_of(content):
  return content.replace("\n", "<eos>").split()


def write(folder, name, content):
  with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
    f.write(content)


def test_even_process_by_hand():
  np.testing.assert_allclose(EVEN.stationary(), [2 / 3, 1 / 3], rtol=1e-12)
  best = 2 / 3 * math.log(2)
  unigram = entropy(1 / 3, 2 / 3)
  bigram = entropy(1 / 6, 1 / 6, 1 / 6, 1 / 2) - unigram
  assert EVEN.entropy_rate() == pytest.approx(best, rel=1e-12)
  assert EVEN.best_perplexity() == pytest.approx(math.exp(best))
  assert EVEN.unigram_perplexity() == pytest.approx(math.exp(unigram))
  assert EVEN.bigram_perplexity() == pytest.approx(math.exp(bigram))


def test_even_process_by_listing_all_its_texts():
  block_entropy = []
  for length in (10, 11):
    logs = np.array(
      [
        EVEN.log_probabilities(text).sum()
        for text in itertools.product("ab", repeat=length)
      ]
    )
    logs = logs[np.isfinite(logs)]
    assert np.exp(logs).sum() == pytest.approx(1)
    block_entropy.append(-(np.exp(logs) * logs).sum())
  last_word = block_entropy[1] - block_entropy[0]
  assert last_word == pytest.approx(EVEN.entropy_rate(), rel=1e-2)


def test_score_of_a_text():
  scores = EVEN.log_probabilities(list("abbab"))
  np.testing.assert_allclose(np.exp(scores), [0.5, 0.5, 1, 0.5, 0.5])
  assert EVEN.log_probabilities(list("aba"))[-1] == -math.inf
  assert EVEN.perplexity(list("aba")) == math.inf
  assert EVEN.perplexity(list("abba")) == pytest.approx(2 ** (2 / 3))
  with pytest.raises(CorpusError, match="does not have the word 'c'"):
    EVEN.log_probabilities(list("abc"))
  with pytest.raises(CorpusError, match="two words or more"):
    EVEN.perplexity(["a"])


def test_sample_of_the_even_process():
  text = "".join(EVEN.sample(20_000, np.random.RandomState(3)))
  assert 20_000 <= len(text) <= 20_001
  assert all(len(run) % 2 == 0 for run in re.findall("b+", text))
  assert text.count("a") / len(text) == pytest.approx(1 / 3, abs=0.02)


def test_source_is_a_chain_that_its_words_tell(source):
  np.testing.assert_allclose(source.emission.sum(axis=1), 1)
  stationary = source.stationary()
  assert stationary.min() > 0
  assert stationary.sum() == pytest.approx(1)
  after = np.zeros_like(stationary)
  for state, word in np.argwhere(source.emission):
    after[source.next_state[state, word]] += (
      stationary[state] * source.emission[state, word]
    )
  np.testing.assert_allclose(after, stationary)
  assert not source.next_state[:, source.words.index("<eos>")].any()


def test_size_is_as_documented(source):
  assert source.emission.shape == source.next_state.shape == (33, 267)
  assert len(set(source.words)) == len(source.words) == 267
  assert 1 / source.stationary()[0] == pytest.approx(22, abs=0.5)


def test_own_score_of_a_long_text_is_the_entropy_rate(source, text):
  scores = source.log_probabilities(text)
  error = scores.std() / math.sqrt(len(text))
  assert -scores.mean() == pytest.approx(source.entropy_rate(), abs=4 * error)
  assert source.perplexity(text) == pytest.approx(math.exp(-scores[1:].mean()))


def test_states_of_a_text_are_visited_as_the_stationary_shares_say(
  source, text
):
  visits, state = np.zeros(len(source.emission)), 0
  for word in text:
    visits[state] += 1
    state = source.next_state[state, source.words.index(word)]
  np.testing.assert_allclose(visits / len(text), source.stationary(), atol=0.01)


def test_memory_pays(source):
  best, bigram = source.best_perplexity(), source.bigram_perplexity()
  assert best > 30
  assert 1.5 * best < bigram
  assert 2 * bigram < source.unigram_perplexity() < len(source.words)


def test_sentences_follow_the_grammar(text):
  """The last letter tells the class of a word; a vowel is a preposition."""
  letters = [re.sub("[aeiou]", "p", word[-1]) for word in text]
  sentences = "".join(letters).split(">")
  assert sentences.pop() == ""
  clause = "l*n(pl*n)*sl*n(pl*n)*"
  for sentence in sentences:
    assert re.fullmatch(f"r{clause}(t{clause})*", sentence)


def test_sentence_keeps_the_topic_of_its_first_word(source):
  openers = np.flatnonzero(source.emission[0])
  assert len(openers) == 32
  for opener in openers:
    reached = {source.next_state[0, opener]}
    for _ in range(4):
      reached |= {
        source.next_state[state, word]
        for state in reached - {0}
        for word in np.flatnonzero(source.emission[state])
      }
    topics = {(state - 1) // 4 for state in reached - {0}}
    assert len(reached) == 5 and topics == {(opener - openers[0]) % 8}


def test_files_have_the_format_of_ptb(corpus):
  assert sorted(os.listdir(corpus)) == sorted([*TEXTS, "source.json"])
  for name in TEXTS:
    content = read(corpus, name)
    assert re.fullmatch(r"( ([a-z]+ )+\n)+", content)


def test_same_seed_makes_the_same_files_everywhere(corpus):
  about = json.loads(read(corpus, "source.json"))
  assert [about["sha256"][name][:12] for name in TEXTS] == [
    "9f5c2c7f4dd6",
    "a4e80d8fc2eb",
    "691c9514c730",
  ]
  other = sample_corpus.write_corpus(corpus, seed=8, train_words=300)
  assert not set(other["sha256"].values()) & set(about["sha256"].values())


def test_source_json_has_the_numbers(corpus):
  about = json.loads(read(corpus, "source.json"))
  source = sample_corpus.make_source(np.random.RandomState(7))
  train, valid, test = (words_of(read(corpus, name)) for name in TEXTS)
  assert len(train) >= 300 and min(len(valid), len(test)) >= 30
  del about["sha256"]
  assert about == {
    "best_perplexity": pytest.approx(source.perplexity(test)),
    "best_valid_perplexity": pytest.approx(source.perplexity(valid)),
    "expected_perplexity": pytest.approx(source.best_perplexity()),
    "bigram_perplexity": pytest.approx(source.bigram_perplexity()),
    "unigram_perplexity": pytest.approx(source.unigram_perplexity()),
    "seed": 7,
    "vocabulary": 267,
    "words": {"train": len(train), "valid": len(valid), "test": len(test)},
  }
  assert sample_corpus.best_perplexity(corpus) == about["best_perplexity"]


def test_smallest_corpus(tmp_path):
  about = sample_corpus.write_corpus(tmp_path, train_words=1)
  assert min(about["words"].values()) >= 5
  for name in TEXTS:
    assert read(tmp_path, name).count("\n") == 1


def test_best_perplexity_is_none_for_other_texts(tmp_path):
  assert sample_corpus.best_perplexity(tmp_path) is None
  assert sample_corpus.best_perplexity(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
  "damage",
  ["", "[]", "{}", "\xff", '{"best_perplexity": NaN, "sha256": {}}'],
)
def test_damaged_source_json(corpus, damage):
  write(corpus, "source.json", damage)
  with pytest.raises(CorpusError, match=r"source\.json is damaged"):
    sample_corpus.best_perplexity(corpus)
  with pytest.raises(CorpusError, match=r"source\.json is damaged"):
    sample_corpus.write_corpus(corpus)


def test_texts_that_cannot_be_read(corpus):
  os.remove(os.path.join(corpus, "ptb.test.txt"))
  os.mkdir(os.path.join(corpus, "ptb.test.txt"))
  for use in (sample_corpus.best_perplexity, sample_corpus.write_corpus):
    with pytest.raises(CorpusError, match=r"ptb\.test\.txt cannot be read"):
      use(corpus)


def test_source_json_of_another_test_text(corpus):
  write(corpus, "ptb.test.txt", " the cat \n")
  with pytest.raises(CorpusError, match=r"describes another ptb\.test\.txt"):
    sample_corpus.best_perplexity(corpus)


@pytest.mark.parametrize("with_source", [False, True])
@pytest.mark.parametrize("name", TEXTS)
def test_files_of_others_are_not_replaced(corpus, name, with_source):
  write(corpus, name, " the cat \n")
  if not with_source:
    os.remove(os.path.join(corpus, "source.json"))
  before = contents(corpus)
  with pytest.raises(CorpusError, match=r"txt is not of a sample corpus\."):
    sample_corpus.write_corpus(corpus)
  assert contents(corpus) == before


@pytest.mark.parametrize("anew", [False, True])
@pytest.mark.parametrize("moves", range(4))
def test_interrupted_call_leaves_no_corpus(tmp_path, monkeypatch, moves, anew):
  if anew:
    sample_corpus.write_corpus(tmp_path, seed=7, train_words=300)
  interrupt(monkeypatch, "replace", moves)
  with pytest.raises(KeyboardInterrupt):
    sample_corpus.write_corpus(tmp_path, seed=8, train_words=300)
  left = set(os.listdir(tmp_path))
  assert left <= {"source.json", *TEXTS} - {"ptb.test.txt"}
  monkeypatch.undo()
  about = sample_corpus.write_corpus(tmp_path, seed=9, train_words=300)
  assert sample_corpus.best_perplexity(tmp_path) == about["best_perplexity"]


def test_call_interrupted_early_leaves_the_corpus_that_was_there(
  corpus, monkeypatch
):
  before = contents(corpus)
  interrupt(monkeypatch, "remove", 0)
  with pytest.raises(KeyboardInterrupt):
    sample_corpus.write_corpus(corpus, seed=8, train_words=300)
  assert contents(corpus) == before


@pytest.mark.parametrize(
  ("numbers", "complaint"),
  [
    ({"seed": -1}, "seed must be a whole number from 0 to"),
    ({"seed": 2**32}, "it is 4294967296"),
    ({"seed": 1.5}, "it is 1.5"),
    ({"train_words": 0}, "train_words must be a whole number from 1 to"),
    ({"train_words": 10**9}, "it is 1000000000"),
    ({"train_words": "9"}, "it is '9'"),
  ],
)
def test_numbers_out_of_range(tmp_path, numbers, complaint):
  with pytest.raises(CorpusError, match=complaint):
    sample_corpus.write_corpus(tmp_path / "corpus", **numbers)
  assert not os.listdir(tmp_path)


def run(*args):
  return subprocess.run(
    [sys.executable, "-W", "error", SCRIPT, *map(str, args)],
    capture_output=True,
    text=True,
    timeout=60,
  )


def test_main(tmp_path):
  folder = tmp_path / "corpus"
  done = run(folder, "--seed=7", "--train_words=300")
  assert (done.returncode, done.stderr) == (0, "")
  best = sample_corpus.best_perplexity(folder)
  assert f"Best reachable test perplexity: {best:.3f}" in done.stdout
  assert done.stdout.startswith(f"{folder}: 3")
  about = sample_corpus.write_corpus(folder, seed=7, train_words=300)
  assert about["best_perplexity"] == best


@pytest.mark.parametrize(
  ("args", "complaint"),
  [
    ([], "Name one folder"),
    (["a", "b"], "Name one folder"),
    ([SCRIPT], "is a file. Name a folder"),
    ([os.path.join(SCRIPT, "corpus")], "cannot be written: Not a directory"),
    (["corpus", "--train_words=0"], "it is 0."),
  ],
)
def test_main_answers_bad_input_in_a_sentence(args, complaint):
  done = run(*args)
  assert (done.returncode, done.stdout) == (1, "")
  assert complaint in done.stderr
  assert done.stderr.count("\n") == 1


def test_import_loads_neither_tensorflow_nor_flags():
  code = (
    "import sys, sample_corpus; from absl import flags; "
    "assert 'tensorflow' not in sys.modules and 'seed' not in flags.FLAGS"
  )
  folder = os.path.dirname(os.path.abspath(SCRIPT))
  subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)
