"""Restores a run's last checkpoint in TensorFlow 1.15 and evaluates it there.

  python3.7 -m venv tf1_15
  tf1_15/bin/pip install tensorflow==1.15.5 "protobuf<3.21"
  tf1_15/bin/python measure/restore_in_tf1_15.py RUN DATA_PATH

The graph is the tutorial's, with a tf.train.Saver for all of its variables.
Prints the perplexity on DATA_PATH/ptb.valid.txt that TensorFlow 1.15 computes,
with the run's batch_size and num_steps, and the one that the run computed. This
script needs Python 3.7, so it imports nothing of the project.
"""

import json
import math
import pathlib
import sys

import numpy as np
import tensorflow as tf


def build_graph(config):
  """Adds the tutorial's model to the default graph.

  Args:
    config: the hyper-parameters, a dictionary.

  Returns:
    (ids, targets, initial state, final state, cost in nats summed over words).
  """
  size = config["hidden_size"]  # H
  tf.train.get_or_create_global_step()
  shape = [config["batch_size"], config["num_steps"]]  # [B, T]
  ids, targets = (tf.placeholder(tf.int32, shape) for _ in range(2))
  with tf.variable_scope("Model"):
    embedding = tf.get_variable("embedding", [config["vocab_size"], size])
    inputs = tf.nn.embedding_lookup(embedding, ids)  # [B, T, H]
    cells = [
      tf.nn.rnn_cell.BasicLSTMCell(size, forget_bias=0.0)
      for _ in range(config["num_layers"])
    ]
    stack = tf.nn.rnn_cell.MultiRNNCell(cells)
    state = initial_state = stack.zero_state(shape[0], tf.float32)
    outputs = []
    with tf.variable_scope("RNN"):
      for step in range(config["num_steps"]):
        output, state = stack(inputs[:, step], state)  # [B, H]
        outputs.append(output)
    rows = tf.reshape(tf.stack(outputs, 1), [-1, size])  # [B * T, H]
    softmax_w = tf.get_variable("softmax_w", [size, config["vocab_size"]])
    softmax_b = tf.get_variable("softmax_b", [config["vocab_size"]])
  losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
    labels=tf.reshape(targets, [-1]),  # [B * T]
    logits=tf.nn.xw_plus_b(rows, softmax_w, softmax_b),  # [B * T, V]
  )
  return ids, targets, initial_state, state, tf.reduce_sum(losses)


def main(run, data_path):
  """Prints both perplexities."""
  run = pathlib.Path(run)
  config = json.loads((run / "config.json").read_text())["config"]
  words = (run / "vocabulary.txt").read_text("utf-8").splitlines()
  id_of = {word: id_ for id_, word in enumerate(words)}
  text = pathlib.Path(data_path, "ptb.valid.txt").read_text("utf-8")
  text = text.replace("\n", " <eos> ").split()
  streams = config["batch_size"]
  length = len(text) // streams
  text = np.array([id_of[word] for word in text[: streams * length]])
  text = text.reshape([streams, length])
  ids, targets, initial_state, final_state, cost = build_graph(config)
  with tf.Session() as session:
    tf.train.Saver().restore(session, tf.train.latest_checkpoint(str(run)))
    state = session.run(initial_state)
    steps, nats, count = config["num_steps"], 0.0, 0
    for begin in range(0, length - steps, steps):
      x, y = (text[:, b : b + steps] for b in (begin, begin + 1))
      feed = {ids: x, targets: y, initial_state: state}
      state, batch_nats = session.run([final_state, cost], feed)
      nats, count = nats + float(batch_nats), count + x.size
  names = [variable.op.name for variable in tf.global_variables()]
  result = json.loads((run / "result.json").read_text())
  print(f"TensorFlow {tf.__version__} restored by name:", *names)
  print(f"Its valid perplexity: {math.exp(nats / count):.6f}")
  print(f"That of the run:      {result['valid_perplexity']:.6f}")


if __name__ == "__main__":
  main(*sys.argv[1:])
