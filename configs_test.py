"""Tests of configs.py."""

import dataclasses

import pytest

import configs

# In the order of the fields, as the tutorial had them.
TUTORIAL = {
  "small": (0.1, 1.0, 5, 2, 20, 200, 4, 13, 1.0, 0.5, 20, 10000),
  "medium": (0.05, 1.0, 5, 2, 35, 650, 6, 39, 0.5, 0.8, 20, 10000),
  "large": (0.04, 1.0, 10, 2, 35, 1500, 14, 55, 0.35, 1 / 1.15, 20, 10000),
  "test": (0.1, 1.0, 1, 1, 2, 2, 1, 1, 1.0, 0.5, 20, 10000),
}


@pytest.mark.parametrize("name", TUTORIAL)
def test_values_are_the_tutorials(name):
  values = dataclasses.astuple(configs.CONFIGS[name]())
  assert values[:-1] == TUTORIAL[name]
  assert values[-1] == ("basic" if name == "small" else "block")  # rnn_mode
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


@pytest.mark.parametrize(
  ("hparams", "message"),
  [
    ("hiden_size=3", "'hiden_size' is not a field.*hidden_size .int."),
    ("hidden_size", "'hidden_size' lacks an '='.*init_scale .float."),
    ("=3", "'' is not a field"),
    ("vocab_size=3", "'vocab_size' follows the data"),
    ("rnn_mode=basic", "'rnn_mode' has a flag of its own, --rnn_mode"),
    ("hidden_size=3.5", "hidden_size must be a whole number, not '3.5'"),
    ("hidden_size=", "hidden_size must be a whole number, not ''"),
    ("keep_prob=much", "keep_prob must be a number, not 'much'"),
    ("keep_prob=0", "keep_prob must be a number above 0 and not above 1"),
    ("keep_prob=1.5", "keep_prob must be .* not 1.5"),
    ("lr_decay=2", "lr_decay must be .* not 2.0"),
    (
      "batch_size=0",
      "batch_size must be a whole number from 1 to 1,000,000, not 0",
    ),
    (
      "max_epoch=-1",
      "max_epoch must be a whole number from 0 to 1,000,000, not -1",
    ),
    ("hidden_size=10000000", "hidden_size must be .* to 1,000,000, not 1000"),
    (
      "learning_rate=nan",
      "learning_rate must be a number above 0 and .*, not nan",
    ),
    ("init_scale=inf", "init_scale must be .* not above 1e30, not inf"),
  ],
)
def test_wrong_overrides(hparams, message):
  with pytest.raises(configs.ConfigError, match=message):
    configs.override(configs.SmallConfig(), hparams)


def test_a_config_is_checked_and_cannot_change():
  with pytest.raises(configs.ConfigError, match=r"num_layers .* not True"):
    configs.SmallConfig(num_layers=True)
  with pytest.raises(configs.ConfigError, match=r"hidden_size .* not 2.0"):
    configs.SmallConfig(hidden_size=2.0)
  with pytest.raises(configs.ConfigError, match=r"one of basic, block, not"):
    configs.SmallConfig(rnn_mode="cudnn")
  with pytest.raises(dataclasses.FrozenInstanceError):
    configs.SmallConfig().batch_size = 1
