"""Tests of reader.py."""

import hashlib
import json
import subprocess

import numpy as np
import pytest

import reader
from lm.base import tf1
from lm.text import preparation
from lm.text.word_ids import read_vocabulary

# The drawing in reader.py.
IDS = list(range(17))
BATCHES = [
  ([[0, 1, 2], [8, 9, 10]], [[1, 2, 3], [9, 10, 11]]),
  ([[3, 4, 5], [11, 12, 13]], [[4, 5, 6], [12, 13, 14]]),
]
TEXT = " the cat saw the dog \n the dog ran \n"


@pytest.fixture
def write(tmp_path):
  """Writes the three files, and returns their folder."""

  def write_texts(train=TEXT, valid=TEXT, test=TEXT):
    for part, text in (("train", train), ("valid", valid), ("test", test)):
      content = text if isinstance(text, bytes) else text.encode()
      (tmp_path / f"ptb.{part}.txt").write_bytes(content)
    return str(tmp_path)

  return write_texts


def produce(count, *args, **kwargs):
  """Returns the next batches of a ptb_producer, [count, 2, B, T]."""
  with tf1.Graph().as_default(), tf1.Session() as session:
    batch = reader.ptb_producer(*args, **kwargs)
    fetched = [session.run(batch) for _ in range(count)]
    assert [x.shape for x in batch] == [x.shape for x in fetched[0]]
  return np.array(fetched)


def test_iterator_gives_the_drawing():
  batches = list(reader.ptb_iterator(IDS, 2, 3))
  np.testing.assert_array_equal(batches, BATCHES)
  assert batches[0][0].dtype == np.int32


def test_producer_repeats_the_drawing():
  np.testing.assert_array_equal(
    produce(5, IDS, 2, 3), [BATCHES[i % 2] for i in range(5)]
  )
  np.testing.assert_array_equal(produce(3, [5, 6], 1, 1), [[[[5]], [[6]]]] * 3)


@pytest.mark.parametrize(
  "workers",
  [[slice(0, 3), slice(3, 5)], [slice(0, 2), slice(2, 4), slice(4, 5)]],
)
def test_producers_of_several_workers_share_the_rows(workers):
  ids = range(50)
  together = produce(7, ids, 5, 2)
  parts = [produce(7, ids, 5, 2, rows=rows) for rows in workers]
  assert parts[0].shape == (7, 2, workers[0].stop, 2)
  np.testing.assert_array_equal(np.concatenate(parts, axis=2), together)


def test_producer_works_as_the_tutorial_used_it():
  with tf1.Graph().as_default(), tf1.Session() as session:
    x, y = reader.ptb_producer(np.array(IDS), 2, 3, name="Batches")
    assert (x.dtype, x.shape, y.shape) == (tf1.int32, (2, 3), (2, 3))
    assert x.op.name == "Batches/StridedSlice"
    coordinator = tf1.train.Coordinator()
    threads = tf1.train.start_queue_runners(session, coordinator)
    np.testing.assert_array_equal(session.run([x, y]), BATCHES[0])
    coordinator.request_stop()
    coordinator.join(threads)


@pytest.mark.parametrize(
  ("words", "batch_size", "num_steps", "size"),
  [
    (929589, 20, 20, 2323),
    (929589, 20, 35, 1327),
    (73760, 20, 20, 184),
    (73760, 20, 35, 105),
    (82430, 1, 1, 82429),
    (8, 2, 3, 1),  # Just long enough.
  ],
)
def test_epoch_size(words, batch_size, num_steps, size):
  assert reader.epoch_size(words, batch_size, num_steps) == size


@pytest.mark.parametrize("words", [0, 1, 7])
def test_too_few_words(words):
  message = r"2 x 4 .*batch_size or num_steps"
  with pytest.raises(reader.DataError, match=message):
    reader.ptb_producer(IDS[:words], 2, 3)
  with pytest.raises(reader.DataError, match=message):
    list(reader.ptb_iterator(IDS[:words], 2, 3))
  with pytest.raises(reader.DataError, match=r"1 x 2 .*Choose a longer text"):
    reader.epoch_size(1, 1, 1)


def test_texts_that_are_too_short(write):
  corpus = reader.read_corpus(write(valid="the\n"))
  reader.check_sizes(corpus, 1, 1)
  with pytest.raises(reader.DataError, match=r"ptb.train.txt: too few words"):
    reader.check_sizes(corpus, 5, 2)
  with pytest.raises(reader.DataError, match=r"ptb.valid.txt: too few words"):
    reader.check_sizes(corpus, 2, 1)
  corpus = reader.read_corpus(write(test="the"))
  with pytest.raises(reader.DataError, match=r"ptb.test.txt: .* longer text"):
    reader.check_sizes(corpus, 1, 1)


def test_raw_data_orders_words_by_count_then_alphabet(write):
  data_path = write(valid=" dog \n", test=" saw the ran \n")
  train, valid, test, vocabulary = reader.ptb_raw_data(data_path)
  # the: 3; <eos>, dog: 2; cat, ran, saw: 1.
  np.testing.assert_array_equal(train, [0, 3, 5, 0, 2, 1, 0, 2, 4, 1])
  np.testing.assert_array_equal(valid, [2, 1])
  np.testing.assert_array_equal(test, [5, 0, 4, 1])
  assert vocabulary == 6
  assert train.dtype == np.int32


def test_corpus_has_all_that_is_known_about_the_texts(write, tmp_path):
  data_path = write()
  corpus = reader.read_corpus(data_path)
  assert corpus.vocabulary == ["the", "<eos>", "dog", "cat", "ran", "saw"]
  assert corpus.sha256["ptb.test.txt"] == (
    hashlib.sha256(TEXT.encode()).hexdigest()
  )
  assert (corpus.preparation, corpus.best_perplexity) == (None, None)
  choices = {"lower_case": True, "number_word": "", "punctuation": "keep"}
  source = {"best_perplexity": 1.5, "sha256": corpus.sha256}
  (tmp_path / "preparation.json").write_text(
    json.dumps({"preparation": choices})
  )
  (tmp_path / "source.json").write_text(json.dumps(source))
  corpus = reader.read_corpus(data_path)
  assert corpus.preparation == preparation.Preparation(**choices)
  assert corpus.best_perplexity == 1.5
  vocabulary = [word for word in corpus.vocabulary if word != "saw"]
  assert reader.read_corpus(data_path, None, vocabulary).best_perplexity is None


def test_words_that_train_lacks_are_unknown_and_counted(write, caplog):
  data_path = write("a <unk> b\na a\n", "a zebra b yak\n", "b\n")
  with caplog.at_level("WARNING"):
    corpus = reader.read_corpus(data_path)
  words = [corpus.vocabulary[i] for i in corpus.valid]
  assert words == ["a", "<unk>", "b", "<unk>", "<eos>"]
  told = "valid.txt: the vocabulary lacks 2 of 5 words. Such words are read as "
  assert f"{told}<unk>." in caplog.text


def test_another_word_can_stand_for_unknown_words(write, caplog):
  data_path = write(train="a UNK b\n", valid="a zebra\n", test="b\n")
  with caplog.at_level("WARNING"):
    corpus = reader.read_corpus(data_path)
  assert len(corpus.valid) == 2
  assert "<unk>, but it has UNK. If UNK stands for unknown words, add --" in (
    caplog.text
  )
  caplog.clear()
  corpus = reader.read_corpus(data_path, "UNK")
  assert [corpus.vocabulary[i] for i in corpus.valid] == ["a", "UNK", "<eos>"]
  assert corpus.unknown == "UNK" and "no <unk>" not in caplog.text
  with pytest.raises(reader.DataError, match=r"^--unknown_word=U is"):
    reader.read_corpus(data_path, "U")
  for word in ("", "<eos>"):
    with pytest.raises(
      reader.DataError, match="cannot stand for unknown words"
    ):
      reader.read_corpus(data_path, word)


@pytest.mark.parametrize("word", ["<SPOKEN_NOISE>", "_UNK", "<oos>"])
def test_words_of_other_tools_for_unknown_words(write, caplog, word):
  reader.read_corpus(write(train=f"a {word}\n", valid="a\n", test="a\n"))
  assert f"add --unknown_word={word}." in caplog.text


@pytest.mark.parametrize(
  ("line", "marks"),
  [
    ("<s> a b </s>", "<s> and </s>"),
    ("a b <eos>", "<eos> or a blank line"),
    ("a b\n", "<eos> or a blank line"),
    ("a <s> b </s> </s>", "<s> and </s>"),
  ],
)
def test_marks_at_the_ends_of_lines(write, caplog, line, marks):
  """The command of the warning takes them off."""
  data_path = write(*[f"{line}\n" * 10] * 3)
  reader.read_corpus(data_path)
  assert f"Nearly every line of ptb.train.txt has {marks} at" in caplog.text
  command = caplog.text.partition("all three texts: ")[2].strip()
  subprocess.run(command, shell=True, cwd=data_path, check=True)
  caplog.clear()
  corpus = reader.read_corpus(data_path)
  assert ("Nearly" in caplog.text) == line.startswith("a <s>")
  assert corpus.vocabulary[0] in ("<eos>", "</s>")


def test_lines_without_marks_are_not_reported(write, caplog):
  reader.read_corpus(write(*["a b\n" * 9 + "<s> a b </s>\n\n"] * 3))
  assert "Nearly every" not in caplog.text


def test_a_text_of_unknown_words_is_reported(write, caplog):
  reader.read_corpus(write("a b <unk> <unk>\n", "a b c <unk>\n", "a b\n"))
  assert "ptb.train.txt: 40% of the words are <unk>, so" in caplog.text
  assert "ptb.valid.txt: 40% of the words are <unk>, so" in caplog.text
  assert "ptb.test.txt" not in caplog.text


def test_a_given_vocabulary_is_kept(write, caplog):
  words = ["b", "<unk>", "<eos>"]
  data_path = write(train="a b\n", valid="b\n", test="b c b\n")
  corpus = reader.read_corpus(data_path, vocabulary=words)
  assert corpus.vocabulary == words
  np.testing.assert_array_equal(corpus.train, [1, 0, 2])
  np.testing.assert_array_equal(corpus.test, [0, 1, 0, 2])


def test_a_list_of_words_is_the_vocabulary(write, tmp_path, caplog):
  path = tmp_path / "words"
  path.write_text("<s> 0\nzebra 1\n\n</s>\t2\nb 3 7\n<unk>\na\n")
  data_path = write(train="a b b c\n", valid="b c\n", test="zebra\n")
  corpus = reader.read_corpus(data_path, word_list=str(path))
  # By frequency, then alphabet: the order of the list does not matter.
  assert corpus.vocabulary == ["b", "<eos>", "a", "<unk>", "zebra"]
  assert [corpus.vocabulary[i] for i in corpus.train] == (
    ["a", "b", "b", "<unk>", "<eos>"]
  )
  assert "lacks 2 of the 5 words in" in caplog.text
  assert "ptb.train.txt: the vocabulary lacks 1 of 5 words" in caplog.text


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ("a\n</s>\na 2\n", "words has the word 'a' 2 times: list each word only"),
    ("<eos>\n</s>\n", "words has the word '<eos>' 2 times"),
    ("<s>\n\n", "words lacks a line with <eos> or </s>, the end of a line"),
  ],
)
def test_bad_lists_of_words(write, tmp_path, content, message):
  path = tmp_path / "words"
  path.write_text(content)
  with pytest.raises(reader.DataError, match=message):
    reader.read_corpus(write(), word_list=str(path))


def test_without_train_the_vocabulary_is_enough(write, tmp_path):
  words = ["b", "<unk>", "<eos>"]
  data_path = write(valid="b\n", test="b c b\n")
  (tmp_path / "ptb.train.txt").unlink()
  parts = ("valid", "test")
  corpus = reader.read_corpus(data_path, vocabulary=words, parts=parts)
  assert corpus.train is None and corpus.vocabulary == words
  np.testing.assert_array_equal(corpus.valid, [0, 2])
  np.testing.assert_array_equal(corpus.test, [0, 1, 0, 2])
  assert [*corpus.sha256] == ["ptb.valid.txt", "ptb.test.txt"]
  reader.check_sizes(corpus, 1, 1)
  with pytest.raises(reader.DataError, match=r"ptb\.valid\.txt: too few words"):
    reader.check_sizes(corpus, 2, 1)


def test_words_that_train_lacks_are_left_out_and_counted(write, caplog):
  data_path = write(valid=" the bird saw a bird \n")
  with caplog.at_level("WARNING"):
    corpus = reader.read_corpus(data_path)
  np.testing.assert_array_equal(corpus.valid, [0, 5, 1])
  told = "ptb.valid.txt: the vocabulary lacks 3 of 6 words. Such words are left"
  assert f"{told} out, because it has no <unk>." in caplog.text
  assert "ptb.test.txt" not in caplog.text


@pytest.mark.parametrize(
  ("text", "words"),
  [
    ("a b\nc\n", ["a", "b", "<eos>", "c", "<eos>"]),
    ("a\r\nb\r\n", ["a", "<eos>", "b", "<eos>"]),
    ("a\n\nb", ["a", "<eos>", "<eos>", "b"]),
    ("\ufeffa\n\ufeffb", ["a", "<eos>", "b"]),
    ("a\rb\r\rc", ["a", "<eos>", "b", "<eos>", "<eos>", "c"]),
    ("é\u00a0ü\x01\n", ["é", "ü\x01", "<eos>"]),
    ("a\t b\x1cc\u2028ß\x85\U0001f600", ["a", "b", "c", "ß", "\U0001f600"]),
    ("<eos> <unk> N\\n $1.50", ["<eos>", "<unk>", "N\\n", "$1.50"]),
  ],
)
def test_newlines_spaces_and_marks(write, text, words):
  corpus = reader.read_corpus(write(train=text, valid=text, test=text))
  assert [corpus.vocabulary[i] for i in corpus.train] == words


@pytest.mark.parametrize(
  ("texts", "message"),
  [
    ({"valid": ""}, r"ptb\.valid\.txt is empty"),
    ({"test": "  "}, r"ptb\.test\.txt is empty"),
    ({"train": "\n\n"}, r"ptb\.train\.txt is empty"),
    ({"train": b"a \xff\n"}, r"train\.txt is not UTF-8.*0xff at offset 2"),
    (
      {"test": "a b\n".encode("utf-16-le")},
      r"test\.txt has NUL characters, as UTF-16",
    ),
    (
      {"test": "a b\n".encode("utf-16")},
      r"UTF-16 text.*iconv -f UTF-16 -t UTF-8",
    ),
    (
      {"valid": "x y"},
      r"ptb\.valid\.txt has no word in common with the model's vocabulary",
    ),
  ],
)
def test_bad_texts(write, texts, message):
  with pytest.raises(reader.DataError, match=message):
    reader.read_corpus(write(**texts))


def test_missing_files(write, tmp_path):
  with pytest.raises(reader.DataError, match="--data_path is missing: give th"):
    reader.ptb_raw_data()
  with pytest.raises(reader.DataError, match=r"There is no folder '.*/none'"):
    read_vocabulary(str(tmp_path / "none"))
  (tmp_path / "data").mkdir()
  (tmp_path / "data" / "ptb.train.txt").write_text("a b\n")
  with pytest.raises(
    reader.DataError, match=r"missing\. Use --data_path=.*/data, which has"
  ):
    read_vocabulary(str(tmp_path))
  data_path = write()
  (tmp_path / "ptb.valid.txt").rename(tmp_path / "wiki.valid.txt")
  with pytest.raises(
    reader.DataError, match=r"missing\. Rename wiki\.valid\.txt to ptb\.valid"
  ):
    reader.read_corpus(data_path)
  (tmp_path / "wiki.valid.txt").unlink()
  with pytest.raises(reader.DataError, match=r"ptb\.valid\.txt is missing"):
    reader.read_corpus(data_path)
  (tmp_path / "ptb.valid.txt").mkdir()
  with pytest.raises(reader.DataError, match=r"ptb\.valid\.txt cannot be read"):
    reader.read_corpus(data_path)


def test_ptb(ptb_data):
  corpus = reader.read_corpus(ptb_data)
  sizes = [len(ids) for ids in (corpus.train, corpus.valid, corpus.test)]
  assert sizes == [929589, 73760, 82430]
  assert len(corpus.vocabulary) == 10000
  assert corpus.vocabulary[:4] == ["the", "<unk>", "<eos>", "N"]
  assert corpus.sha256["ptb.train.txt"].startswith("fcea919f6cf8")


@pytest.mark.parametrize("make", [reader.ptb_producer, reader.ptb_iterator])
def test_no_wrong_batches_of_wrong_arguments(make):
  """Python, numpy and TensorFlow refuse them with their own words."""
  with tf1.Graph().as_default():
    for batch_size in (-3, -1, 0, 2.0, 2.5, None):
      for num_steps in (-3, -1, 0, 3):
        with pytest.raises((ArithmeticError, TypeError, ValueError)):
          make(IDS, batch_size, num_steps)
    for num_steps in (-1, 0, 3.0, 2.5):
      with pytest.raises((ArithmeticError, TypeError, ValueError)):
        make(IDS, 2, num_steps)
    for ids in (np.array(IDS) / 2, ["a"] * 17, np.zeros([17, 17], int)):
      with pytest.raises((TypeError, ValueError)):
        make(ids, 2, 3)
