"""The hyper-parameters of a model: their meaning, and the values they can have.

A hyper-parameter is one line of `Config`. Runs that were trained before it
existed have its default.
"""

import dataclasses
import inspect
import numbers

import numpy as np

from lm.base.command import InputError
from lm.model.rnn_modes import RNN_MODES


class ConfigError(InputError, ValueError):
  """A hyper-parameter that does not exist or cannot have its value."""


def _whole(meaning, least=1, most=10**6, **others):
  """Declares a whole number from `least` to `most`; see _declare."""
  wanted = f"a whole number from {least} to {most:,}"
  return _declare(meaning, wanted, lambda n: least <= n <= most, **others)


def _share(meaning, **others):
  """Declares a number above 0 that is at most 1; see _declare."""
  wanted = "a number above 0 and not above 1"
  return _declare(meaning, wanted, lambda x: 0 < x <= 1, **others)


def _positive(meaning, **others):
  """Declares a number above 0; see _declare."""
  wanted = "a number above 0 and not above 1e30"
  # A float32 can hold 1e30, and no model needs more.
  return _declare(meaning, wanted, lambda x: 0 < x <= 1e30, **others)


def _declare(
  meaning, wanted, is_valid, *, default=dataclasses.MISSING, may_change=False
):
  """Declares a hyper-parameter.

  Args:
    meaning: its meaning, for users.
    wanted: the possible values in words.
    is_valid: a function that tells them from others of the field's type.
    default: the value where a config does not set it; without one, each must.
    may_change: whether a run can resume with another value.
  """
  metadata = {"meaning": meaning, "wanted": wanted, "is_valid": is_valid}
  metadata["may_change"] = may_change
  return dataclasses.field(default=default, metadata=metadata)


def _checked(cls, name, value):
  """Returns a value for an attribute of Config or of a class made from it.

  A number of numpy becomes Python's, and a whole one a float if need be. Raises
  ConfigError if it is not possible.
  """
  known = getattr(cls, "__dataclass_fields__", {})  # Empty while it is made.
  is_code = inspect.isroutine(value) or inspect.isdatadescriptor(value)
  if not known or name.startswith("_") or (is_code and name not in known):
    return value
  if name not in known:
    raise ConfigError(f"{name} is not a hyper-parameter: {', '.join(known)}.")
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
  """Checks what is assigned to attributes of the classes, as Config does."""

  def __setattr__(cls, name, value):
    super().__setattr__(name, _checked(cls, name, value))


@dataclasses.dataclass(init=False)
class Config(metaclass=_CheckedClass):
  """The hyper-parameters of a model and its training.

  To make your own, subclass one of configs.py and set class attributes, or set
  attributes of an instance. A name that does not exist, or a value of another
  type or out of range, raises ConfigError.
  """

  init_scale: float = _positive("Weights start in [-init_scale, init_scale].")
  learning_rate: float = _positive("SGD's, in the first max_epoch epochs.")
  max_grad_norm: float = _positive("The gradient's global norm at most.")
  num_layers: int = _whole("L: LSTM layers.", most=100)
  num_steps: int = _whole("T: unrolled steps of a batch.", most=10_000)
  hidden_size: int = _whole("H: units of a layer and of the embedding.")
  max_epoch: int = _whole("Epochs before the learning rate decays.", least=0)
  max_max_epoch: int = _whole("Epochs in all.", may_change=True)
  keep_prob: float = _share("Share of the units that dropout keeps.")
  lr_decay: float = _share("The learning rate's factor per later epoch.")
  batch_size: int = _whole("B: streams that are read side by side.")
  vocab_size: int = _whole("V: words of the vocabulary, set from the data.")
  rnn_mode: str = _declare(
    "How the LSTM is computed.",
    f"one of {', '.join(RNN_MODES)}",
    RNN_MODES.__contains__,
    default="block",
  )
  tie_embeddings: bool = _declare(
    "Whether softmax_w is the embedding, arXiv:1608.05859.",
    "true or false",
    lambda _: True,
    default=False,
  )
  forget_bias: float = _declare(
    "Added to the forget gate; the paper has none.",
    "a number from -100 to 100",
    lambda x: -100 <= x <= 100,
    default=0.0,
  )
  patience: int = _whole(
    "Epochs without a better valid perplexity; 0: no limit.",
    least=0,
    default=0,
    may_change=True,
  )
  num_samples: int = _whole(
    "Words that training's softmax samples; 0: all.", least=0, default=0
  )

  def __init__(self, **values):
    """Takes the given values, and the others from the class."""
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
    """Compares the values: a run's config.json has them without the class."""
    if not isinstance(other, Config):
      return NotImplemented
    return dataclasses.astuple(self) == dataclasses.astuple(other)

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


def fields():
  """Returns the dataclasses.Field of each hyper-parameter, by its name."""
  return {field.name: field for field in dataclasses.fields(Config)}


# What the weights of a model depend on.
SIZES = ("hidden_size", "num_layers", "tie_embeddings", "forget_bias")
_NOT_HPARAMS = {
  "vocab_size": "follows the data; --vocab_size limits it",
  "rnn_mode": "has a flag of its own, --rnn_mode",
}


def parse(hparams, allowed=None):
  """Returns the values in the text of --hparams, a dictionary.

  The text has "name=value" pairs with commas between them, such as
  "max_max_epoch=1,hidden_size=300"; it can be a list of such texts. `allowed`
  are the possible names, by default all but vocab_size and rnn_mode.

  Raises:
    ConfigError: if a name is not possible, or a value is of another type.
  """
  if not isinstance(hparams, str):
    hparams = ",".join(hparams)
  known = fields()
  names = allowed or [name for name in known if name not in _NOT_HPARAMS]
  values = {}
  for pair in filter(None, (part.strip() for part in hparams.split(","))):
    name, equals, value = (part.strip() for part in pair.partition("="))
    if not equals or name not in names:
      unknown = "has no effect here" if name in known else "is not a field"
      what = _NOT_HPARAMS.get(name, unknown)
      if not equals:
        what = "lacks an '=', as in max_max_epoch=1"
      shown = ", ".join(f"{n} ({known[n].type.__name__})" for n in names)
      raise ConfigError(f"'{name}' {what}; the fields to set are {shown}.")
    if name in values:
      raise ConfigError(f"{name} is given twice in --hparams.")
    values[name] = _parse_value(known[name], value)
  return values


def _parse_value(field, text):
  """Returns the value of a field that a text stands for."""
  try:
    if field.type is bool:
      return {"true": True, "false": False}[text.lower()]
    return field.type(text)
  except (ValueError, KeyError):
    kind = {int: "a whole number", float: "a number", bool: "true or false"}
    raise ConfigError(
      f"{field.name} must be {kind[field.type]}, not '{text}'."
    ) from None


def override(config, hparams, allowed=None):
  """Returns a copy of a config with the changes that `parse` finds."""
  return dataclasses.replace(config, **parse(hparams, allowed))


def check_sizes_kept(config, changes):
  """Raises ConfigError if `changes` would alter the sizes of a trained model.

  `config` is that of the model, `changes` what `parse` returned.
  """
  for name in SIZES:
    if changes.get(name, getattr(config, name)) != getattr(config, name):
      raise ConfigError(
        f"{name} is {getattr(config, name)} in the trained model: leave it out "
        "of --hparams."
      )
