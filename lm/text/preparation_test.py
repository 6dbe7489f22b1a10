"""Tests of preparation.py."""

import dataclasses
import json
import random

import pytest

from lm.base.files import DamagedFileError
from lm.text import preparation
from lm.text.preparation import Preparation, PreparationError

PTB = Preparation(lower_case=True, number_word="N", punctuation="split")


@pytest.mark.parametrize(
  ("change", "line", "words"),
  [
    ({}, "The company's profit rose 1,234.5% to $3.50 (U.S.)!",
     "the company's profit rose N % to $ N ( u.s . ) !"),
    ({}, "well-known -- don\u2019t e-mail 10-20 3rd 1990s",
     "well-known - - don\u2019t e-mail 10-20 3rd 1990s"),
    ({}, "N <unk> <eos> N. <UNK>", "N <unk> <eos> n . <UNK>"),
    ({}, "<s> Two @-@ way </s> 1@,@000 (A [MASK], B <Eng>.) [sic] <7>",
     "<s> two @-@ way </s> N @,@ N ( a [MASK] , b <Eng> . ) [ sic ] < N >"),
    ({}, "  a\tb\u00a0c \n", "a b c"),
    ({}, "\u00dcber E\u0301t\u00e9 \u0939\u093f\u0928\u094d\u0926\u0940\u0964",
     "\u00fcber \u00e9t\u00e9 \u0939\u093f\u0928\u094d\u0926\u0940 \u0964"),
    ({}, "\u201cHi,\u201d\u2014she \u00ab1\u00bb",
     "\u201c hi , \u201d \u2014 she \u00ab N \u00bb"),
    ({}, "a,b 1,b b,1 1,2,3 4.", "a , b N , b b , N N N ."),
    ({}, " \n", ""),
    ({"punctuation": "drop"}, "(U.S.) $3.50, don't -- #!", "u.s N don't"),
    ({"punctuation": "drop"}, "[MASK]. [Mask] <UNK>,", "[MASK] mask <UNK>"),
    ({"punctuation": "keep"}, "@-@ [MASK] [MASK].", "@-@ [MASK] [mask]."),
    ({"punctuation": "keep"}, "The U.S., 3.50 3,50. -7 +1",
     "the u.s., N 3,50. N N"),
    ({"lower_case": False}, "The N.", "The N ."),
    ({"number_word": ""}, "It is 7 N", "it is 7 n"),
    ({"number_word": "<num>"}, "It is 7, <num>", "it is <num> , <num>"),
    ({"number_word": "NUM", "punctuation": "drop"}, "7! NUM", "NUM NUM"),
  ],
)  # fmt: skip
def test_split(change, line, words):
  for version in (1, preparation.VERSION):
    choices = dataclasses.replace(PTB, **change, version=version)
    assert choices.split(line) == words.split()


@pytest.mark.parametrize(
  ("line", "words", "others"),
  [
    ("I \u2764\ufe0f it!", "i \u2764\ufe0f it !", "i it"),
    ("\U0001f44d\U0001f3fd\U0001f469\u200d\U0001f4bb.",
     "\U0001f44d\U0001f3fd \U0001f469\u200d\U0001f4bb .", ""),
    ("\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7",
     "\U0001f1e9\U0001f1ea \U0001f1eb\U0001f1f7", ""),
    ("paral\u00b7lel \u00b7", "paral\u00b7lel \u00b7", "paral\u00b7lel"),
    ("-LRB- Mod@@ \u2581The don &apos;t &amp;", "-lrb- mod@@ \u2581the don "
     "&apos;t &amp;", "-lrb- mod@@ \u2581the don &apos;t &amp;"),
    ("AT&T; @@", "at & t ; @ @", "at t"),
  ],
)  # fmt: skip
def test_what_is_one_character_or_one_token_is_one_word(line, words, others):
  choices = dataclasses.replace(PTB, version=preparation.VERSION)
  assert choices.split(line) == words.split()
  dropped = dataclasses.replace(choices, punctuation="drop")
  assert dropped.split(line) == others.split()
  kept = dataclasses.replace(choices, punctuation="keep", lower_case=False)
  assert kept.split(line) == line.split()


@pytest.mark.parametrize("punctuation", preparation.PUNCTUATION)
@pytest.mark.parametrize("number_word", ["N", "<num>", ""])
@pytest.mark.parametrize("lower_case", [True, False])
def test_what_is_prepared_stays_as_it_is(punctuation, number_word, lower_case):
  choices = Preparation(
    lower_case=lower_case,
    number_word=number_word,
    punctuation=punctuation,
    version=preparation.VERSION,
  )
  draw = random.Random(1)
  pieces = [
    *"aZN1_.,'-%$<>\u0130\u00df\u0301\u093f\u2019\u3002\ufb01\u1e9e\x85 "
  ]
  pieces += ["\u00b7", "\ufe0f", "\u200d", "@@", "-LRB-", "&apos;", "\u2581"]
  pieces += ["<unk>", "<eos>", "<num>", " N ", "1,5", "\U0001f600"]
  pieces += ["</S>", "[MASK]", "@,@"]
  for _ in range(500):
    words = choices.split("".join(draw.choices(pieces, k=draw.randrange(12))))
    assert choices.split(" ".join(words)) == words
    assert all(word and not set(word) & set(" \n\x85") for word in words)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"lower_case": 1}, "lower_case must be true or false"),
    ({"number_word": "a b"}, "number_word must be empty or one wor.* 'a b'"),
    ({"number_word": None}, "number_word must be empty or one word"),
    ({"number_word": "<eos>"}, "not <eos> or <unk>; it is '<eos>'"),
    ({"number_word": "e\u0301"}, r"normalization form C .* 'e\\u0301'"),
    ({"punctuation": "no"}, "punctuation must be split, drop or keep"),
  ],
)
def test_wrong_choices(change, message):
  with pytest.raises(PreparationError, match=message):
    dataclasses.replace(PTB, **change)


def test_read(tmp_path):
  assert preparation.read_preparation(tmp_path) is None
  path = tmp_path / "preparation.json"
  path.write_text(json.dumps({"preparation": dataclasses.asdict(PTB)}))
  assert preparation.read_preparation(tmp_path) == PTB
  for text in ("", "[]", '{"preparation": {}}', '{"preparation": null}'):
    path.write_text(text)
    with pytest.raises(DamagedFileError, match=r"preparation.json is damaged"):
      preparation.read_preparation(tmp_path)
