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
    kernel: [2H, 4H], of x's type, as BasicLSTMCell has it.
    bias: [4H], of x's type.

  Returns:
    (outputs, c, h): the outputs [T, B, H], of x's type; c and h after the last
    step.
  """
  steps, batch_size, _ = x.shape
  found = tf1.raw_ops.CudnnRNNV3(
    input=x,
    input_h=tf1.cast(h, x.dtype)[tf1.newaxis],  # [1, B, H]: one layer.
    input_c=tf1.cast(c, x.dtype)[tf1.newaxis],
    params=packed(kernel, bias),
    sequence_lengths=tf1.fill([batch_size], steps),
    is_training=True,  # Else it would have no gradient.
  )
  c, h = found.output_c[0], found.output_h[0]  # Each [B, H].
  return found.output, tf1.cast(c, tf1.float32), tf1.cast(h, tf1.float32)


def packed(kernel, bias):
  """Returns a cell's weights in cuDNN's layout.

  These are, with the gates in the order i, f, j, o: of each gate the part of
  the kernel for x, transposed, [H, H]; of each the part for h, transposed; of
  each the bias [H]; and 4H zeros, since cuDNN adds a second bias.

  Args:
    kernel: [2H, 4H], with the gates in BasicLSTMCell's order: i, j, f, o.
    bias: [4H].

  Returns:
    A tensor [8 * H * H + 8 * H], through which gradients flow back.
  """
  size = kernel.shape[0] // 2
  kernel = tf1.reshape(kernel, [2, size, 4, size])  # [for x or h, H, gate, H]
  # Each [2, H, H]: the gate's matrix for x and that for h, transposed.
  i, j, f, o = tf1.unstack(tf1.transpose(kernel, [2, 0, 3, 1]))
  matrices = tf1.reshape(tf1.stack([i, f, j, o], axis=1), [-1])
  i, j, f, o = tf1.split(bias, 4)  # Each [H].
  return tf1.concat([matrices, i, f, j, o, tf1.zeros_like(bias)], axis=0)
