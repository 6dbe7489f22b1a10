"""Tests of configs.py."""

import dataclasses

import pytest

import configs

# In the order of the fields, as the tutorial had them.
MODES = ", ".join(configs.RNN_MODES)
TUTORIAL = {
  "small": (0.1, 1.0, 5, 2, 20, 200, 4, 13, 1.0, 0.5, 20, 10000),
  "medium": (0.05, 1.0, 5, 2, 35, 650, 6, 39, 0.5, 0.8, 20, 10000),
  "large": (0.04, 1.0, 10, 2, 35, 1500, 14, 55, 0.35, 1 / 1.15, 20, 10000),
  "test": (0.1, 1.0, 1, 1, 2, 2, 1, 1, 1.0, 0.5, 20, 10000),
}


@pytest.mark.parametrize("name", TUTORIAL)
def test_values_are_the_tutorials(name):
  values = dataclasses.astuple(configs.CONFIGS[name]())
  assert values[:12] == TUTORIAL[name]
  rnn_mode = "basic" if name == "small" else "block"
  assert values[12:] == (rnn_mode, False, 0.0, 0, 0)
  assert len(configs.CONFIGS) == len(TUTORIAL)


@pytest.mark.parametrize(
  ("name", "rates"),
  [
    ("small", {1: 1, 4: 1, 5: 0.5, 6: 0.25, 13: 0.5**9}),
    ("medium", {1: 1, 6: 1, 7: 0.8, 8: 0.64, 39: 0.8**33}),
    ("large", {1: 1, 14: 1, 15: 1 / 1.15, 55: 1.15**-41}),
    ("test", {1: 1}),
  ],
)
def test_learning_rate_schedule(name, rates):
  config = configs.CONFIGS[name]()
  for epoch, rate in rates.items():
    assert config.learning_rate_of(epoch) == pytest.approx(rate, rel=1e-12)


def test_override():
  config = configs.override(
    configs.SmallConfig(), " max_max_epoch=1, keep_prob=0.5,init_scale = 1e-3,"
  )
  assert config == configs.SmallConfig(
    max_max_epoch=1, keep_prob=0.5, init_scale=0.001
  )
  assert configs.override(config, "") == config


def test_override_of_some_fields_only():
  config, allowed = configs.SmallConfig(), ("batch_size", "num_steps")
  changed = configs.override(config, "num_steps=3", allowed)
  assert changed == dataclasses.replace(config, num_steps=3)
  message = (
    r"'hidden_size' has no effect .* set are batch_size .int., num_steps .int"
  )
  with pytest.raises(configs.ConfigError, match=message):
    configs.override(config, "hidden_size=3", allowed)


@pytest.mark.parametrize(
  ("hparams", "message"),
  [
    ("hiden_size=3", "'hiden_size' is not a field;.*hidden_size .int."),
    ("hidden_size", "'hidden_size' lacks an '='.*init_scale .float."),
    ("=3", "'' is not a field"),
    ("batch_size=2,batch_size=3", "batch_size is given twice in --hparams"),
    ("vocab_size=3", "'vocab_size' follows the data"),
    ("rnn_mode=basic", "'rnn_mode' has a flag of its own, --rnn_mode"),
    ("hidden_size=3.5", "hidden_size must be a whole number, not '3.5'"),
    ("keep_prob=much", "keep_prob must be a number, not 'much'"),
    ("keep_prob=0", "keep_prob must be a number above 0 and not above 1"),
    ("lr_decay=2", "lr_decay must be .* not above 1, not 2.0"),
    ("batch_size=0", "batch_size must be a whole number from 1 to 1,000,000"),
    ("max_epoch=-1", "max_epoch must be a whole number from 0 to .*, not -1"),
    ("num_layers=101", "num_layers must be a whole number from 1 to 100, not"),
    ("hidden_size=10000000", "hidden_size must be .* to 1,000,000, not 1000"),
    ("learning_rate=nan", "learning_rate must be a number above 0 and .* nan"),
    ("init_scale=inf", "init_scale must be .* not above 1e30, not inf"),
  ],
)
def test_wrong_overrides(hparams, message):
  with pytest.raises(configs.ConfigError, match=message):
    configs.override(configs.SmallConfig(), hparams)


@pytest.mark.parametrize(
  ("field", "message"),
  [
    ({"num_layers": True}, r"num_layers .* not True"),
    ({"hidden_size": 2.0}, r"hidden_size .* not 2.0"),
    ({"rnn_mode": "lstm"}, rf"one of {MODES}, not 'lstm'"),
    ({"rnn_mode": None}, rf"one of {MODES}, not None"),
  ],
)
def test_wrong_values(field, message):
  with pytest.raises(configs.ConfigError, match=message):
    configs.SmallConfig(**field)


def test_a_config_cannot_change():
  with pytest.raises(dataclasses.FrozenInstanceError):
    configs.SmallConfig().batch_size = 1


def test_from_json():
  fields = dataclasses.asdict(configs.LargeConfig())
  assert configs.from_json(fields, "") == configs.Config(**fields)
  wrong = [None, [], {}, fields | {"hidden": 3}, fields | {"num_steps": "3"}]
  for fields in wrong:
    with pytest.raises(
      configs.ConfigError, match=r"^RUN/config.json .* Put back a copy\.$"
    ):
      configs.from_json(fields, "RUN/config.json")
