"""The tutorial's hyper-parameters: small, medium, large and test.

Small, medium and large are the three models of Zaremba et al. 2014 (section
4.1): the non-regularized, medium regularized and large regularized LSTM. Test
is a toy for trying out code in a second. lm/model/config.py explains each
hyper-parameter, including those that the TF1 tutorial did not have.
"""

from lm.model import rnn_modes
from lm.model.config import Config, ConfigError, override  # noqa: F401

RNN_MODES = tuple(rnn_modes.RNN_MODES)


class SmallConfig(Config):
  """2 layers of 200 units, no dropout; test perplexity 114.5 in the paper."""

  init_scale = 0.1
  learning_rate = 1.0
  max_grad_norm = 5.0
  num_layers = 2
  num_steps = 20
  hidden_size = 200
  max_epoch = 4
  max_max_epoch = 13
  keep_prob = 1.0
  lr_decay = 0.5
  batch_size = 20
  vocab_size = 10000


class MediumConfig(Config):
  """2 layers of 650 units, 50% dropout; test perplexity 82.7 in the paper."""

  init_scale = 0.05
  learning_rate = 1.0
  max_grad_norm = 5.0
  num_layers = 2
  num_steps = 35
  hidden_size = 650
  max_epoch = 6
  max_max_epoch = 39
  keep_prob = 0.5
  lr_decay = 0.8
  batch_size = 20
  vocab_size = 10000


class LargeConfig(Config):
  """2 layers of 1500 units, 65% dropout; test perplexity 78.4 in the paper."""

  init_scale = 0.04
  learning_rate = 1.0
  max_grad_norm = 10.0
  num_layers = 2
  num_steps = 35
  hidden_size = 1500
  max_epoch = 14
  max_max_epoch = 55
  keep_prob = 0.35
  lr_decay = 1 / 1.15
  batch_size = 20
  vocab_size = 10000


class TestConfig(Config):
  """One layer of 2 units for one epoch: ends soon, but learns little."""

  init_scale = 0.1
  learning_rate = 1.0
  max_grad_norm = 1.0
  num_layers = 1
  num_steps = 2
  hidden_size = 2
  max_epoch = 1
  max_max_epoch = 1
  keep_prob = 1.0
  lr_decay = 0.5
  batch_size = 20
  vocab_size = 10000


CONFIGS = {
  "small": SmallConfig,
  "medium": MediumConfig,
  "large": LargeConfig,
  "test": TestConfig,
}
