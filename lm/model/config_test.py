"""Tests of config.py."""

import copy
import dataclasses
import functools
import pickle
import types

import numpy as np
import pytest

import configs
from lm.model import config as config_lib
from lm.model.config import Config, ConfigError
from lm.model.rnn_modes import RNN_MODES

SMALL = dataclasses.asdict(configs.SmallConfig())
MODES = ", ".join(RNN_MODES)


@pytest.fixture
def small():
  """A class that a test may change."""

  class Small(configs.SmallConfig):
    pass

  return Small


def test_a_subclass_with_other_attributes():
  class Mine(configs.SmallConfig):
    hidden_size = 300
    keep_prob: float = 0.5

  assert dataclasses.asdict(Mine()) == (
    SMALL | {"hidden_size": 300, "keep_prob": 0.5}
  )
  assert Mine(keep_prob=0.6, num_layers=1) == Mine(num_layers=1, keep_prob=0.6)
  assert dataclasses.asdict(Mine(keep_prob=0.6)) == (
    SMALL | {"hidden_size": 300, "keep_prob": 0.6}
  )
  assert dataclasses.asdict(configs.SmallConfig()) == SMALL


def test_a_subclass_with_methods_and_properties():
  class Mine(configs.SmallConfig):
    """Halves the rate in each epoch."""

    _halves = 2

    def learning_rate_of(self, epoch):
      return self.learning_rate / self._halves**epoch

    @property
    def words(self):
      return self.batch_size * self.num_steps

    @functools.cached_property
    def cached_words(self):
      return self.words

    @staticmethod
    def static():
      return 1

    @classmethod
    def of_one_layer(cls):
      return cls(num_layers=1)

  config = Mine.of_one_layer()
  config._note = "anything"
  assert (config.num_layers, Mine.static()) == (1, 1)
  assert config.words == config.cached_words == 400
  assert config.learning_rate_of(3) == 0.125
  Mine.words_in = lambda self, epochs: epochs * self.words
  assert config.words_in(2) == 800


def test_class_attributes_hold_for_the_instances_that_follow(small):
  before = small()
  small.hidden_size = 300
  assert (before.hidden_size, small().hidden_size) == (200, 300)
  assert configs.SmallConfig().hidden_size == 200


def test_attributes_of_an_instance_are_its_own(small):
  config, other = small(), small()
  config.hidden_size += 1
  assert (config.hidden_size, other.hidden_size) == (201, 200)
  assert config != other and small().hidden_size == 200
  config.hidden_size = 200
  assert config == other


def test_a_config_is_a_dataclass(small):
  names = [field.name for field in dataclasses.fields(small)]
  assert names == list(SMALL) == list(config_lib.fields())
  changed = dataclasses.replace(small(), num_steps=3)
  assert type(changed) is small
  assert dataclasses.asdict(changed) == SMALL | {"num_steps": 3}
  assert dataclasses.astuple(small()) == tuple(SMALL.values())
  assert "hidden_size=200" in repr(small())
  for other in copy.copy(changed), copy.deepcopy(changed):
    other.num_steps += 1
    assert (changed.num_steps, other.num_steps) == (3, 4)
  config = configs.SmallConfig(num_steps=3)
  assert pickle.loads(pickle.dumps(config)) == config


def test_configs_are_equal_by_their_values(small):
  """Also of two classes: a run's config.json has no class."""
  assert small() == configs.SmallConfig() == Config(**SMALL)
  assert small() != configs.SmallConfig(patience=1)
  assert configs.SmallConfig() != configs.MediumConfig()
  assert configs.SmallConfig() != SMALL


def test_a_config_must_have_each_value():
  assert dataclasses.asdict(Config(**SMALL)) == SMALL
  lacking = {n: v for n, v in SMALL.items() if n != "num_layers"}
  with pytest.raises(ConfigError, match="Config has no num_layers: set it"):
    Config(**lacking)

  class Mine(Config):
    num_layers = 2

  assert dataclasses.asdict(Mine(**lacking)) == SMALL


# Ways to set a hyper-parameter, given the class, the name and the value.


def in_a_subclass(cls, name, value):
  return types.new_class(
    "Mine", (cls,), exec_body=lambda namespace: namespace.update({name: value})
  )()


def in_a_subclass_with_a_type(cls, name, value):
  def body(namespace):
    namespace.update({name: value, "__annotations__": {name: float}})

  return types.new_class("Mine", (cls,), exec_body=body)()


def in_the_class(cls, name, value):
  setattr(cls, name, value)
  return cls()


def in_the_instance(cls, name, value):
  config = cls()
  setattr(config, name, value)
  return config


def in_the_call(cls, name, value):
  return cls(**{name: value})


def in_a_copy(cls, name, value):
  return dataclasses.replace(cls(), **{name: value})


def in_a_config_of_values(cls, name, value):
  return Config(**SMALL | {name: value})


@pytest.mark.parametrize(
  "set_value",
  [
    in_a_subclass,
    in_a_subclass_with_a_type,
    in_the_class,
    in_the_instance,
    in_the_call,
    in_a_copy,
    in_a_config_of_values,
  ],
  ids=lambda way: way.__name__,
)
def test_each_way_checks_names_and_values(small, set_value):
  for name, value, message in (
    ("hiden_size", 300, "^hiden_size is not a hyper-parameter. The hyper-para"),
    ("num_steps", 10_001, "^num_steps must be a whole number from 1 to 10,000"),
    ("keep_prob", "1", "^keep_prob must be a number above 0 and .*, not '1'"),
    ("rnn_mode", "lstm", f"^rnn_mode must be one of {MODES}, not 'lstm'"),
  ):
    with pytest.raises(ConfigError, match=message):
      set_value(small, name, value)
  value = set_value(small, "keep_prob", 1).keep_prob
  assert (value, type(value)) == (1, float)


@pytest.mark.parametrize(
  ("name", "value", "expected"),
  [
    ("hidden_size", np.int64(300), 300),
    ("keep_prob", np.float32(0.5), 0.5),
    ("max_grad_norm", 10, 10.0),
    ("max_grad_norm", np.int32(10), 10.0),
    ("forget_bias", -100.0, -100.0),
    ("tie_embeddings", np.bool_(True), True),
    ("rnn_mode", np.str_("basic"), "basic"),
    ("max_epoch", 0, 0),
    ("max_max_epoch", 10**6, 10**6),
  ],
)
def test_possible_values(name, value, expected):
  """Each has one form, so that equal configs have the same config.json."""
  result = getattr(configs.SmallConfig(**{name: value}), name)
  assert (result, type(result)) == (expected, type(expected))


@pytest.mark.parametrize(
  ("name", "value", "message"),
  [
    ("num_layers", True, r"must be a whole number .*, not True"),
    ("hidden_size", 2.0, r"must be a whole number .*, not 2\.0"),
    ("max_epoch", -1, "must be a whole number from 0 to 1,000,000, not -1"),
    ("learning_rate", None, "must be a number above 0 .*, not None"),
    ("learning_rate", float("nan"), "must be a number above 0 .*, not nan"),
    ("max_grad_norm", float("inf"), "must be .* at most 1e30, not inf"),
    ("init_scale", 0, "must be a number above 0 and .*, not 0"),
    ("lr_decay", 1.01, r"must be .* at most 1, not 1\.01"),
    ("forget_bias", 101, "must be a number from -100 to 100, not 101"),
    ("tie_embeddings", 1, "must be true or false, not 1"),
    ("rnn_mode", ["block"], "must be one of .*, not .'block'"),
  ],
)
def test_impossible_values(name, value, message):
  with pytest.raises(ConfigError, match=f"^{name} {message}"):
    configs.SmallConfig(**{name: value})


def test_an_error_is_raised_where_the_attribute_is_set(small):
  """Not only when an instance is made or the attribute is read."""
  with pytest.raises(ConfigError, match="hiden_size"):
    small.hiden_size = 300
  with pytest.raises(ConfigError, match="keep_prob"):
    small.keep_prob = 2.0
  config = small()
  with pytest.raises(ConfigError, match="hiden_size"):
    config.hiden_size = 300
  with pytest.raises(ConfigError, match="keep_prob"):
    config.keep_prob = 2.0
  with pytest.raises(ConfigError, match="hiden_size"):

    class _Misspelled(configs.SmallConfig):
      hiden_size = 300

  with pytest.raises(ConfigError, match="keep_prob"):

    class _OutOfRange(configs.SmallConfig):
      keep_prob: float = 2.0

  with pytest.raises(ConfigError, match="num_layers"):

    class _Method(configs.SmallConfig):
      def num_layers(self):
        return 2


def test_a_rejected_value_changes_nothing(small):
  config = small()
  for target in small, config:
    with pytest.raises(ConfigError):
      target.num_layers = 0
  assert dataclasses.asdict(config) == dataclasses.asdict(small()) == SMALL


def test_every_hyper_parameter_has_a_meaning_and_a_range():
  for name, field in config_lib.fields().items():
    assert field.metadata["meaning"].endswith("."), name
    assert field.type in (int, float, bool, str)
  may_change = [
    n for n, f in config_lib.fields().items() if f.metadata["may_change"]
  ]
  assert may_change == ["max_max_epoch", "patience"]


def test_parse():
  values = config_lib.parse(
    [
      " max_max_epoch=2, keep_prob=0.5,init_scale = 1e-3,tie_embeddings=True,",
      "max_max_epoch=1",  # The last value counts.
    ]
  )
  assert values == {
    "max_max_epoch": 1,
    "keep_prob": 0.5,
    "init_scale": 0.001,
    "tie_embeddings": True,
  }
  assert config_lib.parse("tie_embeddings=false") == {"tie_embeddings": False}
  assert config_lib.parse("") == {}


def test_override():
  small = configs.SmallConfig()
  config = configs.override(small, "max_max_epoch=1,keep_prob=0.5")
  assert config == configs.SmallConfig(max_max_epoch=1, keep_prob=0.5)
  assert small == configs.SmallConfig()
  assert configs.override(config, "") == config


def test_override_of_some_fields_only():
  config, allowed = configs.SmallConfig(), ("batch_size", "num_steps")
  changed = configs.override(config, "num_steps=3", allowed)
  assert changed == dataclasses.replace(config, num_steps=3)
  message = (
    r"'hidden_size' has no effect .* set are batch_size .int., num_steps .int"
  )
  with pytest.raises(ConfigError, match=message):
    configs.override(config, "hidden_size=3", allowed)


@pytest.mark.parametrize(
  ("hparams", "message"),
  [
    (
      "hiden_size=3",
      "'hiden_size' is not a hyper-parameter.*hidden_size .int.",
    ),
    ("hidden_size", "'hidden_size' lacks an '='.*init_scale .float."),
    ("vocab_size=3", "'vocab_size' follows the data"),
    ("rnn_mode=basic", "'rnn_mode' has a flag of its own, --rnn_mode"),
    ("hidden_size=3.5", "hidden_size must be a whole number, not '3.5'"),
    ("keep_prob=much", "keep_prob must be a number, not 'much'"),
    ("tie_embeddings=1", "tie_embeddings must be true or false, not '1'"),
    ("keep_prob=0", "keep_prob must be a number above 0 and at most 1"),
  ],
)
def test_wrong_overrides(hparams, message):
  with pytest.raises(ConfigError, match=message):
    configs.override(configs.SmallConfig(), hparams)


def test_the_sizes_of_a_trained_model_stay():
  config = configs.SmallConfig(forget_bias=1.0)
  config_lib.check_sizes_kept(config, {})
  same = {name: getattr(config, name) for name in config_lib.SIZES}
  config_lib.check_sizes_kept(config, same | {"num_steps": 3, "patience": 1})
  for name, value, shown in (
    ("hidden_size", 3, "200"),
    ("num_layers", 1, "2"),
    ("tie_embeddings", True, "False"),
    ("forget_bias", 0.0, r"1\.0"),
  ):
    message = f"^{name} is {shown} in the trained model: leave it out of --hpar"
    with pytest.raises(ConfigError, match=message):
      config_lib.check_sizes_kept(config, {name: value})


@pytest.mark.parametrize(
  ("patience", "perplexities", "ends"),
  [
    (0, [], False),
    (0, [3, 4, 5], False),
    (0, [3, 4, 5, 6], True),  # It is max_max_epoch.
    (2, [3, 4], False),
    (2, [3, 4, 5], True),
    (2, [3, 4, 2], False),
    (1, [3, 3], True),
  ],
)
def test_when_training_ends(patience, perplexities, ends):
  config = configs.SmallConfig(max_max_epoch=4, patience=patience)
  assert config.ends_after(perplexities) == ends
