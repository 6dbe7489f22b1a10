"""Tests of tf_config.py."""

import json

import pytest

from lm.workers import tf_config


def config_of(addresses, index=0, kind="worker", chief=None):
  cluster = {"worker": addresses} | ({"chief": chief} if chief else {})
  task = {"type": kind, "index": index}
  return json.dumps({"cluster": cluster, "task": task})


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    (None, ([], 0)),
    ("", ([], 0)),
    ("{}", ([], 0)),
    (config_of(["a:65535"]), (["a:65535"], 0)),
    (config_of(["a:1", "b.c:22", "a:2"], 2), (["a:1", "b.c:22", "a:2"], 2)),
    (config_of(["b:1"], 0, "chief", ["a:1"]), (["a:1", "b:1"], 0)),
    (config_of(["b:1", "c:1"], 1, chief=["a:1"]), (["a:1", "b:1", "c:1"], 2)),
    (config_of([], 0, "chief", ["a:1"]), (["a:1"], 0)),
  ],
)
def test_tf_config(text, expected):
  assert tf_config.workers_in(text) == expected


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("{", r"^TF_CONFIG has the wrong format\. Example: \{"),
    (config_of("a:1"), "^TF_CONFIG has the wrong format"),
    (config_of(["a"]), "^TF_CONFIG must list workers as host:port"),
    (config_of([]), "^TF_CONFIG must list workers as host:port"),
    (config_of(["[::1]:5"]), "^TF_CONFIG must list workers as host:port"),
    (config_of(["a:b"]), "^TF_CONFIG must list workers as host:port"),
    (
      '{"cluster": {"worker": ["a:1", "b:1"]}}',
      "has the task worker None for this process",
    ),
    (config_of(["a:1", "b:1"], 2), "^TF_CONFIG has the task worker 2 for th"),
    (config_of(["a:1", "b:1"], "0"), "has the task worker '0' for this proces"),
    (config_of(["a:1"], kind="chief"), "^TF_CONFIG has the task chief 0 for "),
    (config_of(["a:1"], chief=["b:1", "c:1"]), "can be only one chief"),
    (config_of(["a:1"], 1, chief=["b:1"]), "has the task worker 1 for th"),
    (config_of(["a:1"], kind="evaluator"), "^TF_CONFIG has a task 'evaluator'"),
    ('{"cluster": {"ps": ["a:1"]}}', "^TF_CONFIG has a task 'ps'"),
  ],
)
def test_a_bad_tf_config(text, message):
  with pytest.raises(tf_config.WorkersError, match=message):
    tf_config.workers_in(text)
