"""What cuDNN's LSTM computes, in operations that any device has, for the tests.

Written from cuDNN's documentation of its LSTM and of its weights, not from
lm/model/cudnn_layer.py. With W and R the matrices for x and for h, and with two
biases, b and d:

  i  = sigm(W_i x + b_i + R_i h + d_i)      and likewise f, o
  c~ = tanh(W_c x + b_c + R_c h + d_c)
  c' = f * c + i * c~
  h' = o * tanh(c')

The weights are one vector: W_i, W_f, W_c, W_o, R_i, R_f, R_c, R_o, row by row,
then b_i, b_f, b_c, b_o, d_i, d_f, d_c, d_o.
"""

import collections

from lm.base import tf1

Outputs = collections.namedtuple("Outputs", "output output_h output_c")


def lstm(input, input_h, input_c, params, sequence_lengths, is_training):
  """Stands in for tf.raw_ops.CudnnRNNV3, with one layer, time-major."""
  steps, batch_size, size = input.shape.as_list()
  assert is_training
  assert sequence_lengths.shape == [batch_size]
  assert tf1.get_static_value(sequence_lengths).tolist() == [steps] * batch_size
  assert params.shape == [8 * size * size + 8 * size]
  # Each [4H, H] or [4H], in the order of the gates.
  w, r = tf1.split(tf1.reshape(params[: 8 * size * size], [8 * size, size]), 2)
  b, d = tf1.split(params[8 * size * size :], 2)
  rows = tf1.reshape(input, [steps * batch_size, size])
  below = tf1.matmul(rows, w, transpose_b=True) + b  # [T * B, 4H]
  h, c, outputs = input_h[0], input_c[0], []
  for z in tf1.split(below, steps):  # [B, 4H]
    z += tf1.matmul(h, r, transpose_b=True) + d
    i, f, candidate, o = tf1.split(z, 4, axis=1)
    c = tf1.sigmoid(f) * c + tf1.sigmoid(i) * tf1.tanh(candidate)
    h = tf1.sigmoid(o) * tf1.tanh(c)
    outputs.append(h)
  return Outputs(tf1.stack(outputs), h[tf1.newaxis], c[tf1.newaxis])
