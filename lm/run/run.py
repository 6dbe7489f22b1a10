"""What a run is: all that its numbers depend on."""

import dataclasses
import functools
import hashlib
import json

from lm.model.config import Config
from lm.text.preparation import Preparation
from lm.text.word_ids import UNKNOWN


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
  """All that a run's numbers depend on, as its config.json has it.

  A run resumes only if nothing has changed but the fields that are marked here
  and in lm/model/config.py.
  """

  model: str  # The name of its hyper-parameters: small, medium, large, test.
  seed: int
  dtype: str  # The type of the products: that of PTBModel.
  config: Config
  data_sha256: dict[str, str]  # The checksum of each text by its name.
  # That of vocabulary.txt; older versions did not write it.
  vocabulary_sha256: str | None = dataclasses.field(
    default=None, metadata={"may_change": True}
  )
  preparation: Preparation | None = None  # How the texts were prepared.
  unknown_word: str = UNKNOWN  # The word that stands for unknown words.
  exchange_fp16: bool = False  # Whether workers exchanged 16 bits.
  vocab_limit: int | None = None  # --vocab_size
  init_from: str | None = None  # The model whose weights it started with.
  # The checkpoint of that model; its newest may change meanwhile.
  init_checkpoint: str | None = dataclasses.field(
    default=None, metadata={"may_change": True}
  )

  @classmethod
  def on_corpus(cls, corpus, **others):
    """Returns the run on a reader.Corpus, with these other fields."""
    return cls(
      data_sha256=corpus.sha256,
      vocabulary_sha256=sha256_of_lines(corpus.vocabulary),
      preparation=corpus.preparation,
      unknown_word=corpus.unknown,
      **others,
    )

  def to_json(self):
    """Returns the run as a dictionary of values that JSON can hold.

    Fields that have their default are left out. So a run does not change when a
    later version adds a field.
    """
    about = _without_defaults(self)
    config = _without_defaults(self.config)
    about["config"] = {**config, "rnn_mode": self.config.rnn_mode}
    if self.preparation is not None:
      about["preparation"] = dataclasses.asdict(self.preparation)
    return about

  @classmethod
  def from_json(cls, about):
    """Returns the run that `to_json` describes.

    Raises:
      ValueError, TypeError, KeyError or AttributeError: if it describes none.
    """
    about = {**about, "config": Config(**about["config"])}
    if about.get("preparation") is not None:
      about["preparation"] = Preparation(**about["preparation"])
    return cls(**about)

  @functools.cached_property
  def id(self):
    """A text that differs for two runs that are not the same."""
    fixed = _flat(self.to_json())
    for name in _may_change():
      fixed.pop(name, None)
    return _sha256(json.dumps(fixed, sort_keys=True))

  def differences(self, other):
    """Returns texts that say why `other` is another run; none if it is not."""
    may_change = _may_change()
    found = differences(self.to_json(), other.to_json())
    return [text for name, text in found if name not in may_change]


def sha256_of_lines(words):
  """Returns the checksum of a vocabulary.txt with these words."""
  return _sha256(lines_of(words))


def lines_of(texts):
  """Returns a text with a line for each of the texts."""
  return "".join(f"{text}\n" for text in texts)


def differences(there, here, where=("there", "here")):
  """Says how two dictionaries differ, those in them included.

  Returns:
    A list of pairs: the name of what differs, and the difference in words for
    users. `where` says what to call the places of the two.
  """
  there, here = _flat(there), _flat(here)
  defaults, found = _defaults(), []
  for name in {**there, **here}:
    values = [side.get(name, defaults.get(name)) for side in (there, here)]
    if values[0] != values[1]:
      found.append((name, _difference(name, values, where)))
  return found


def _flat(values):
  """Returns a dictionary with the entries of nested ones in their place."""
  found = {}
  for name, value in values.items():
    found.update(value if isinstance(value, dict) else {name: value})
  return found


# The flags of what config.json has under another name.
_FLAGS = {
  "vocab_limit": "--vocab_size",
  "unknown_word": "--unknown_word",
  "init_from": "--init_from",
  "init_checkpoint": "the checkpoint of --init_from",
  "exchange_fp16": "--exchange_fp16",
}


def _difference(name, values, where):
  """Says how two values of this name differ, in words for users."""
  if name.startswith("ptb."):
    return f"{name} is another text"
  if name.endswith(".py"):
    return f"{name} is another version"
  if name == "vocabulary_sha256":
    return "the vocabulary is another one"
  shown = ["not set" if value is None else value for value in values]
  name = _FLAGS.get(name, name)
  return f"{name} is {shown[0]} {where[0]}, {shown[1]} {where[1]}"


def _without_defaults(instance):
  """Returns a dataclass's fields that have not their default, a dictionary."""
  values = {f: getattr(instance, f.name) for f in dataclasses.fields(instance)}
  return {f.name: value for f, value in values.items() if value != f.default}


@functools.cache
def _all_fields():
  """Returns the dataclasses.Field of each field of a Run and its Config."""
  return [*dataclasses.fields(Run), *dataclasses.fields(Config)]


def _may_change():
  """Returns the names of the fields that may differ when a run resumes."""
  return {f.name for f in _all_fields() if f.metadata.get("may_change")}


def _defaults():
  """Returns the defaults of the fields that have one, by their names."""
  missing = dataclasses.MISSING
  return {f.name: f.default for f in _all_fields() if f.default is not missing}


def _sha256(text):
  return hashlib.sha256(text.encode()).hexdigest()
