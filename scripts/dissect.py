#!/usr/bin/env python3
"""Says where the perplexity of a text comes from.

  score.py --run=RUN --carry_state --json --per_word --file=ptb.valid.txt |
    scripts/dissect.py RUN

Reads what score.py says of each word, all read as one stream, and prints a JSON
object:

  perplexity, words   of the whole text
  by_kind             the same of <unk>, N, <eos> and of the rest, and `nats`,
                      how many of the whole's nats a word come from it
  in_batches          the same of those words that are predicted when the text
                      is read as it is in training: in RUN's batch_size pieces
                      side by side, num_steps at a time, so without the tail
"""

import json
import math
import pathlib
import sys

KINDS = ("<unk>", "N", "<eos>")


def words_of(lines):
  """Yields (word, log-probability) of all words but the first, which has none.

  Args:
    lines: of score.py's output.
  """
  for line in lines:
    for word in json.loads(line).get("words", ()):
      if word["log_prob"] is not None:
        yield word["word"], word["log_prob"]


def dissect(words, batch_size, num_steps):
  """Returns what the head of this file shows.

  Args:
    words: a list of (word, log-probability), from the text's second word on.
    batch_size: how many pieces are read side by side.
    num_steps: how many words of each at a time.
  """
  log_probs = [log_prob for _, log_prob in words]
  kinds = {kind: [] for kind in (*KINDS, "the rest")}
  for word, log_prob in words:
    kinds[word if word in KINDS else "the rest"].append(log_prob)
  length = (len(words) + 1) // batch_size
  predicted = (length - 1) // num_steps * num_steps
  in_batches = [
    log_prob
    for begin in range(0, batch_size * length, length)
    for log_prob in log_probs[begin : begin + predicted]
  ]
  return {
    **_summary(log_probs),
    "by_kind": {
      kind: {**_summary(found), "nats": _nats(found) / len(words)}
      for kind, found in kinds.items()
    },
    "in_batches": _summary(in_batches),
  }


def _nats(log_probs):
  """Returns what words with these log-probabilities cost."""
  return math.fsum(-log_prob for log_prob in log_probs)


def _summary(log_probs):
  """Returns how many words there are, and their perplexity, None if none."""
  number = len(log_probs)
  perplexity = math.exp(_nats(log_probs) / number) if number else None
  return {"words": number, "perplexity": perplexity}


def main(argv):
  """Reads standard input, prints the object; returns the exit status."""
  if len(argv) != 2:
    print(__doc__, file=sys.stderr)
    return 2
  try:
    path = pathlib.Path(argv[1]) / "config.json"
    config = json.loads(path.read_text())["config"]
    words = list(words_of(sys.stdin))
    found = dissect(words, config["batch_size"], config["num_steps"])
  except (OSError, ValueError, KeyError) as error:
    print(
      f"dissect.py: {argv[1]} is no run's folder, or the input is not what "
      f"score.py prints: {error}",
      file=sys.stderr,
    )
    return 1
  print(json.dumps(found, indent=2))
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv))
