"""The tutorial's hyper-parameters: small, medium, large and test.

Small, medium and large are the three models of Zaremba et al. 2014 (section
4.1): the non-regularized, medium regularized and large regularized LSTM. Test
is a toy for trying out code in a second.
"""

import dataclasses

import numpy as np

from lm import rnn_modes
from lm.command import InputError

RNN_MODES = tuple(rnn_modes.RNN_MODES)


class ConfigError(InputError, ValueError):
  """A hyper-parameter that does not exist or cannot have its value."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """The hyper-parameters of a model and its training.

  A value of the wrong type, or out of range, raises ConfigError.
  """

  init_scale: float  # Weights start uniform in [-init_scale, init_scale].
  learning_rate: float  # Learning rate of SGD in the first max_epoch epochs.
  max_grad_norm: float  # The gradient's global norm is clipped to this.
  num_layers: int  # L: LSTM layers.
  num_steps: int  # T: unrolled steps, and words of back-propagation.
  hidden_size: int  # H: units of each layer and of the embedding.
  max_epoch: int  # Epochs before the learning rate starts to decay.
  max_max_epoch: int  # Total number of epochs.
  keep_prob: float  # Share of the units that dropout keeps; 1.0: no dropout.
  lr_decay: float  # Factor on the learning rate per epoch after max_epoch.
  batch_size: int  # B: streams that the text is cut into, trained in parallel.
  vocab_size: int  # V: words of the vocabulary. Set from the data.
  rnn_mode: str = "block"  # How the LSTM is computed: one of RNN_MODES.
  tie_embeddings: bool = False  # softmax_w is the embedding, arXiv:1608.05859.
  forget_bias: float = 0.0  # Added to the forget gate; the paper has none.
  patience: int = 0  # Epochs without a better valid perplexity; 0: no limit.
  num_samples: int = 0  # Words that training's softmax samples; 0: all words.

  def __post_init__(self):
    for field in dataclasses.fields(self):
      _check(field, getattr(self, field.name))

  def check_samples(self, num_workers=1):
    """Raises ConfigError if num_samples fits neither vocabulary nor workers."""
    if self.num_samples and self.tie_embeddings and num_workers > 1:
      raise ConfigError("num_samples with tie_embeddings needs one process.")
    if self.num_samples > self.vocab_size / 2:  # It would not be faster.
      raise ConfigError(
        f"num_samples={self.num_samples} is more than half of the "
        f"{self.vocab_size} words of the vocabulary; 0 takes all of them."
      )

  def learning_rate_of(self, epoch):
    """Returns the learning rate of an epoch; the first epoch is 1."""
    return self.learning_rate * self.lr_decay ** max(epoch - self.max_epoch, 0)

  def ends_after(self, perplexities):
    """Says whether training ends after epochs with these valid perplexities."""
    epochs = len(perplexities)
    waited = epochs - 1 - int(np.argmin(perplexities)) if epochs else 0
    return epochs >= self.max_max_epoch or 0 < self.patience <= waited


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmallConfig(Config):
  """2 layers of 200 units, no dropout: 114.5 on the test set in the paper."""

  init_scale: float = 0.1
  learning_rate: float = 1.0
  max_grad_norm: float = 5.0
  num_layers: int = 2
  num_steps: int = 20
  hidden_size: int = 200
  max_epoch: int = 4
  max_max_epoch: int = 13
  keep_prob: float = 1.0
  lr_decay: float = 0.5
  batch_size: int = 20
  vocab_size: int = 10000
  rnn_mode: str = "basic"  # The faster mode at this size.


@dataclasses.dataclass(frozen=True, kw_only=True)
class MediumConfig(Config):
  """2 layers of 650 units, 50% dropout: 82.7 on the test set in the paper."""

  init_scale: float = 0.05
  learning_rate: float = 1.0
  max_grad_norm: float = 5.0
  num_layers: int = 2
  num_steps: int = 35
  hidden_size: int = 650
  max_epoch: int = 6
  max_max_epoch: int = 39
  keep_prob: float = 0.5
  lr_decay: float = 0.8
  batch_size: int = 20
  vocab_size: int = 10000


@dataclasses.dataclass(frozen=True, kw_only=True)
class LargeConfig(MediumConfig):
  """2 layers of 1500 units, 65% dropout: 78.4 on the test set in the paper."""

  init_scale: float = 0.04
  max_grad_norm: float = 10.0
  hidden_size: int = 1500
  max_epoch: int = 14
  max_max_epoch: int = 55
  keep_prob: float = 0.35
  lr_decay: float = 1 / 1.15


@dataclasses.dataclass(frozen=True, kw_only=True)
class TestConfig(SmallConfig):
  """One layer of 2 units for one epoch: learns nothing, but ends soon."""

  max_grad_norm: float = 1.0
  num_layers: int = 1
  num_steps: int = 2
  hidden_size: int = 2
  max_epoch: int = 1
  max_max_epoch: int = 1
  rnn_mode: str = "block"


CONFIGS = {
  "small": SmallConfig,
  "medium": MediumConfig,
  "large": LargeConfig,
  "test": TestConfig,
}

# What the weights of a model depend on.
SIZES = ("hidden_size", "num_layers", "tie_embeddings", "forget_bias")
_NOT_HPARAMS = {
  "vocab_size": "follows the data; --vocab_size limits it",
  "rnn_mode": "has a flag of its own, --rnn_mode",
}


def override(config, hparams, allowed=None):
  """Returns a copy of the config with some fields changed.

  `hparams` has "field=value" pairs with commas between them, such as
  "max_max_epoch=1,hidden_size=300". `allowed` are the fields that can be
  changed, by default all but vocab_size and rnn_mode.
  Raises ConfigError if a field cannot be changed, or not to this value.
  """
  types = {field.name: field.type for field in dataclasses.fields(config)}
  names = allowed or [name for name in types if name not in _NOT_HPARAMS]
  changes = {}
  for pair in filter(None, (part.strip() for part in hparams.split(","))):
    name, equals, value = (part.strip() for part in pair.partition("="))
    if not equals or name not in names:
      unknown = "has no effect here" if name in types else "is not a field"
      what = _NOT_HPARAMS.get(name, unknown)
      if not equals:
        what = "lacks an '=', as in max_max_epoch=1"
      fields = ", ".join(f"{n} ({types[n].__name__})" for n in names)
      raise ConfigError(f"'{name}' {what}; the fields to set are {fields}.")
    if name in changes:
      raise ConfigError(f"{name} is given twice in --hparams.")
    try:
      if types[name] is bool:
        changes[name] = {"true": True, "false": False}[value.lower()]
      else:
        changes[name] = types[name](value)
    except (ValueError, KeyError):
      kind = {int: "a whole number", float: "a number", bool: "true or false"}
      kind = kind[types[name]]
      raise ConfigError(f"{name} must be {kind}, not '{value}'.") from None
  return dataclasses.replace(config, **changes)


def with_sizes_of(fields, config, hparams):
  """Returns a copy of a config that fits a trained model with these `fields`.

  Raises ConfigError if --hparams, the text `hparams`, asks for another size.
  """
  sizes = {name: fields[name] for name in SIZES if name in fields}
  hparams = hparams.replace(" ", "")
  for name, value in sizes.items():
    if f"{name}=" in hparams and getattr(config, name) != value:
      raise ConfigError(
        f"{name} is {value} in the trained model: leave it out of --hparams."
      )
  return dataclasses.replace(config, **sizes)


def of_trained(fields, config, hparams, allowed, where):
  """Returns the Config of a trained model with these `fields`, to use it.

  `config` has the other fields. Those in `allowed` can be changed by the text
  `hparams`, unless the weights depend on them and `fields` has them. `where`
  names the model. Raises ConfigError if they cannot.
  """
  config = from_json(dataclasses.asdict(config) | fields, where)
  return with_sizes_of(fields, override(config, hparams, allowed), hparams)


def from_json(fields, where):
  """Returns the Config with these fields, a dictionary from the file `where`.

  Raises ConfigError if one is missing or unknown, or has an impossible value.
  """
  try:
    return Config(**fields)
  except TypeError:
    raise ConfigError(
      f"{where} does not have the fields of a config. Put back a copy."
    ) from None
  except ConfigError as error:
    raise ConfigError(f"{where} is damaged: {error} Put back a copy.") from None


def _check(field, value):
  """Raises ConfigError unless the value has the field's type and range."""
  is_number = type(value) in (int, float)  # A bool is none.
  if field.name == "rnn_mode":
    valid = value in RNN_MODES
    wanted = f"one of {', '.join(RNN_MODES)}"
  elif field.type is bool:
    valid = type(value) is bool
    wanted = "true or false"
  elif field.type is int:
    least = 0 if field.name in ("max_epoch", "patience", "num_samples") else 1
    # A graph with more layers or unrolled steps takes minutes to build.
    most = {"num_layers": 100, "num_steps": 10_000}.get(field.name, 10**6)
    valid = type(value) is int and least <= value <= most
    wanted = f"a whole number from {least} to {most:,}"
  elif field.name == "forget_bias":
    valid = is_number and -100 <= value <= 100
    wanted = "a number from -100 to 100"
  elif field.name in ("keep_prob", "lr_decay"):
    valid = is_number and 0 < value <= 1
    wanted = "a number above 0 and not above 1"
  else:
    # A float32 can hold 1e30, and no model needs more.
    valid = is_number and 0 < value <= 1e30
    wanted = "a number above 0 and not above 1e30"
  if not valid:
    raise ConfigError(f"{field.name} must be {wanted}, not {value!r}.")
