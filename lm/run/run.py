"""What a run is: all that its numbers depend on."""

import dataclasses
import functools
import hashlib
import json

import lm
from lm.base.command import InputError
from lm.model.config import Config, config_of
from lm.text.preparation import Preparation
from lm.text.word_ids import UNKNOWN


class RecordError(InputError, ValueError):
  """A record has other fields than this version of the program writes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
  """What a run is: all that its numbers depend on, and some facts about it.

  It is the content of config.json. A run resumes only with an equal Run. Only
  the fields of Run and of Config that are marked "may_change" may differ.
  """

  model: str  # The name of its hyper-parameters: small, medium, large, test.
  seed: int
  dtype: str  # The type of the products, as in PTBModel.
  config: Config
  data_sha256: dict[str, str]  # The checksum of each text by its name.
  # The checksum of vocabulary.txt; older versions did not record it.
  vocabulary_sha256: str | None = dataclasses.field(
    default=None, metadata={"may_change": True}
  )
  preparation: Preparation | None = None  # How the texts were prepared.
  unknown_word: str = UNKNOWN  # The word that stands for unknown words.
  exchange_fp16: bool = False  # Whether workers exchange 16-bit gradients.
  vocab_limit: int | None = None  # --vocab_size
  # Whether the checkpoint of each epoch stays.
  keep_checkpoints: bool = dataclasses.field(
    default=False, metadata={"may_change": True}
  )
  # The version of this project that trained it last; None before 1.0.0.
  project_version: str | None = dataclasses.field(
    default=None, metadata={"may_change": True}
  )
  init_from: str | None = None  # The model whose weights it started with.
  # The checkpoint of that model, recorded as its newest one may change.
  init_checkpoint: str | None = dataclasses.field(
    default=None, metadata={"may_change": True}
  )

  def __post_init__(self):
    # A copy of the values alone: the class may be a program's own.
    object.__setattr__(self, "config", config_of(self.config))

  @classmethod
  def on_corpus(cls, corpus, **fields):
    """Returns the Run on a reader.Corpus; `fields` are the remaining ones."""
    return cls(
      data_sha256=corpus.sha256,
      vocabulary_sha256=sha256_of_lines(corpus.vocabulary),
      preparation=corpus.preparation,
      unknown_word=corpus.unknown,
      project_version=lm.__version__,
      **fields,
    )

  def to_json(self):
    """Returns the run as a dictionary that JSON can represent.

    It lacks fields with their default value. So a run does not change when a
    later version adds a field.
    """
    values = _without_defaults(self)
    values["config"] = _without_defaults(self.config)
    # Older versions recorded the mode even if it was the default.
    values["config"]["rnn_mode"] = self.config.rnn_mode
    if self.preparation is not None:
      values["preparation"] = _without_defaults(self.preparation)
    return values

  @classmethod
  def from_json(cls, values):
    """Returns the run of a dictionary that `to_json` returned.

    Raises:
      InputError: for a dictionary with other fields or other values. The
        message names the field.
      ValueError, TypeError, KeyError or AttributeError: for any other value.
    """
    values = {**values, "config": from_record(Config, values["config"])}
    if values.get("preparation") is not None:
      values["preparation"] = from_record(Preparation, values["preparation"])
    return from_record(cls, values)

  @functools.cached_property
  def id(self):
    """A checksum of all fields that may not change."""
    values = _flat(self.to_json())
    for name in _may_change():
      values.pop(name, None)
    return _sha256(json.dumps(values, sort_keys=True))

  def differences(self, other):
    """Returns descriptions of why `other` is another run; [] if it is not."""
    described = describe_differences(self.to_json(), other.to_json())
    may_change = _may_change()
    return [text for name, text in described.items() if name not in may_change]


def from_record(kind, values):
  """Returns an instance of the dataclass `kind` with the values in a file.

  Raises RecordError if `values`, a dictionary, has other fields.
  """
  known = {field.name: field for field in dataclasses.fields(kind)}
  for name in values:
    if name not in known:
      raise RecordError(f"it has `{name}`, which this version does not know.")
  for name, field in known.items():
    if name not in values and _is_required(field):
      raise RecordError(f"it has no `{name}`.")
  return kind(**values)


def _is_required(field):
  """Returns whether a dataclasses.Field has no default."""
  missing = dataclasses.MISSING
  return field.default is missing and field.default_factory is missing


def sha256_of_lines(words):
  """Returns the checksum of the vocabulary.txt with these words."""
  return _sha256(lines_of(words))


def lines_of(texts):
  """Returns a text with a line for each of the texts."""
  return "".join(f"{text}\n" for text in texts)


def describe_differences(first, second, places=("there", "here")):
  """Compares two dictionaries of values, and those within them.

  A missing value counts as the default of the field of its name.

  Args:
    first: a dictionary, such as Run.to_json returns.
    second: the other one.
    places: where the first and the second one are, in words.

  Returns:
    {name: description} of the values that differ, described for users.
  """
  first, second = _flat(first), _flat(second)
  defaults = _defaults()
  described = {}
  for name in {**first, **second}:
    pair = [values.get(name, defaults.get(name)) for values in (first, second)]
    if pair[0] != pair[1]:
      described[name] = _describe_difference(name, pair, places)
  return described


def _flat(values):
  """Returns a dictionary in which nested dictionaries are merged."""
  flat = {}
  for name, value in values.items():
    if isinstance(value, dict):
      flat.update(value)
    else:
      flat[name] = value
  return flat


# How users know fields whose names tell them little.
_FLAGS = {
  "vocab_limit": "--vocab_size",
  "version": "the version of the rules of prepare_text.py",
  "unknown_word": "--unknown_word",
  "init_from": "--init_from",
  "init_checkpoint": "the checkpoint of --init_from",
  "exchange_fp16": "--exchange_fp16",
}


def _describe_difference(name, values, places):
  """Returns how two values of this name differ, in words for users."""
  if name.startswith("ptb.") or name.endswith(".py"):
    return f"{name} differs"
  if name == "vocabulary_sha256":
    return "the vocabulary differs"
  shown = ["not set" if value is None else value for value in values]
  name = _FLAGS.get(name, name)
  return f"{name} is {shown[0]} {places[0]}, {shown[1]} {places[1]}"


def _without_defaults(instance):
  """Returns {name: value} of the fields whose value is not the default."""
  values = {}
  for field in dataclasses.fields(instance):
    value = getattr(instance, field.name)
    if value != field.default:
      values[field.name] = value
  return values


@functools.cache
def _all_fields():
  """Returns the dataclasses.Field of each field of a Run and its parts."""
  kinds = Run, Config, Preparation
  return [field for kind in kinds for field in dataclasses.fields(kind)]


def _may_change():
  """Returns the names of the fields that may differ when a run resumes."""
  return {f.name for f in _all_fields() if f.metadata.get("may_change")}


def _defaults():
  """Returns the defaults of the fields that have one, by their names."""
  missing = dataclasses.MISSING
  return {f.name: f.default for f in _all_fields() if f.default is not missing}


def _sha256(text):
  return hashlib.sha256(text.encode()).hexdigest()
