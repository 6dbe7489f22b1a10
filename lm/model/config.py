"""The hyper-parameters of a model, their meaning and their possible values.

Each hyper-parameter is a field of `Config`. Runs that were trained before the
hyper-parameter existed get its default.
"""

import dataclasses
import inspect
import numbers

import numpy as np

from lm.base.command import InputError
from lm.model.rnn_modes import RNN_MODES


class ConfigError(InputError, ValueError):
  """A hyper-parameter that does not exist or has an impossible value."""


def _whole(meaning, least=1, most=10**6, **others):
  """Declares a whole number from `least` to `most`; see _declare."""
  wanted = f"a whole number from {least} to {most:,}"
  return _declare(meaning, wanted, lambda n: least <= n <= most, **others)


def _share(meaning, **others):
  """Declares a number above 0 and at most 1; see _declare."""
  wanted = "a number above 0 and at most 1"
  return _declare(meaning, wanted, lambda x: 0 < x <= 1, **others)


def _positive(meaning, **others):
  """Declares a number above 0; see _declare."""
  wanted = "a number above 0 and at most 1e30"
  # A float32 can hold 1e30, and no model needs more.
  return _declare(meaning, wanted, lambda x: 0 < x <= 1e30, **others)


def _declare(
  meaning, wanted, is_valid, *, default=dataclasses.MISSING, may_change=False
):
  """Declares a hyper-parameter.

  Args:
    meaning: a sentence for users.
    wanted: the possible values in words.
    is_valid: a function from a value of the field's type to whether it is
      possible.
    default: the value in configs that do not set it. Without a default, all
      configs must set it.
    may_change: whether a run can resume with another value.
  """
  metadata = {"meaning": meaning, "wanted": wanted, "is_valid": is_valid}
  metadata["may_change"] = may_change
  return dataclasses.field(default=default, metadata=metadata)


def _checked(cls, name, value):
  """Checks a value for an attribute of Config or of one of its subclasses.

  Attributes that are not hyper-parameters must be private, or methods or
  properties.

  Returns:
    The value; a number becomes an int or a float of Python.

  Raises:
    ConfigError: if the name or the value is not possible.
  """
  known = getattr(cls, "__dataclass_fields__", {})
  if not known:  # The dataclass itself is being made.
    return value
  is_code = inspect.isroutine(value) or inspect.isdatadescriptor(value)
  if name.startswith("_") or (is_code and name not in known):
    return value
  if name not in known:
    raise ConfigError(
      f"{name} is not a hyper-parameter. The hyper-parameters are "
      f"{', '.join(known)}."
    )
  field = known[name]
  if isinstance(value, np.generic):
    value = value.item()
  kind = {float: numbers.Real}.get(field.type, field.type)
  has_kind = isinstance(value, kind) and (
    field.type is bool or not isinstance(value, bool)
  )
  if not has_kind or not field.metadata["is_valid"](value):
    raise ConfigError(
      f"{name} must be {field.metadata['wanted']}, not {value!r}."
    )
  return float(value) if field.type is float else value


class _CheckedClass(type):
  """Checks values that are assigned to attributes of a class."""

  def __setattr__(cls, name, value):
    super().__setattr__(name, _checked(cls, name, value))


@dataclasses.dataclass(init=False)
class Config(metaclass=_CheckedClass):
  """The hyper-parameters of a model and its training.

  To make your own config, subclass one of the classes in configs.py and set
  class attributes, or set attributes of an instance.

  Raises:
    ConfigError: if a name does not exist, or if a value has another type or is
      out of range.
  """

  init_scale: float = _positive(
    "Initial weights are drawn uniformly from [-init_scale, init_scale]."
  )
  learning_rate: float = _positive(
    "The learning rate in the first max_epoch epochs."
  )
  max_grad_norm: float = _positive("Gradients are clipped to this global norm.")
  num_layers: int = _whole("L: the number of LSTM layers.", most=100)
  num_steps: int = _whole("T: the number of unrolled steps.", most=10_000)
  hidden_size: int = _whole(
    "H: the number of units in each layer and in the embedding."
  )
  max_epoch: int = _whole(
    "The number of epochs before the learning rate decays.", least=0
  )
  max_max_epoch: int = _whole("The number of epochs.", may_change=True)
  keep_prob: float = _share("The probability that dropout keeps a unit.")
  lr_decay: float = _share(
    "The factor of the learning rate in each epoch after max_epoch."
  )
  batch_size: int = _whole(
    "B: the number of streams that are read side by side."
  )
  vocab_size: int = _whole(
    "V: the number of words in the vocabulary, which follows the data."
  )
  rnn_mode: str = _declare(
    "How the LSTM is computed. The flag --rnn_mode sets it, also on resume.",
    f"one of {', '.join(RNN_MODES)}",
    RNN_MODES.__contains__,
    default="block",
  )
  tie_embeddings: bool = _declare(
    "Whether the softmax uses the embedding as its weights (arXiv:1608.05859).",
    "true or false",
    lambda _: True,
    default=False,
  )
  forget_bias: float = _declare(
    "The number added to the input of the forget gate; 0 in the paper.",
    "a number from -100 to 100",
    lambda x: -100 <= x <= 100,
    default=0.0,
  )
  by_sentence: bool = _declare(
    "Whether each sentence starts from a state of zeros.",
    "true or false",
    lambda _: True,
    default=False,
  )
  patience: int = _whole(
    "Training ends after this number of epochs without a better valid "
    "perplexity; 0 means no limit.",
    least=0,
    default=0,
    may_change=True,
  )
  num_samples: int = _whole(
    "The number of words that the softmax samples in training; 0 means all "
    "words.",
    least=0,
    default=0,
  )

  def __init__(self, **values):
    """Sets the given values. The others come from the class."""
    for field in dataclasses.fields(self):
      if not hasattr(self, field.name) and field.name not in values:
        raise ConfigError(f"{type(self).__name__} has no {field.name}: set it.")
      values.setdefault(field.name, getattr(self, field.name, None))
    for name, value in values.items():
      setattr(self, name, value)

  def __init_subclass__(cls, **others):
    super().__init_subclass__(**others)
    for name, value in list(vars(cls).items()):
      setattr(cls, name, value)

  def __setattr__(self, name, value):
    super().__setattr__(name, _checked(type(self), name, value))

  def __eq__(self, other):
    """Compares the values alone: config.json does not store the class."""
    if not isinstance(other, Config):
      return NotImplemented
    return dataclasses.astuple(self) == dataclasses.astuple(other)

  def check_samples(self, num_workers=1):
    """Raises ConfigError if num_samples is not possible here."""
    if self.num_samples and self.tie_embeddings and num_workers > 1:
      raise ConfigError(
        "num_samples with tie_embeddings needs one process: leave one of them "
        "out, or train without other workers."
      )
    if self.num_samples > self.vocab_size / 2:  # It would not be faster.
      raise ConfigError(
        f"num_samples={self.num_samples} is more than half of the "
        f"{self.vocab_size} words of the vocabulary. Make it smaller, or use 0 "
        "for all words."
      )

  def learning_rate_of(self, epoch):
    """Returns the learning rate of an epoch. The first epoch is 1.

    It is constant for max_epoch epochs, and multiplied by lr_decay in each
    later one (the paper's section 4.1).
    """
    return self.learning_rate * self.lr_decay ** max(epoch - self.max_epoch, 0)

  def ends_after(self, perplexities):
    """Returns whether training ends after epochs with these perplexities.

    `perplexities` has the valid perplexity of each epoch.
    """
    epochs = len(perplexities)
    if epochs >= self.max_max_epoch:
      return True
    if not epochs or not self.patience:
      return False
    best = int(np.argmin(perplexities))
    return epochs - 1 - best >= self.patience


def config_of(source):
  """Returns a new Config with the hyper-parameters of any object.

  Args:
    source: a Config, or an object or class with the TF1 tutorial's attributes.
      Hyper-parameters that the TF1 tutorial did not have get their default.

  Raises:
    ConfigError: if one is missing, or has a wrong type or value.
  """
  values = {}
  for name, field in fields().items():
    if hasattr(source, name):
      values[name] = getattr(source, name)
    elif field.default is dataclasses.MISSING:
      kind = source if isinstance(source, type) else type(source)
      raise ConfigError(f"{kind.__name__} has no {name}: set it.")
  return Config(**values)


def fields():
  """Returns the dataclasses.Field of each hyper-parameter, by its name."""
  return {field.name: field for field in dataclasses.fields(Config)}


# Weights of a trained model are of use only if these stay the same.
SIZES = ("hidden_size", "num_layers", "tie_embeddings", "forget_bias")
_NOT_HPARAMS = {
  "vocab_size": "follows the data, and the flag --vocab_size limits it",
  "rnn_mode": "has a flag of its own, --rnn_mode",
}


def parse(hparams, allowed=None):
  """Reads the text of --hparams.

  Args:
    hparams: "name=value" pairs with commas between them, such as
      "max_max_epoch=1,hidden_size=300", or a list of such texts. If a name
      occurs more than once, the last value counts.
    allowed: the possible names, by default all but vocab_size and rnn_mode.

  Returns:
    {name: value}.

  Raises:
    ConfigError: if a name is not possible, or a value has another type.
  """
  if not isinstance(hparams, str):
    hparams = ",".join(hparams)
  known = fields()
  names = allowed or [name for name in known if name not in _NOT_HPARAMS]
  values = {}
  for pair in filter(None, (part.strip() for part in hparams.split(","))):
    name, equals, value = (part.strip() for part in pair.partition("="))
    if not equals or name not in names:
      if not equals:
        problem = "lacks an '=', as in max_max_epoch=1"
      elif name in _NOT_HPARAMS:
        problem = _NOT_HPARAMS[name]
      elif name in known:
        problem = "has no effect here"
      else:
        problem = "is not a hyper-parameter"
      shown = ", ".join(f"{n} ({known[n].type.__name__})" for n in names)
      raise ConfigError(
        f"'{name}' {problem}. The hyper-parameters that can be set are {shown}."
      )
    values[name] = _parse_value(known[name], value)
  return values


def _parse_value(field, text):
  """Returns a text as a value of the field's type."""
  try:
    if field.type is bool:
      return {"true": True, "false": False}[text.lower()]
    return field.type(text)
  except (ValueError, KeyError):
    wanted = {int: "a whole number", float: "a number", bool: "true or false"}
    raise ConfigError(
      f"{field.name} must be {wanted[field.type]}, not '{text}'."
    ) from None


def override(config, hparams, allowed=None):
  """Returns a copy of a config with the changes of --hparams; see parse."""
  return dataclasses.replace(config, **parse(hparams, allowed))


def check_sizes_kept(config, changes):
  """Raises ConfigError if changes do not fit the weights of a trained model.

  `config` is the model's config, `changes` what `parse` returned.
  """
  for name in SIZES:
    if changes.get(name, getattr(config, name)) != getattr(config, name):
      raise ConfigError(
        f"{name} is {getattr(config, name)} in the trained model: leave it out "
        "of --hparams."
      )
