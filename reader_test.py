"""Tests of reader.py."""

import hashlib
import random
import re
import time

import numpy as np
import pytest

import reader
from lm import tf1

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


def test_iterator_gives_the_drawing():
  batches = list(reader.ptb_iterator(IDS, 2, 3))
  np.testing.assert_array_equal(batches, BATCHES)
  assert batches[0][0].dtype == np.int32


def test_producer_goes_round_and_round_the_drawing():
  with tf1.Graph().as_default(), tf1.Session() as session:
    x, y = reader.ptb_producer(IDS, 2, 3, name="Batches")
    assert (x.dtype, x.shape, y.shape) == (tf1.int32, (2, 3), (2, 3))
    assert x.op.name.startswith("Batches/")
    fetched = [session.run((x, y)) for _ in range(5)]
  expected = [BATCHES[i % 2] for i in range(5)]
  np.testing.assert_array_equal(fetched, expected)


def test_producer_works_as_the_tutorial_used_it():
  with tf1.Graph().as_default(), tf1.Session() as session:
    x, y = reader.ptb_producer(np.array(IDS), 2, 3)
    coordinator = tf1.train.Coordinator()
    threads = tf1.train.start_queue_runners(session, coordinator)
    np.testing.assert_array_equal(session.run([x, y]), BATCHES[0])
    coordinator.request_stop()
    coordinator.join(threads)


def test_producer_of_one_batch_repeats_it():
  with tf1.Graph().as_default(), tf1.Session() as session:
    batch = reader.ptb_producer([5, 6], 1, 1)
    for _ in range(3):
      np.testing.assert_array_equal(session.run(batch), [[[5]], [[6]]])


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
  with pytest.raises(
    reader.DataError, match=r"2 x 4 .*batch_size or num_steps"
  ):
    reader.epoch_size(words, 2, 3)
  with pytest.raises(reader.DataError), tf1.Graph().as_default():
    reader.ptb_producer(IDS[:words], 2, 3)
  with pytest.raises(reader.DataError):
    list(reader.ptb_iterator(IDS[:words], 2, 3))


def test_too_short_for_the_least_batch():
  with pytest.raises(reader.DataError, match=r"1 x 2 .*Take a longer text"):
    reader.epoch_size(1, 1, 1)


def test_raw_data_orders_words_by_count_then_alphabet(write):
  data_path = write(valid=" dog \n", test=" saw the ran \n")
  train, valid, test, vocabulary = reader.ptb_raw_data(data_path)
  # the: 3; <eos>, dog: 2; cat, ran, saw: 1.
  np.testing.assert_array_equal(train, [0, 3, 5, 0, 2, 1, 0, 2, 4, 1])
  np.testing.assert_array_equal(valid, [2, 1])
  np.testing.assert_array_equal(test, [5, 0, 4, 1])
  assert vocabulary == 6
  assert train.dtype == np.int32


def test_corpus_has_the_words_and_checksums(write):
  corpus = reader.read_corpus(write())
  assert corpus.vocabulary == ["the", "<eos>", "dog", "cat", "ran", "saw"]
  assert corpus.sha256["ptb.test.txt"] == (
    hashlib.sha256(TEXT.encode()).hexdigest()
  )


def test_words_that_train_lacks_are_dropped_and_counted(write, caplog):
  data_path = write(valid=" the bird saw a bird \n")
  with caplog.at_level("WARNING"):
    corpus = reader.read_corpus(data_path)
  np.testing.assert_array_equal(corpus.valid, [0, 5, 1])
  assert "ptb.valid.txt: dropped 3 of 6 words" in caplog.text
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
    ({"test": "x y\n"}, r"ptb\.test\.txt has no word in common"),
    ({"train": b"a \xff\n"}, r"train\.txt is not UTF-8.*0xff at offset 2"),
    ({"test": "a b\n".encode("utf-16-le")}, r"test\.txt is not UTF-8.*NUL"),
    ({"test": "a b\n".encode("utf-16")}, r"test\.txt is not UTF-8.*0xff at"),
    ({"valid": "x y"}, r"ptb\.valid\.txt has no word in common"),
  ],
)
def test_bad_texts(write, texts, message):
  with pytest.raises(reader.DataError, match=message):
    reader.read_corpus(write(**texts))


def words_of(content):
  """Returns the words of a file as the reader should see them, or None."""
  try:
    text = content.decode("utf-8").replace("\ufeff", "")
  except UnicodeDecodeError:
    return None
  words = [
    re.sub(r"[\r\n]+", "<eos>", w) for w in re.findall(r"\r?\n|\r|\S+", text)
  ]
  return words if set(words) - {"<eos>"} and "\0" not in text else None


def draw_text(draw):
  """Draws a file of pieces that might be read wrongly."""
  pieces = [
    b"the cat ", b"sat", b"\n", b"\r\n", b"\r", b"   ", b"\t", b"\x1c",
    "é ü\u00a0\u2028ß".encode(), b"<eos>", b"<unk> N ", b"\\n", b"a" * 9999,
    b"w w " * 9999, b"\x7f", b"$1.50 ", "\U0001f600 ".encode(),
  ]  # fmt: skip
  bad = [b"\x00", b"\xff\xfe", b"\xc3", bytes([128]), draw.randbytes(9)]
  content = b"".join(draw.choices(pieces, k=draw.randrange(9)))
  if draw.random() < 0.3:
    cut = draw.randrange(len(content) + 1)
    content = content[:cut] + draw.choice(bad) + content[cut:]
  return draw.choice([b"", b"\xef\xbb\xbf"]) + content


def test_any_bytes_are_read_right_or_refused(write):
  draw = random.Random(1)
  refused = 0
  for _ in range(400):
    content = draw_text(draw)
    expected = words_of(content)
    data_path = write(train=content, valid=content, test=content)
    try:
      corpus = reader.read_corpus(data_path)
    except reader.DataError as error:
      refused += 1
      assert expected is None, content
      assert re.match(r"/.*/ptb\.train\.txt is .+\.$", str(error)), str(error)
    else:
      assert [corpus.vocabulary[i] for i in corpus.train] == expected
      np.testing.assert_array_equal(corpus.test, corpus.train)
  assert 80 < refused < 320


def test_ten_million_words(write):
  line = " ".join(f"w{n % 4}" for n in range(99)) + "\n"  # w0: 25, w3: 24.
  corpus = reader.read_corpus(write(line * 100_000, line, line))
  assert corpus.vocabulary == ["w0", "w1", "w2", "w3", "<eos>"]
  assert np.bincount(corpus.train).tolist() == (
    [2_500_000, 2_500_000, 2_500_000, 2_400_000, 100_000]
  )
  np.testing.assert_array_equal(corpus.train[-4:], [0, 1, 2, 4])


def test_missing_files(write, tmp_path):
  for missing in (None, "", str(tmp_path / "none")):
    with pytest.raises(reader.DataError, match="There is no folder"):
      reader.ptb_raw_data(missing)
  data_path = write()
  (tmp_path / "ptb.valid.txt").unlink()
  with pytest.raises(reader.DataError, match=r"ptb\.valid\.txt is missing"):
    reader.read_corpus(data_path)
  (tmp_path / "ptb.valid.txt").mkdir()
  with pytest.raises(reader.DataError, match=r"ptb\.valid\.txt cannot be read"):
    reader.read_corpus(data_path)


def test_ptb(ptb_data):
  start = time.perf_counter()
  corpus = reader.read_corpus(ptb_data)
  print(f"read in {time.perf_counter() - start:.2f} s")
  sizes = [len(ids) for ids in (corpus.train, corpus.valid, corpus.test)]
  assert sizes == [929589, 73760, 82430]
  assert len(corpus.vocabulary) == 10000
  assert corpus.vocabulary[:4] == ["the", "<unk>", "<eos>", "N"]
  assert corpus.sha256["ptb.train.txt"].startswith("fcea919f6cf8")


@pytest.mark.parametrize("count", [2, 6, 7, 8, 12, 13, 14, 25])
def test_side_by_side_has_each_target_once(count):
  ids = np.arange(100, 100 + count, dtype=np.int32)
  x, y, is_real = reader.side_by_side(ids, batch_size=3, num_steps=2)
  steps = -(-(count - 1) // 6)
  assert x.shape == y.shape == is_real.shape == (steps, 3, 2)
  by_piece = [part.transpose(1, 0, 2).ravel() for part in (x, y, is_real)]
  np.testing.assert_array_equal(by_piece[0][by_piece[2]], ids[:-1])
  np.testing.assert_array_equal(by_piece[1][by_piece[2]], ids[1:])
  assert x.dtype == y.dtype == np.int32
