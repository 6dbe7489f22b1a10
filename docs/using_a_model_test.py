"""Runs the program of using_a_model.md that mixes with an n-gram model."""

import io
import json
import math
import sys

from tutorial_test import BLOCK, ROOT

PAGE = (ROOT / "docs" / "using_a_model.md").read_text()
ARPA = """\\data\\
ngram 1=5
ngram 2=2

\\1-grams:
-99\t<s>\t-0.3
-0.5\t</s>
-0.7\ta\t-0.2
-1.1\tb
-1.5\t<unk>\t-0.1

\\2-grams:
-0.4\t<s> a
-0.6\tb </s>

\\end\\
"""


def test_the_mixture_with_an_n_gram_model(tmp_path, monkeypatch, capsys):
  (program,) = [
    lines
    for kind, lines, *_ in BLOCK.findall(PAGE)
    if kind == "python" and "backoffs" in lines
  ]
  (tmp_path / "model.arpa").write_text(ARPA)
  words = [
    # The word, whether it is unknown, its log-probability, and log10 of its
    # probability in the n-gram model: seen, backed off twice, seen.
    ("a", False, -1.0, -0.4),
    ("zebra", True, -2.0, -0.2 - 1.5),
    ("b", False, -3.0, -0.1 - 1.1),
    ("<eos>", False, -0.5, -0.6),
  ]
  scores = [
    {"word": word, "unknown": unknown, "log_prob": log_prob}
    for word, unknown, log_prob, _ in words
  ]
  text = "".join(
    f"{json.dumps(x)}\n" for x in ({"words": scores}, {"lines": 1})
  )
  monkeypatch.setattr(sys, "stdin", io.StringIO(text))
  monkeypatch.setattr(sys, "argv", ["", str(tmp_path / "model.arpa"), "0.7"])
  exec(program, {})
  mixed = [0.7 * math.exp(p) + 0.3 * 10**q for *_, p, q in words]
  perplexity = math.prod(mixed) ** -0.25
  assert capsys.readouterr().out == f"4 words, perplexity {perplexity:.3f}\n"
