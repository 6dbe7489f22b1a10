"""Shows where the time of a training step goes, by kind of operation.

  .venv/bin/python measure/step_table.py [--model=small] [--rnn_mode=block]

TensorFlow traces some steps and gives the time of each operation. Operations
run side by side, so that their times add up to more than the step takes; the
shares are of that sum. Tracing itself slows the step down. Words are drawn at
random; no data is needed, and nothing else should run meanwhile.
"""

import collections
import dataclasses
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lm.base import imports

if __name__ == "__main__":
  imports.explain_missing()

import benchmark
import benchmark_worker

import configs
import ptb_word_lm
from lm.base import command, tf1

# The kinds, each with the operations that it has. The first that fits counts.
KINDS = {
  "products": "MatMul",
  "copies": "Concat|Split|[Pp]ack|Slice|Transpose|Reshape|Pad|Cast|Identity",
  "update": "Assign|Scatter|ResourceApply|Gather|L2Loss|Variable",
  "operations on elements": "Sigmoid|Tanh|Mul|Add|Sub|Square|Neg",
}
LOGITS = "passes over the logits"  # All else that makes tensors [N, V].
REST = "the rest"
WARM_UP = 5  # Steps that do not count.


@dataclasses.dataclass
class Sum:
  """How often operations ran in a step, and their milliseconds together."""

  count: float = 0.0
  milliseconds: float = 0.0


def kind_of(operation, size, logits):
  """Returns the kind of an operation whose largest output has `size` numbers.

  `logits` is the size of the logits of a batch, N * V.
  """
  if size == logits and "MatMul" not in operation:
    return LOGITS
  found = (kind for kind, names in KINDS.items() if re.search(names, operation))
  return next(found, REST)


class TracingSession:
  """In place of a Session: traces the steps that run_epoch runs."""

  def __init__(self, session):
    self._session, self.traces = session, []

  def run(self, fetches, feed=None):
    if feed is None:  # The initial state is no step.
      return self._session.run(fetches)
    options = tf1.RunOptions(trace_level=tf1.RunOptions.FULL_TRACE)
    self.traces.append(tf1.RunMetadata())
    return self._session.run(fetches, feed, options, self.traces[-1])


def trace(config, dtype, steps):
  """Traces training steps; returns a Sum for each (kind, operation)."""
  session, model = benchmark_worker.build(config, dtype, WARM_UP + steps)
  session = TracingSession(session)
  ptb_word_lm.run_epoch(session, model, model.train_op)
  logits = config.batch_size * config.num_steps * config.vocab_size
  sums = collections.defaultdict(Sum)
  for metadata in session.traces[WARM_UP:]:
    for device in metadata.step_stats.dev_stats:
      for node in device.node_stats:
        name = re.search(r"= (\w+)\(", node.timeline_label)
        operation = name[1] if name else node.node_name.split("/")[-1]
        sizes = [_size_of(output) for output in node.output]
        kind = kind_of(operation, max(sizes, default=0), logits)
        found = sums[kind, operation]
        found.count += 1 / steps
        micros = node.op_end_rel_micros - node.op_start_rel_micros
        found.milliseconds += micros / 1e3 / steps
  return sums


def _size_of(output):
  """Returns how many numbers an output of a traced operation has."""
  size = 1
  for dimension in output.tensor_description.shape.dim:
    size *= dimension.size
  return size


def table_of(sums):
  """Yields the lines of the table, the kind that takes longest first."""
  total = sum(found.milliseconds for found in sums.values())
  kinds = collections.defaultdict(list)
  for (kind, operation), found in sums.items():
    kinds[kind].append((operation, found))

  def milliseconds(operations):
    return sum(found.milliseconds for _, found in operations)

  yield "| kind | operations in a step | ms | share |"
  yield "| --- | --- | ---: | ---: |"
  for kind in sorted(kinds, key=lambda k: -milliseconds(kinds[k])):
    operations = sorted(kinds[kind], key=lambda x: -x[1].milliseconds)
    names = ", ".join(
      f"{found.count:.0f} {operation} {found.milliseconds:.1f}"
      for operation, found in operations[:6]
      if found.milliseconds >= 0.005 * total
    )
    spent = milliseconds(operations)
    yield f"| {kind} | {names} | {spent:.1f} | {spent / total:.1%} |"
  yield f"| sum | | {total:.1f} | |"


def define_flags(define):
  """Defines the command line's flags."""
  define.enum("model", "small", list(configs.CONFIGS), "The model.")
  modes = configs.RNN_MODES
  define.enum("rnn_mode", None, modes, "None: the model's own.")
  dtypes = benchmark.DTYPES
  define.enum("dtype", "float32", dtypes, "Type of the products.")
  define.integer("steps", 10, "Steps to trace.", 1, 100)


@command.entry_point("step_table.py", define_flags)
def main(args):
  """Prints the table; returns the exit status."""
  config = configs.CONFIGS[args.model]()
  config = dataclasses.replace(
    config, rnn_mode=args.rnn_mode or config.rnn_mode
  )
  print(f"{args.model}, {config.rnn_mode}, {args.dtype}:\n")
  for line in table_of(trace(config, args.dtype, args.steps)):
    print(line)
  return 0


if __name__ == "__main__":
  sys.exit(main())
