"""Tests of run.py: what a run is, on the disk and compared with another."""

import copy
import dataclasses
import json

import pytest

import configs
from conftest import OLD_RUN
from lm.base.command import InputError
from lm.model.config import Config
from lm.run import run
from lm.run.run import Run
from lm.text.preparation import Preparation

RUN = Run(
  model="small",
  seed=7,
  dtype="float32",
  config=configs.SmallConfig(),
  data_sha256={"ptb.train.txt": "12", "ptb.test.txt": "34"},
)
CHOICES = dict(lower_case=True, number_word="N", punctuation="drop")
# The fields that only some runs have.
OTHERS = {
  "vocabulary_sha256": "56",
  "preparation": CHOICES,
  "unknown_word": "UNK",
  "exchange_fp16": True,
  "vocab_limit": 50,
  "init_from": "runs/a",
  "init_checkpoint": "runs/a/model.ckpt-1",
}
FULL = dataclasses.replace(
  RUN, **{**OTHERS, "preparation": Preparation(**CHOICES)}
)


def with_config(**values):
  """Returns RUN with other hyper-parameters."""
  return dataclasses.replace(
    RUN, config=dataclasses.replace(RUN.config, **values)
  )


@pytest.mark.parametrize("a_run", [RUN, FULL, with_config(forget_bias=1.0)])
def test_a_run_comes_back_from_json(a_run):
  restored = Run.from_json(json.loads(json.dumps(a_run.to_json())))
  assert restored == a_run and restored.id == a_run.id
  assert not restored.differences(a_run)


def test_defaults_are_left_out():
  values = RUN.to_json()
  assert [*values] == ["model", "seed", "dtype", "config", "data_sha256"]
  assert FULL.to_json() == {**values, **OTHERS}
  assert values["config"]["rnn_mode"] == "block"  # As older versions did.
  newer = {"tie_embeddings": True, "forget_bias": 1.0, "patience": 2}
  newer["num_samples"] = 5
  assert not newer.keys() & values["config"].keys()
  assert with_config(**newer).to_json()["config"] == values["config"] | newer


@pytest.mark.parametrize(
  ("damage", "message"),
  [
    (lambda values: values.pop("seed"), "it has no `seed`"),
    (lambda values: values["config"].pop("num_layers"), "it has no `num_la"),
    (lambda values: values.update(new=1), "it has `new`, which this version "),
    (lambda values: values["config"].update(new=1), "it has `new`, which thi"),
    (
      lambda values: values["config"].update(rnn_mode="new"),
      "rnn_mode must be one of basic, block, cudnn, not 'new'",
    ),
    (lambda values: values.update(preparation={"a": 1}), "it has `a`, which"),
  ],
)
def test_what_describes_no_run(damage, message):
  """As the config.json of a later version."""
  values = RUN.to_json()
  damage(values)
  with pytest.raises(InputError, match=message):
    Run.from_json(values)


def test_the_id_is_that_of_earlier_versions():
  """So their checkpoints are known. These ids are from the commit 9ea5213."""
  values = json.loads((OLD_RUN / "config.json").read_text())
  for one, expected in (
    (
      Run.from_json(values),
      "ff373e167fa145b0a3d12a3f7dd53ab9ec747dbde9c283e281d8ab038e60d2b6",
    ),
    (FULL, "1f8bf8ec2f201cf3ce7919f897110283046db9505a6fd0b83a5c9f2cb5d0e2dd"),
  ):
    assert one.id == expected


@pytest.fixture
def later(monkeypatch):
  """Adds a hyper-parameter, as a later version may: `new`, by default 0."""
  known = Config.__dataclass_fields__
  field = copy.copy(known["num_samples"])
  field.name = "new"
  monkeypatch.setitem(known, "new", field)
  monkeypatch.setattr(Config, "new", 0, raising=False)
  monkeypatch.setattr(run, "_all_fields", run._all_fields.__wrapped__)


@pytest.mark.usefixtures("later")
def test_a_new_hyper_parameter_alters_no_run_that_lacks_it():
  values = json.loads((OLD_RUN / "config.json").read_text())
  old = Run.from_json(values)
  assert old.config.new == 0
  assert old.id.startswith("ff373e167fa1") and old.to_json() == values
  new = dataclasses.replace(old, config=dataclasses.replace(old.config, new=4))
  assert new.id != old.id
  assert old.differences(new) == ["new is 0 there, 4 here"]


@pytest.mark.parametrize(
  ("other", "texts"),
  [
    (RUN, []),
    (FULL, [
      "lower_case is not set there, True here",
      "number_word is not set there, N here",
      "punctuation is not set there, drop here",
      "--unknown_word is <unk> there, UNK here",
      "--exchange_fp16 is False there, True here",
      "--vocab_size is not set there, 50 here",
      "--init_from is not set there, runs/a here",
    ]),
    (dataclasses.replace(RUN, seed=8, dtype="bfloat16"),
     ["seed is 7 there, 8 here", "dtype is float32 there, bfloat16 here"]),
    (dataclasses.replace(RUN, data_sha256={**RUN.data_sha256,
                                           "ptb.test.txt": "35"}),
     ["ptb.test.txt differs"]),
    (with_config(keep_prob=0.5, num_samples=9),
     ["keep_prob is 1.0 there, 0.5 here", "num_samples is 0 there, 9 here"]),
    # A run may end elsewhere.
    (with_config(max_max_epoch=99, patience=3), []),
    (dataclasses.replace(RUN, vocabulary_sha256="1", init_checkpoint="x"), []),
  ],
)  # fmt: skip
def test_differences_in_words(other, texts):
  assert RUN.differences(other) == texts
  assert (other.id == RUN.id) == (not texts)


def test_differences_of_other_dictionaries():
  first = {"a": {"b.py": 1}, "vocabulary_sha256": "1", "c": 2}
  second = {"a": {"b.py": 3}, "vocabulary_sha256": "2", "c": 4}
  assert run.describe_differences(first, second, ("on A", "on B")) == {
    "b.py": "b.py differs",
    "vocabulary_sha256": "the vocabulary differs",
    "c": "c is 2 on A, 4 on B",
  }


def test_the_checksum_of_a_vocabulary_is_that_of_its_file():
  assert run.lines_of(["the", "é"]) == "the\né\n"
  assert run.sha256_of_lines(["the", "é"]) == (
    "2f2086e201d0b34a63bfd19eef4761921e3b43b3a064f0f3c45f0b07528bde00"
  )
