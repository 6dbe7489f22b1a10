"""Shows which words the perplexity of a text comes from.

  .venv/bin/python score.py --run=RUN --carry_state --json --per_word <TEXT |
    .venv/bin/python measure/dissect.py RUN

Reads the log-probability of each word, as score.py prints it for a text that is
read as one stream, and prints a JSON object:

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

from absl import app

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import plot_run

from lm import command

KINDS = ("<unk>", "N", "<eos>", "the rest")


def words_of(lines):
  """Returns (word, log-probability) pairs of all words but the first.

  Args:
    lines: the lines that score.py printed.

  Raises:
    InputError: if they are not those of a text read as one stream.
  """
  try:
    words = [
      (word["word"], word["log_prob"])
      for line in lines
      for word in json.loads(line).get("words", ())
    ]
  except (ValueError, AttributeError, LookupError, TypeError) as error:
    raise command.InputError(
      f"the input is not what score.py --json --per_word prints: {error}."
    ) from error
  # The first word of a stream follows nothing, so it has no probability.
  if [i for i, (_, log_prob) in enumerate(words) if log_prob is None] != [0]:
    raise command.InputError(
      "the input is not one stream: call score.py with --carry_state."
    )
  return words[1:]


def dissect(words, batch_size, num_steps):
  """Returns the object that the head of this file describes.

  Args:
    words: (word, log-probability) pairs, from the text's second word on.
    batch_size: how many pieces of the text are read side by side.
    num_steps: how many words of each piece are read at a time.
  """
  log_probs = [log_prob for _, log_prob in words]
  kinds = {kind: [] for kind in KINDS}
  for word, log_prob in words:
    kinds[word if word in KINDS else KINDS[-1]].append(log_prob)
  length = (len(words) + 1) // batch_size
  predicted = (length - 1) // num_steps * num_steps
  in_batches = [
    log_prob
    for begin in range(0, batch_size * length, length or 1)
    for log_prob in log_probs[begin : begin + predicted]
  ]
  return {
    **_summary(log_probs),
    "by_kind": {
      kind: {**_summary(found), "nats": -math.fsum(found) / max(1, len(words))}
      for kind, found in kinds.items()
    },
    "in_batches": _summary(in_batches),
  }


def _summary(log_probs):
  """Returns how many words there are, and their perplexity, None if none."""
  number = len(log_probs)
  perplexity = math.exp(-math.fsum(log_probs) / number) if number else None
  return {"words": number, "perplexity": perplexity}


def main(argv):
  """Reads standard input, prints the object; returns the exit status."""

  def body():
    if len(argv) < 2:
      raise command.InputError("Which run? Name its folder.")
    path = pathlib.Path(argv[1]) / "config.json"
    config = plot_run.read_json(path)["config"]
    sizes = config["batch_size"], config["num_steps"]
    print(json.dumps(dissect(words_of(sys.stdin), *sizes), indent=2))
    return 0

  return command.run("dissect.py", argv, body, arguments=1)


if __name__ == "__main__":
  app.run(main)
