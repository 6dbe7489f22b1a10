"""The LSTM layer as one operation of NVIDIA's cuDNN library, for GPUs.

Dimensions: B = batch_size, T = num_steps, H = hidden_size.
"""

from lm.base import tf1


def lstm_layer(x, c, h, kernel, bias):
  """Runs one LSTM layer over all time steps.

  Args:
    x: [T, B, H], float32 or float16. (In bfloat16, TensorFlow 2.21 computes
      infinite gradients.)
    c: float32 [B, H], the cell before the first step.
    h: float32 [B, H], the output before the first step.
    kernel: [2H, 4H], of x's type, with the gates in BasicLSTMCell's order:
      i, j, f, o.
    bias: [4H], of x's type.

  Returns:
    (outputs, c, h): the outputs [T, B, H], of x's type; and c and h after the
    last step, float32 [B, H].
  """
  steps, batch_size, _ = x.shape.as_list()
  results = tf1.raw_ops.CudnnRNNV3(
    input=x,
    input_h=tf1.cast(h, x.dtype)[tf1.newaxis],  # [1, B, H]: one layer.
    input_c=tf1.cast(c, x.dtype)[tf1.newaxis],
    params=pack_weights(kernel, bias),
    sequence_lengths=tf1.fill([batch_size], steps),
    is_training=True,  # Otherwise it has no gradient.
  )
  c, h = results.output_c[0], results.output_h[0]  # Each [B, H].
  return results.output, tf1.cast(c, tf1.float32), tf1.cast(h, tf1.float32)


def pack_weights(kernel, bias):
  """Returns a cell's weights in cuDNN's layout.

  The layout has, with the gates in the order i, f, j, o:

    each gate's part of the kernel for x, transposed, [H, H]
    each gate's part of the kernel for h, transposed, [H, H]
    each gate's bias, [H]
    4H zeros, for the second bias that cuDNN adds

  Args:
    kernel: [2H, 4H], with the gates in BasicLSTMCell's order: i, j, f, o.
    bias: [4H].

  Returns:
    A tensor [8 * H * H + 8 * H], through which gradients flow back.
  """
  size = kernel.shape.as_list()[0] // 2
  kernel = tf1.reshape(kernel, [2, size, 4, size])  # [for x or h, H, gate, H]
  # Each [2, H, H]: the gate's matrices for x and for h, transposed.
  i, j, f, o = tf1.unstack(tf1.transpose(kernel, [2, 0, 3, 1]))
  matrices = tf1.reshape(tf1.stack([i, f, j, o], axis=1), [-1])
  i, j, f, o = tf1.split(bias, 4)  # Each [H].
  return tf1.concat([matrices, i, f, j, o, tf1.zeros_like(bias)], axis=0)
