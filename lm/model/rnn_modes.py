"""The recurrent layers that --rnn_mode selects from.

A mode is a function that runs one layer over the T unrolled steps:

  outputs, c, h = mode(inputs, c, h, forget_bias)

  inputs   a list of T tensors [B, H], or one tensor [T, B, H]; float32 or a
           16-bit type
  c, h     float32 [B, H], the layer's cell and output before the first step
  forget_bias   a number that is added to the input of the gate f
  outputs  a list of T tensors [B, H], or one tensor [T, B, H], whichever is
           faster for the mode; of the type of the inputs
  c, h     float32 [B, H], the same after the last step

A mode makes its variables in the scope that the caller opens (`CELL_SCOPE`),
with the scope's initializer unless it needs another one. The scope's custom
getter casts them to the type of the inputs. Modes do not apply dropout:
network.py applies it to the embedded words and to the outputs of each layer.
`stacked` and `unstacked` turn one form of inputs and outputs into the other.
Training and evaluation call the run's mode with all T steps. The commands that
use a trained model call its `single_step` with T = 1.

The modes in this file all compute TensorFlow's BasicLSTMCell, from the same
variables, so a checkpoint of one fits the others:

  basic_lstm_cell/kernel   float32 [2H, 4H]: the rows are x, then h; the columns
                           are the gates i, j, f, o
  basic_lstm_cell/bias     float32 [4H], zero at first

To add a mode, write its function and add it to RNN_MODES. If it computes this
LSTM in another way, add its name to LSTM_MODES: tests then compare it with
numpy, TensorFlow 1.15 and the other modes. Another cell has variables of its
own. rnn_modes_test.py tests with a GRU what must hold for every cell.
"""

import warnings

from lm.base import tf1
from lm.model import block_layer, cudnn_layer

# The scope of layer number n, as TensorFlow 1.15's MultiRNNCell names it.
CELL_SCOPE = "RNN/multi_rnn_cell/cell_{}"


def basic(inputs, c, h, forget_bias=0.0):
  """Unrolls TensorFlow's own BasicLSTMCell, as the TF1 tutorial did."""
  inputs = unstacked(inputs)
  dtype = inputs[0].dtype
  cell = lstm_cell(inputs[0].shape.as_list()[-1], dtype, forget_bias)
  state = tf1.rnn_cell.LSTMStateTuple(tf1.cast(c, dtype), tf1.cast(h, dtype))
  outputs = []
  for x in inputs:  # [B, H]
    output, state = cell(x, state)  # [B, H]
    outputs.append(output)
  c, h = (tf1.cast(tensor, tf1.float32) for tensor in state)  # [B, H]
  return outputs, c, h


def lstm_cell(hidden_size, dtype, forget_bias):
  """Returns a BasicLSTMCell. Its default forget_bias is 1, the paper's is 0."""
  with warnings.catch_warnings():
    warnings.filterwarnings("ignore", ".*is deprecated", UserWarning)
    return tf1.rnn_cell.BasicLSTMCell(
      hidden_size, forget_bias=float(forget_bias), dtype=dtype
    )


def block(inputs, c, h, forget_bias=0.0):
  """Computes the steps together, with a gradient written by hand."""
  inputs = unstacked(inputs)
  kernel, bias = _lstm_variables(inputs[0].shape.as_list()[-1], forget_bias)
  return block_layer.lstm_layer(inputs, c, h, kernel, bias)


def cudnn(inputs, c, h, forget_bias=0.0):
  """Computes all steps in one operation of cuDNN, on a GPU."""
  inputs = stacked(inputs)
  kernel, bias = _lstm_variables(inputs.shape.as_list()[-1], forget_bias)
  return cudnn_layer.lstm_layer(inputs, c, h, kernel, bias)


def _lstm_variables(size, forget_bias):
  """Returns the kernel [2H, 4H], and the bias [4H] with forget_bias added."""
  with tf1.variable_scope("basic_lstm_cell"):
    kernel = tf1.get_variable("kernel", [2 * size, 4 * size])
    bias = tf1.get_variable(
      "bias", [4 * size], initializer=tf1.zeros_initializer()
    )
  if forget_bias:
    bias = bias + tf1.repeat(
      tf1.constant([0, 0, forget_bias, 0], bias.dtype), size
    )
  return kernel, bias


RNN_MODES = {"basic": basic, "block": block, "cudnn": cudnn}
LSTM_MODES = ("basic", "block", "cudnn")  # The modes that compute this LSTM.
NEED_GPU = ("cudnn",)


def single_step(rnn_mode):
  """Returns the mode to use where `rnn_mode` is computed step by step.

  `block` and `cudnn` gain nothing there.
  """
  return basic if rnn_mode in LSTM_MODES else RNN_MODES[rnn_mode]


def unstacked(tensors):
  """Returns a list of T tensors [B, ...], given this or one [T, B, ...]."""
  return tensors if isinstance(tensors, list) else tf1.unstack(tensors)


def stacked(tensors):
  """Returns a tensor [T, B, ...], given this or a list of T [B, ...]."""
  return tf1.stack(tensors) if isinstance(tensors, list) else tensors
