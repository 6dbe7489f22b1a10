"""Tests of step_table.py."""

import dataclasses

import pytest
import step_table

import configs
from lm.base import tf1


@pytest.mark.parametrize(
  ("operation", "size", "kind"),
  [
    ("_MklMatMul", 4_000_000, "products"),
    ("MatMul", 1, "products"),
    ("Exp", 4_000_000, step_table.LOGITS),
    ("Mul", 3_999_999, "operations on elements"),
    ("ResourceScatterAdd", 0, "update"),
    ("Transpose", 9_000_000, "copies"),
    ("ConcatV2", 9, "copies"),
    ("Unpack", 9, "copies"),
    ("ResourceApplyGradientDescent", 0, "update"),
    ("Exp", 9, "the rest"),
  ],
)
def test_kinds(operation, size, kind):
  assert step_table.kind_of(operation, size, 4_000_000) == kind


def test_table():
  sums = {
    ("operations on elements", "Mul"): step_table.Sum(3, 1.0),
    ("products", "MatMul"): step_table.Sum(2, 2.0),
    ("products", "_FusedMatMul"): step_table.Sum(1, 5.0),
    ("products", "Other"): step_table.Sum(1, 0.001),
  }
  assert [*step_table.table_of(sums)][2:] == [
    "| products | 1 _FusedMatMul 5.0, 2 MatMul 2.0 | 7.0 | 87.5% |",
    "| operations on elements | 3 Mul 1.0 | 1.0 | 12.5% |",
    "| sum | | 8.0 | |",
  ]


def test_the_products_of_a_traced_step_are_counted(monkeypatch):
  """Two layers, three steps: each product of the mode block, once."""
  sizes = dict(batch_size=5, num_steps=3, hidden_size=7, vocab_size=50)
  config = dataclasses.replace(configs.SmallConfig(rnn_mode="block"), **sizes)
  # Tests that share the process need the eager mode.
  monkeypatch.setattr(tf1, "disable_eager_execution", lambda: None, False)
  with tf1.Graph().as_default():
    found = step_table.trace(config, "float32", 2)
  products = sum(s.count for (k, _), s in found.items() if k == "products")
  # A layer has 4 in each step, one a gate, forward and backward, but backward
  # not in the first step, as nothing needs the gradient of the first state. It
  # has 3 more; the logits have 3, and softmax_b's gradient is one.
  assert products == 2 * (4 * 3 + 4 * 2 + 3) + 4
