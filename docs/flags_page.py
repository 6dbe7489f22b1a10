"""Writes flags.md: the flags of all commands, and the hyper-parameters.

.venv/bin/python docs/flags_page.py
"""

import importlib
import pathlib
import re
import sys

from absl import flags

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import configs
from lm.base import command
from lm.model import config

PAGE = ROOT / "docs" / "flags.md"
# What each command does, and the least that it needs.
COMMANDS = {
  "ptb_word_lm": ("train and evaluate", "--data_path=FOLDER"),
  "score": ("score texts", "--run=FOLDER"),
  "generate": ("write texts, or the next word", "--run=FOLDER"),
  "export": ("write a SavedModel", "--run=FOLDER --export_dir=FOLDER"),
  "prepare_text": (
    "make a corpus of a plain text",
    "--text=FILE --output=FOLDER",
  ),
  "make_sample_corpus": ("make the sample corpus", "FOLDER"),
  "launch_local": (
    "train with several processes (launch_local.sh)",
    "--n=2 --data_path=FOLDER",
  ),
}
HEAD = """# Flags and hyper-parameters

`docs/flags_page.py` makes this page from the code. Write a flag as
`--name=value`. One that is true or false is turned on by `--name` and off by
`--noname`. The name of a file or a folder may start with `~`. Every command has
`--help` and `--version`. `scripts/train.sh` and `scripts/launch_local.sh` pass
their other flags on to `ptb_word_lm.py`. `scripts/plot_run.py FOLDER` has no
flags.
"""
HYPER_PARAMETERS = """
## Hyper-parameters

`--hparams=name=value,name=value` changes hyper-parameters of `--model`. A run
can resume with another value of those marked in the column "resume". All but
`rnn_mode` and `vocab_size` can be set.

The LSTM's weights and time grow with `num_layers` and the square of
`hidden_size`, those of the embedding and the softmax with `vocab_size` and
`hidden_size`. `num_steps` is the number of unrolled steps, over which gradients
flow back. The cost is the sum of the losses of all steps, so `num_steps` also
scales the gradient ([tutorial](tutorial.md#6-the-loss-and-the-gradient)). A
larger `batch_size` or `num_steps` needs more memory. A larger `batch_size` also
trains more words per second, but with fewer updates in an epoch, and so to
other results. With a large vocabulary, `num_samples` saves time and memory.
`by_sentence` makes steps slower. With a small `num_steps`, an epoch has more
steps and takes longer. The others hardly change the speed. The TF1 tutorial
lacks the last five of the table; by default, they are off.

| name | small | medium | large | resume | meaning |
| --- | ---: | ---: | ---: | --- | --- |
"""


def page():
  """Returns the text of flags.md."""
  parts = [HEAD]
  for module, (purpose, least) in COMMANDS.items():
    parts.append(f"\n## {module}.py: {purpose}\n\n")
    parts.append(f"At least `{module}.py {least}`.\n\n")
    parts.append("| flag | default | meaning |\n| --- | --- | --- |\n")
    parts += map(_flag_row, _flags_of(module))
  parts.append(HYPER_PARAMETERS)
  parts += map(_hyper_parameter_row, config.fields().values())
  return "".join(parts)


def _flags_of(module):
  """Returns the flags of a command, sorted by name."""
  values = flags.FlagValues()
  importlib.import_module(module).define_flags(command.Define(values))
  return [values[name] for name in sorted(values)]


def _flag_row(flag):
  default = "" if flag.default in (None, "", []) else f"`{flag.default}`"
  if isinstance(flag.default, bool):
    default = "on" if flag.default else "off"
  return f"| `--{flag.name}` | {default} | {_meaning(flag.help)} |\n"


def _meaning(help_text):
  """Returns the help of a flag in Markdown."""
  text, *is_list = re.split(r";\s*repeat this option", help_text)
  text = re.sub(r"^<(.*)>: ", r"`\1`: ", text)  # The possible values.
  text = re.sub(r"(?<!\S)(--\w+(?:=\w+)?|<\w+>)", r"`\1`", text)
  return text.replace("|", "\\|") + " It can be repeated." * bool(is_list)


def _hyper_parameter_row(field):
  values = [
    _shown(getattr(configs.CONFIGS[model](), field.name))
    for model in ("small", "medium", "large")
  ]
  resume = "yes" if field.metadata["may_change"] else ""
  meaning = _meaning(field.metadata["meaning"])
  cells = [f"`{field.name}`", *values, resume, meaning]
  return f"| {' | '.join(cells)} |\n"


def _shown(value):
  if isinstance(value, bool):
    return str(value).lower()
  return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
  PAGE.write_text(page(), "utf-8")
