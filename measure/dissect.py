"""Says where the perplexity of a text comes from.

  .venv/bin/python score.py --run=RUN --carry_state --json --per_word <TEXT |
    .venv/bin/python scripts/dissect.py RUN

Reads what score.py says of each word, all read as one stream, and prints a JSON
object:

  perplexity, words   of the whole text
  by_kind             the same of <unk>, N, <eos> and of the rest, and `nats`,
                      how many of the whole's nats a word come from it
  in_batches          the same of those words that are predicted when the text
                      is read as it is in training: in RUN's batch_size pieces
                      side by side, num_steps at a time, so without the tail
"""

import argparse
import json
import math
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import plot_run

from lm import command

KINDS = ("<unk>", "N", "<eos>")


def words_of(lines):
  """Yields (word, log-probability) of all words but the first, which has none.

  Args:
    lines: of score.py's output.

  Raises:
    ValueError: if the text was not read as one stream.
  """
  has_begun = False
  for line in lines:
    for word in json.loads(line).get("words", ()):
      if (word["log_prob"] is None) == has_begun:
        raise ValueError("score.py has to be called with --carry_state")
      if has_begun:
        yield word["word"], float(word["log_prob"])
      has_begun = True


def dissect(words, batch_size, num_steps):
  """Returns what the head of this file shows.

  Args:
    words: a list of (word, log-probability), from the text's second word on.
    batch_size: how many pieces are read side by side.
    num_steps: how many words of each at a time.

  Raises:
    ValueError: if these are too few words, or one is impossible.
  """
  log_probs = [log_prob for _, log_prob in words]
  kinds = {kind: [] for kind in (*KINDS, "the rest")}
  for word, log_prob in words:
    kinds[word if word in KINDS else "the rest"].append(log_prob)
  if not all(map(math.isfinite, log_probs)):
    raise ValueError("a log-probability is not finite")
  if min(batch_size, num_steps) < 1:
    raise ValueError("there is no batch without rows or steps")
  length = (len(words) + 1) // batch_size
  if length <= num_steps:
    raise ValueError(
      f"{len(words) + 1} words are too few for {batch_size} pieces of more "
      f"than {num_steps}"
    )
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


def main(argv=None):
  """Reads standard input, prints the object; returns the exit status."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("run", metavar="RUN", type=pathlib.Path)
  run = parser.parse_args(argv).run
  return command.run("dissect.py", [""], lambda: _main(run / "config.json"))


def _main(path):
  """Dissects a run that has this config.json; returns the exit status."""
  try:
    config = json.loads(path.read_text())["config"]
    batch_size, num_steps = int(config["batch_size"]), int(config["num_steps"])
  except (OSError, *plot_run.NOT_A_RUN) as error:
    raise command.InputError(
      f"{path} is not that of a run: {error}."
    ) from error
  try:
    found = dissect(list(words_of(sys.stdin)), batch_size, num_steps)
  except plot_run.NOT_A_RUN as error:
    raise command.InputError(
      f"the input is not what score.py --json --per_word prints: {error}."
    ) from error
  print(json.dumps(found, indent=2))
  return 0


if __name__ == "__main__":
  sys.exit(main())
