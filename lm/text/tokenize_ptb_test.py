"""Tests of tokenize_ptb.py."""

import sys

import pytest

from lm.base.command import InputError
from lm.text.tokenize_ptb import Tokenizer


@pytest.mark.parametrize(
  ("line", "words"),
  [
    ("I don't think it'll cost $3.50.", "i do n't think it 'll cost $ N"),
    ("Mr. Smith\u2019s U.S. sales (up 3.5%) rose to \u201crecord\u201d levels!",
     "mr. smith 's u.s. sales up N N rose to record levels"),
    ("Investors' hopes fell -- AT&T lost 1 1/2, to 42.",
     "investors ' hopes fell at&t lost N N to N"),
    ("\u00a35 is US$8 in the U.S.", "# N is us$ N in the u.s."),
    ("The '80s' 30-year bonds can't and/or 'cannot' yield 10-12%.",
     "the '80s ' 30-year bonds ca n't and\\/or can not yield N N"),
    ("do n't <unk> N <eos> 's $ N\n", "do n't <unk> N <eos> 's $ N"),
    ("... ' \" --", ""),
  ],
)  # fmt: skip
def test_split(line, words):
  assert Tokenizer().split(line) == words.split()


def test_nltk_is_missing(monkeypatch):
  monkeypatch.setitem(sys.modules, "nltk.tokenize.treebank", None)
  with pytest.raises(InputError, match="--tokenize=ptb needs nltk, which ca"):
    Tokenizer()
