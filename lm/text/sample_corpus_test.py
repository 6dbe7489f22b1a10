"""Tests of sample_corpus.py and scripts/make_sample_corpus.py."""

import hashlib
import json
import math
import re

import numpy as np
import pytest

from lm.base import files
from lm.text import sample_corpus
from lm.text.word_ids import DataError

TEXTS = ["ptb.train.txt", "ptb.valid.txt", "ptb.test.txt"]


class EvenProcess(sample_corpus.Source):
  """Emits "a" at will, and "b" only in runs of an even length.

  Two words of three are emitted in state 0, which alone has a choice.
  """

  def __init__(self):
    self.words = ["a", "b"]
    self.emission = np.array([[0.5, 0.5], [0.0, 1.0]])
    self.next_state = np.array([[0, 1], [0, 0]])


@pytest.fixture(scope="module")
def source():
  return sample_corpus.Source(np.random.RandomState(1))


@pytest.fixture
def corpus(tmp_path):
  folder = tmp_path / "made" / "corpus"
  sample_corpus.write_corpus(folder, seed=7, train_words=300)
  return folder


def contents(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


def entropy(*probabilities):
  return -sum(p * math.log(p) for p in probabilities)


def test_perplexities_of_the_even_process_by_hand():
  unigram = entropy(1 / 3, 2 / 3)
  bigram = entropy(1 / 6, 1 / 6, 1 / 6, 1 / 2) - unigram
  assert EvenProcess().perplexities() == (
    pytest.approx(math.exp(bigram)),
    pytest.approx(math.exp(unigram)),
  )


def test_sample_of_the_even_process():
  text, perplexity = EvenProcess().sample(20_000, np.random.RandomState(3))
  text = "".join(text)
  runs = re.findall("b+", text)
  assert all(len(run) % 2 == 0 for run in runs)
  assert text.count("a") / len(text) == pytest.approx(1 / 3, abs=0.02)
  # Each "a", and every other "b", had a probability of 1/2. The first word is
  # not predicted.
  choices = text.count("a") + text.count("b") // 2 - 1
  assert perplexity == pytest.approx(2 ** (choices / (len(text) - 1)))


def test_source_is_as_documented(source):
  assert source.emission.shape == source.next_state.shape == (33, 267)
  assert len(set(source.words)) == len(source.words) == 267
  np.testing.assert_allclose(source.emission.sum(axis=1), 1)
  assert not source.next_state[:, source.words.index("<eos>")].any()


def test_a_long_text_has_the_entropy_of_the_source(source):
  text, perplexity = source.sample(100_000, np.random.RandomState(2))
  state, losses = 0, []
  row_entropy = [entropy(*row[row > 0]) for row in source.emission]
  for word in text:
    losses.append(row_entropy[state])
    state = source.next_state[state, source.words.index(word)]
  assert math.log(perplexity) == pytest.approx(np.mean(losses), abs=0.02)
  assert len(text) / text.count("<eos>") == pytest.approx(22, abs=0.5)
  bigram, unigram = source.perplexities()
  assert perplexity > 30 and 1.5 * perplexity < bigram
  assert 2 * bigram < unigram < len(source.words)
  counts = np.unique(text, return_counts=True)[1]
  assert math.exp(entropy(*counts / len(text))) == (
    pytest.approx(unigram, rel=0.01)
  )


def test_sentences_follow_the_grammar(source):
  text, _ = source.sample(10_000, np.random.RandomState(2))
  # The last letter reveals the class of a word. A vowel: a preposition.
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
    assert len(reached) == 5 and topics == {opener % 8}


def test_same_seed_makes_the_same_files_everywhere(corpus):
  texts = contents(corpus)
  source = json.loads(texts.pop("source.json"))
  sha256 = {n: hashlib.sha256(text).hexdigest() for n, text in texts.items()}
  assert [sha256[name][:12] for name in TEXTS] == [
    "9f5c2c7f4dd6",
    "a4e80d8fc2eb",
    "691c9514c730",
  ]
  assert source == {
    "best_perplexity": pytest.approx(38.29885639, rel=1e-9),
    "bigram_perplexity": pytest.approx(62.72170178, rel=1e-9),
    "unigram_perplexity": pytest.approx(159.17632261, rel=1e-9),
    "seed": 7,
    "vocabulary": 267,
    "words": {"train": 303, "valid": 35, "test": 70},
    "sha256": sha256,
  }
  best = sample_corpus.best_perplexity(corpus, sha256["ptb.test.txt"])
  assert best == source["best_perplexity"]
  assert all(re.fullmatch(rb"( ([a-z]+ )+\n)+", texts[n]) for n in TEXTS)


def test_smallest_corpus(tmp_path):
  folder = tmp_path / "corpus"
  sample_corpus.write_corpus(folder, train_words=1)
  for name in TEXTS:
    assert (folder / name).read_text().count("\n") == 1


def test_best_perplexity_of_other_folders(corpus, tmp_path):
  assert sample_corpus.best_perplexity(tmp_path, "12") is None
  with pytest.raises(DataError, match=r"source\.json does not describe"):
    sample_corpus.best_perplexity(corpus, "12")
  (corpus / "source.json").write_text('{"sha256": 1}')
  with pytest.raises(files.DamagedFileError, match=r"source\.json is damaged"):
    sample_corpus.best_perplexity(corpus, "12")


def test_only_a_folder_with_this_corpus_may_exist(corpus, tmp_path):
  before = contents(corpus)
  sample_corpus.write_corpus(corpus, seed=7, train_words=300)
  with pytest.raises(files.NewFolderError, match="corpus already exists"):
    sample_corpus.write_corpus(corpus, seed=8, train_words=300)
  assert contents(corpus) == before
  with pytest.raises(files.NewFolderError, match="already exists"):
    sample_corpus.write_corpus(tmp_path)


def test_command(tmp_path, corpus, call_command):
  folder = tmp_path / "new"
  args = folder, "--seed=7", "--train_words=300"
  status, out, err = call_command("make_sample_corpus", *args)
  assert (status, err) == (0, "")
  assert out == (
    f"{folder}: 303 words to train on, 35 to validate and 70 to test, with a "
    "vocabulary of 267.\nBest reachable test perplexity: 38.299 (knowing only "
    "the previous word: 62.7, no word: 159.2)\n"
  )
  assert contents(folder) == contents(corpus)


@pytest.mark.parametrize(
  ("args", "message"),
  [
    ([], "make_sample_corpus.py: FOLDER is missing: give the folder"),
    (["."], "make_sample_corpus.py: FOLDER=. already exists. Choose another"),
    (["corpus", "--train_words=0"], "make_sample_corpus.py: flag --train_"),
  ],
)
def test_command_reports_bad_input(args, message, call_command):
  status, out, err = call_command("make_sample_corpus", *args)
  assert (status, out) == (1, "") and err.startswith(message)
