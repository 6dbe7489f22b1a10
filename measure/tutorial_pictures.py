r"""Draws the pictures of docs/tutorial.md that show a trained model.

  .venv/bin/python measure/tutorial_pictures.py --run=runs/small \
    --data_path=simple-examples/data

The run is the small model on the Penn Treebank. The script writes the pictures
to docs/pictures and prints the numbers that they show. The other pictures there
are drawn by hand. It needs requirements-dev.txt and takes five minutes.
"""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from lm.base import imports

if __name__ == "__main__":
  imports.report_failures()

import numpy as np
import plot_run
import report

import language_model
import reader
from lm.base import command, tf1
from lm.testdata import lstm_numpy

FOLDER = ROOT / "docs" / "pictures"
GREEN, ORANGE, BLUE = report.COLORS.values()
CONTEXTS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200)  # In words.
LABELED = (1, 2, 5, 10, 20, 50, 100)  # Contexts with their number beside them.
NUM_TARGETS = 4000  # Words to predict from each context.
PREFIXES = ("the company", "new york", "interest")
SENTENCES = (
  "<eos> the company said it expects sales to rise this year <eos> the board "
  "has n't approved the merger <eos> the dollar fell <eos>"
)
NEIGHBOURS_OF = ("monday", "bank", "million", "said", "he", "japan")


def draw_forgetting(figure, model, ids):
  """Draws the perplexity of words predicted from the last n words."""
  first = max(CONTEXTS)
  targets = np.linspace(first, len(ids) - 1, NUM_TARGETS).astype(int)
  nats = []
  for context in CONTEXTS:
    lines = [ids[i - context : i + 1].tolist() for i in targets]
    scores = model.score_lines(lines)
    nats.append(-np.mean([log_probs[-1] for log_probs, _ in scores]))
  log_probs, _, _ = model.score_stream(ids.tolist())
  all_words = np.exp(-log_probs[targets - 1].mean())
  perplexities = dict(zip(CONTEXTS, np.exp(nats), strict=True))
  axes = figure.subplots()
  axes.plot(CONTEXTS, [*perplexities.values()], "o-", color=BLUE)
  for context in LABELED:
    value = perplexities[context]
    place = {"xytext": (4, 5), "textcoords": "offset points"}
    axes.annotate(f"{value:.1f}", (context, value), color=BLUE, **place)
  axes.axhline(all_words, color=ORANGE, ls="--")
  text = f"all words before: {all_words:.1f}"
  axes.text(1, all_words, text, color=ORANGE, va="bottom")
  axes.set(xscale="log", xlabel="words that the model has read before")
  axes.set(ylabel="test perplexity", xticks=CONTEXTS, xticklabels=CONTEXTS)
  axes.minorticks_off()
  axes.grid(alpha=0.25)
  for context, value in perplexities.items():
    print(f"{context} words: perplexity {value:.2f}")
  print(f"all words: perplexity {all_words:.2f}")


def _bars(axes, title, names, values, color):
  """Draws horizontal bars with their names, the first on top."""
  axes.barh(range(len(names)), values, color=color, alpha=0.6)
  for y, value in enumerate(values):
    axes.text(value, y, f" {value:.2f}", va="center", fontsize=8)
  axes.invert_yaxis()
  axes.set(xticks=[], xlim=(0, max(values) * 1.2))
  axes.set_yticks(range(len(names)), names)
  axes.set_title(title, fontsize=10, color=color)
  axes.tick_params(length=0)
  for spine in axes.spines.values():
    spine.set_visible(False)
  print(title, *(f"{n} {v:.4f}" for n, v in zip(names, values, strict=True)))


def draw_next_words(figure, model):
  """Draws the likeliest words after each prefix."""
  all_axes = figure.subplots(1, len(PREFIXES))
  for axes, prefix in zip(all_axes, PREFIXES, strict=True):
    states = None
    for word in ["<eos>", *prefix.split()]:
      log_probs, states = model.next_words([model.id_of(word)], states)
    best = np.argsort(-log_probs[0])[:6]
    names = [model.vocabulary[i] for i in best]
    _bars(axes, f"{prefix} …", names, np.exp(log_probs[0, best]), BLUE)


def draw_neighbours(figure, trained):
  """Draws the words whose embeddings have the largest cosine with a word's."""
  reader_ = tf1.train.NewCheckpointReader(trained.checkpoint)
  embedding = reader_.get_tensor("Model/embedding")  # [V, H]
  embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
  all_axes = figure.subplots(2, len(NEIGHBOURS_OF) // 2).flat
  for axes, word in zip(all_axes, NEIGHBOURS_OF, strict=True):
    cosines = embedding @ embedding[trained.vocabulary.index(word)]
    nearest = np.argsort(-cosines)[1:7]  # The first is the word itself.
    names = [trained.vocabulary[i] for i in nearest]
    _bars(axes, word, names, cosines[nearest], GREEN)


def draw_gate(figure, trained):
  """Draws f and c of a unit of the last layer that forgets at <eos>.

  It is the unit whose f is smaller at each <eos> than at all other words, by
  the widest margin.
  """
  words, config = SENTENCES.split(), trained.config
  tensors = tf1.train.load_checkpoint(trained.checkpoint)
  names = tensors.get_variable_to_shape_map()
  weights = {n: tensors.get_tensor(n) for n in names if n.startswith("Model/")}
  ids = np.array([[trained.vocabulary.index(word) for word in words]])
  state = np.zeros([config.num_layers, 2, 1, config.hidden_size])
  _, _, (_, _, layers, _, _) = lstm_numpy.forward(
    weights, ids, ids, state, forget_bias=config.forget_bias
  )
  _, _, _, forget, _, _, cells = (
    np.concatenate(values) for values in zip(*layers[-1], strict=True)
  )  # Each [words, H].
  ends = np.array([word == "<eos>" for word in words])
  unit = np.argmax(forget[~ends].min(axis=0) - forget[ends].max(axis=0))
  top, bottom = figure.subplots(2, 1, sharex=True)
  for axes, name, values, color in (
    (top, "f", forget[:, unit], ORANGE),
    (bottom, "c", cells[:, unit], BLUE),
  ):
    axes.plot(values, "o-", color=color)
    axes.set_ylabel(name, color=color)
    axes.grid(alpha=0.25)
    print(name, *(f"{w} {v:.2f}" for w, v in zip(words, values, strict=True)))
  bottom.set_xticks(range(len(words)), words, rotation=60, ha="right")


def define_flags(define):
  """Defines the command line's flags."""
  define.path("run", None, "The folder of a run of small on the Penn Treebank.")
  define.path("data_path", None, "The folder of the Penn Treebank.")


@command.entry_point("tutorial_pictures.py", define_flags)
def main(args):
  """Draws the pictures; returns the exit status."""
  if not (args.run and args.data_path):
    raise command.InputError("Use both --run and --data_path.")
  (trained,) = models = language_model.find([args.run], None, None)
  words = {*NEIGHBOURS_OF, *" ".join((*PREFIXES, SENTENCES)).split()}
  if missing := words - set(trained.vocabulary):
    raise command.InputError(
      f"The vocabulary of --run={args.run} lacks {', '.join(sorted(missing))}: "
      "use a run on the Penn Treebank."
    )
  corpus = reader.read_corpus(args.data_path, vocabulary=trained.vocabulary)
  with plot_run.figure(FOLDER / "neighbours.svg", height=3.6) as figure:
    draw_neighbours(figure, trained)
  with plot_run.figure(FOLDER / "gate.svg", height=3.6) as figure:
    draw_gate(figure, trained)
  with language_model.LanguageModel(models) as model:
    with plot_run.figure(FOLDER / "next_words.svg", height=2.2) as figure:
      draw_next_words(figure, model)
    with plot_run.figure(FOLDER / "forgetting.svg", height=3.6) as figure:
      draw_forgetting(figure, model, corpus.test)
  return 0


if __name__ == "__main__":
  sys.exit(main())
