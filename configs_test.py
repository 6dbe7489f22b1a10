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
  assert values[:12] == TUTORIAL[name]
  assert values[12:] == ("block", False, 0.0, False, 0, 0)
  assert len(configs.CONFIGS) == len(TUTORIAL)


@pytest.mark.parametrize("name", TUTORIAL)
def test_values_are_attributes_of_the_class(name):
  config = configs.CONFIGS[name]
  names = [field.name for field in dataclasses.fields(configs.Config)]
  values = tuple(getattr(config, name) for name in names)
  assert values == dataclasses.astuple(config())


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
