"""Shows which words the perplexity of a text comes from.

  .venv/bin/python score.py --run=RUN --carry_state --json --per_word <TEXT |
    .venv/bin/python measure/dissect.py RUN

Prints a JSON object:

  perplexity, words   of all words that are predicted
  by_kind             the same of <unk>, N, <eos> and the rest, and `nats`: what
                      this kind adds to the mean cost of a word
  in_batches          the same of the words that are predicted when the text is
                      read as in training: cut into RUN's batch_size pieces,
                      num_steps words at a time, without what is left over
"""

import json
import math
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from lm.base import imports

if __name__ == "__main__":
  imports.quietly()


import plot_run

from lm.base import command

KINDS = ("<unk>", "N", "<eos>", "the rest")


@command.entry_point("dissect.py", arguments=1)
def main(_, run=None):
  """Reads standard input, prints the object; returns the exit status."""
  if not run:
    raise command.InputError("Which run? Name its folder.")
  config = plot_run.read_json(pathlib.Path(run) / "config.json")["config"]
  try:
    words = [
      (word["word"], word["log_prob"])
      for line in sys.stdin
      for word in json.loads(line).get("words", ())
    ]
    # The first word of a stream, and no other, has no probability.
    found = dissect(words[1:], config["batch_size"], config["num_steps"])
  except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
    raise command.InputError(
      "the input is not what score.py --carry_state --json --per_word prints."
    ) from None
  print(json.dumps(found, indent=2))
  return 0


def dissect(words, batch_size, num_steps):
  """Returns the object for (word, log-probability) pairs from the second on."""
  log_probs = [log_prob for _, log_prob in words]
  kinds = {kind: [] for kind in KINDS}
  for word, log_prob in words:
    kinds[word if word in KINDS else KINDS[-1]].append(log_prob)
  length = (len(words) + 1) // batch_size
  predicted = (length - 1) // num_steps * num_steps
  starts = range(0, batch_size * length, length)
  in_batches = [p for i in starts for p in log_probs[i : i + predicted]]
  by_kind = {
    kind: {**_summary(found), "nats": -math.fsum(found) / len(words)}
    for kind, found in kinds.items()
    if found
  }
  about = {"by_kind": by_kind, "in_batches": _summary(in_batches)}
  return {**_summary(log_probs), **about}


def _summary(log_probs):
  """Returns how many words there are, and their perplexity."""
  perplexity = math.exp(-math.fsum(log_probs) / len(log_probs))
  return {"words": len(log_probs), "perplexity": perplexity}


if __name__ == "__main__":
  command.start(main)
