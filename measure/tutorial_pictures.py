r"""Draws the pictures of docs/tutorial.md.

  .venv/bin/python measure/tutorial_pictures.py --run=runs/small \
    --data_path=simple-examples/data

The run is the small model on the Penn Treebank. The pictures go to
docs/pictures, the learning curves to results. Prints the numbers that the
pictures show. Needs requirements-dev.txt; takes five minutes.
"""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from lm.base import imports

if __name__ == "__main__":
  imports.quietly()

import numpy as np
import plot_run
import report
from absl import flags

import language_model
import reader
from lm.base import command, tf1

FOLDER = ROOT / "docs" / "pictures"
GRAY, GREEN, ORANGE, BLUE = plot_run.GRAY, *report.COLORS.values()
TIMES = r"$\times$"
# The words of the drawings; the real texts are licensed.
SENTENCES = (
  "the old man saw the sea <eos> the sea was calm and so was he <eos> then"
)

CONTEXTS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200)  # In words.
NUM_TARGETS = 4000  # Words that are predicted from each number of words.
PREFIXES = ("the company", "new york", "interest")
NEIGHBOURS_OF = ("monday", "bank", "million", "said", "he", "japan")


class Drawing:
  """Boxes, arrows and words on a plane whose unit is about half an inch."""

  def __init__(self, figure, width, height):
    self._axes = figure.subplots()
    self._axes.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    self._axes.set_axis_off()

  def text(self, x, y, text, color=GRAY, **style):
    style = {"ha": "center", "va": "center", "fontsize": 9, **style}
    self._axes.text(x, y, text, color=color, **style)

  def box(self, x, y, width, height, text="", color=GRAY, **style):
    """Draws a box around the point (x, y)."""
    from matplotlib.patches import FancyBboxPatch

    corner = x - width / 2, y - height / 2
    style = {
      "boxstyle": "round,pad=0,rounding_size=0.1",
      "fill": False,
      **style,
    }
    self._axes.add_patch(
      FancyBboxPatch(corner, width, height, edgecolor=color, **style)
    )
    self.text(x, y, text, color)

  def arrow(self, start, end, color=GRAY, **style):
    style = {"arrowstyle": "->", "shrinkA": 0, "shrinkB": 0, **style}
    self._axes.annotate(
      "", end, start, arrowprops={"color": color, "lw": 1.2, **style}
    )

  def line(self, *points, color=GRAY):
    x, y = zip(*points, strict=True)
    self._axes.plot(x, y, color=color, lw=1.2, solid_capstyle="round")


def draw_batches(figure):
  """Draws how a text of 17 words becomes two batches, as in reader.py."""
  draw = Drawing(figure, 19, 6.6)
  draw.text(0.1, 6.3, "the text: 17 words", ha="left")
  words = SENTENCES.split()
  for i, word in enumerate(words):
    color = (BLUE, ORANGE, GRAY)[i // 8]
    draw.box(1 + 1.05 * i, 5.5, 1.0, 0.6, word, color)
    draw.text(1 + 1.05 * i, 5.0, i, color, fontsize=7)
  draw.text(17.8, 4.5, "left over", fontsize=8)
  draw.text(0.1, 3.9, "batch_size = 2 streams", ha="left")
  for stream, color in enumerate((BLUE, ORANGE)):
    y = 3.0 - 1.5 * stream
    for i, word in enumerate(words[8 * stream : 8 * stream + 8]):
      draw.box(4 + 1.3 * i, y, 1.1, 0.6, word, color if i < 7 else GRAY)
    draw.text(2.0, y, f"stream {stream}", color)
  for batch in range(2):
    x, color = 5.3 + 3.9 * batch, GREEN
    for row in range(2):
      y = 3.0 - 1.5 * row
      draw.box(x, y, 3.75, 0.85, color=color, lw=1.8)
      draw.line((x - 0.45, y - 0.55), (x + 3.05, y - 0.55))
      draw.text(x + 1.3, y - 0.75, f"y of batch {batch}", fontsize=7)
    draw.text(x, 3.75, f"x of batch {batch}", color)
  draw.text(
    9.5,
    0.2,
    "num_steps = 3 words a row. y is x, one word later. "
    "Each row continues in the same row of the next batch.",
  )


def draw_unrolled(figure):
  """Draws two layers, unrolled over two batches of three steps."""
  draw = Drawing(figure, 18, 8.4)
  words = SENTENCES.split()
  for t in range(6):
    x = 2.6 + 2.3 * t + 1.1 * (t > 2)
    draw.text(x, 0.9, words[t])
    draw.text(x, 7.6, words[t + 1])
    draw.box(x, 1.9, 1.7, 0.6, "embedding", GRAY)
    draw.box(x, 3.4, 1.4, 0.8, "LSTM", BLUE, lw=1.6)
    draw.box(x, 5.0, 1.4, 0.8, "LSTM", BLUE, lw=1.6)
    draw.box(x, 6.6, 1.7, 0.6, "softmax", GRAY)
    for start, end in ((1.1, 1.6), (6.9, 7.4)):
      draw.arrow((x, start), (x, end))
    for start, end in ((2.2, 3.0), (3.8, 4.6), (5.4, 6.3)):
      draw.arrow((x, start), (x, end), GREEN, linestyle="--")
    for y in (3.4, 5.0):
      if t == 0:
        draw.text(0.4, y, "zeros", fontsize=8)
        draw.arrow((0.9, y), (x - 0.7, y), BLUE)
      if t == 2:
        draw.arrow((x + 0.7, y), (x + 2.7, y), ORANGE, lw=2)
      elif t < 5:
        draw.arrow((x + 0.7, y), (x + 1.6, y), BLUE)
      else:
        draw.arrow((x + 0.7, y), (x + 1.5, y), ORANGE, lw=2)
  draw.text(4.9, 8.2, "batch 0")
  draw.text(12.9, 8.2, "batch 1")
  draw.text(8.9, 4.2, "the state\nis fed", ORANGE, fontsize=8)
  draw.text(0.3, 0.9, "x", fontstyle="italic")
  draw.text(0.3, 7.6, "y", fontstyle="italic")
  draw.text(
    9,
    0.2,
    "Green and dashed: dropout. Blue: the state (c, h), never dropped. "
    "Orange: the values pass, but no gradient.",
  )


def draw_cell(figure):
  """Draws one step of an LSTM cell: the equations as a circuit."""
  draw = Drawing(figure, 16, 8)

  def node(x, y, text, color=GRAY):
    draw.box(
      x, y, 0.7, 0.7, text, color, boxstyle="round,pad=0,rounding_size=0.35"
    )

  y_c, y_gate = 6.5, 3.0
  draw.text(0.5, y_c, "c", fontsize=12, fontstyle="italic")
  draw.text(15.5, y_c, "c'", fontsize=12, fontstyle="italic")
  draw.arrow((0.9, y_c), (3.65, y_c), BLUE, lw=2)
  node(4.0, y_c, TIMES)
  draw.arrow((4.35, y_c), (7.65, y_c), BLUE, lw=2)
  node(8.0, y_c, "+")
  draw.arrow((8.35, y_c), (15.1, y_c), BLUE, lw=2)
  gates = {
    "f": (4.0, "sigm", "forget"),
    "i": (6.9, "sigm", "input"),
    "j": (9.1, "tanh", "new input"),
    "o": (11.6, "sigm", "output"),
  }
  for gate, (x, function, meaning) in gates.items():
    draw.box(x, y_gate, 1.2, 0.7, function, ORANGE, lw=1.6)
    draw.text(
      x + 0.15, y_gate + 0.62, gate, ORANGE, fontstyle="italic", ha="left"
    )
    draw.text(x, y_gate - 0.62, meaning, fontsize=7)
    draw.line((x, 1.6), (x, y_gate - 0.85))
    draw.line((x, y_gate - 0.42), (x, y_gate - 0.35))
  draw.box(7.8, 1.25, 9.4, 0.7, "[x, h] kernel + bias", GREEN, lw=1.6)
  draw.text(0.5, 1.25, "h", fontsize=12, fontstyle="italic")
  draw.arrow((0.9, 1.25), (3.1, 1.25), BLUE, lw=2)
  draw.text(7.8, 0.15, "x", fontsize=12, fontstyle="italic")
  draw.arrow((7.8, 0.35), (7.8, 0.9))
  draw.arrow((4.0, y_gate + 0.35), (4.0, y_c - 0.35))
  node(8.0, 4.7, TIMES)
  draw.line((6.9, y_gate + 0.35), (6.9, 4.7))
  draw.arrow((6.9, 4.7), (7.65, 4.7))
  draw.line((9.1, y_gate + 0.35), (9.1, 4.7))
  draw.arrow((9.1, 4.7), (8.35, 4.7))
  draw.arrow((8.0, 5.05), (8.0, y_c - 0.35))
  draw.line((13.2, y_c), (13.2, 5.9))
  draw.box(13.2, 5.55, 1.2, 0.7, "tanh", GRAY)
  draw.arrow((13.2, 5.2), (13.2, 4.55))
  node(13.2, 4.2, TIMES)
  draw.line((11.6, y_gate + 0.35), (11.6, 4.2))
  draw.arrow((11.6, 4.2), (12.85, 4.2))
  draw.line((13.55, 4.2), (14.4, 4.2), (14.4, 1.25), color=BLUE)
  draw.arrow((14.4, 1.25), (15.1, 1.25), BLUE, lw=2)
  draw.text(15.5, 1.25, "h'", fontsize=12, fontstyle="italic")
  draw.arrow((14.4, 4.2), (14.4, 7.6), BLUE)
  draw.text(14.4, 7.85, "to the next layer", fontsize=8)


def draw_forgetting(figure, model, ids):
  """Draws the perplexity of words that are predicted from the last n words."""
  first = max(CONTEXTS)
  targets = np.linspace(first, len(ids) - 1, NUM_TARGETS).astype(int)
  nats = []
  for context in CONTEXTS:
    lines = [ids[i - context : i + 1].tolist() for i in targets]
    found = model.score_lines(lines)
    nats.append(-np.mean([log_probs[-1] for log_probs, _ in found]))
  log_probs, _, _ = model.score_stream(ids.tolist())
  all_words = np.exp(-log_probs[targets - 1].mean())
  perplexities = np.exp(nats)
  axes = figure.subplots()
  axes.plot(CONTEXTS, perplexities, "o-", color=BLUE)
  axes.axhline(all_words, color=ORANGE, ls="--")
  axes.text(
    1,
    all_words,
    f"all words before: {all_words:.1f}",
    color=ORANGE,
    va="bottom",
  )
  for context in (1, 2, 5, 10, 20, 50, 100):
    value = perplexities[CONTEXTS.index(context)]
    axes.annotate(
      f"{value:.1f}",
      (context, value),
      (4, 5),
      textcoords="offset points",
      color=BLUE,
    )
  axes.set(xscale="log", xlabel="words that the model has read before")
  axes.set(ylabel="test perplexity", xticks=CONTEXTS, xticklabels=CONTEXTS)
  axes.minorticks_off()
  axes.grid(alpha=0.25)
  for context, value in zip(CONTEXTS, perplexities, strict=True):
    print(f"{context} words: perplexity {value:.2f}")
  print(f"all words: perplexity {all_words:.2f}")


def _bars(axes, title, names, values, color):
  """Draws bars, each with its name, the first on top."""
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
  """Draws the words whose embeddings point in the direction of a word's."""
  reader_ = tf1.train.NewCheckpointReader(trained.checkpoint)
  embedding = reader_.get_tensor("Model/embedding")  # [V, H]
  embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
  all_axes = figure.subplots(2, len(NEIGHBOURS_OF) // 2).flat
  for axes, word in zip(all_axes, NEIGHBOURS_OF, strict=True):
    cosines = embedding @ embedding[trained.vocabulary.index(word)]
    nearest = np.argsort(-cosines)[1:7]  # The first is the word itself.
    names = [trained.vocabulary[i] for i in nearest]
    _bars(axes, word, names, cosines[nearest], GREEN)


def define_flags():
  """Defines the command line's flags."""
  flags.DEFINE_string("run", None, "The --save_path of small on PTB.")
  flags.DEFINE_string("data_path", None, "The folder of PTB's texts.")


@command.entry_point("tutorial_pictures.py")
def main(args):
  """Draws all pictures; returns the exit status."""
  if not (args.run and args.data_path):
    raise command.InputError("Name the folders: --run and --data_path.")
  (trained,) = models = language_model.find([args.run], None, None)
  words = {*NEIGHBOURS_OF, *" ".join(PREFIXES).split()}
  if missing := words - set(trained.vocabulary):
    raise command.InputError(
      f"--run={args.run} does not know {', '.join(sorted(missing))}: name a "
      "run on the Penn Treebank."
    )
  corpus = reader.read_corpus(args.data_path, vocabulary=trained.vocabulary)
  report.draw(ROOT / "results", report.read_runs(ROOT / "results"))

  def picture(name, width=8.0, height=4.0):
    return plot_run.figure(FOLDER / f"{name}.svg", width, height)

  with picture("batches", 8.4, 3.0) as figure:
    draw_batches(figure)
  with picture("unrolled", 8, 3.8) as figure:
    draw_unrolled(figure)
  with picture("cell", 7, 3.6) as figure:
    draw_cell(figure)
  with picture("neighbours", 8, 3.6) as figure:
    draw_neighbours(figure, trained)
  with language_model.LanguageModel(models) as model:
    with picture("next_words", 8, 2.2) as figure:
      draw_next_words(figure, model)
    with picture("forgetting", 8, 3.6) as figure:
      draw_forgetting(figure, model, corpus.test)
  return 0


if __name__ == "__main__":
  command.start(main, define_flags)
