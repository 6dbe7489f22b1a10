"""The LSTM layer, with gradients written by hand.

TensorFlow could derive the gradients, but with T small matrix products in place
of one large product, and with more passes over the large tensors.

Dimensions: B = batch_size, T = num_steps, H = hidden_size, and N = T * B rows,
ordered by time step. The names in the code:

  x        the input from the layer below
  h, c     the layer's output and its cell before a time step; h', c' after it
  z        [B, 4H], the inputs of the gates: zi, zj, zf and zo
  i, f, o  the gates sigm(zi), sigm(zf), sigm(zo); j is the new input, tanh(zj)
  d_...    the gradient of the cost with respect to ...

Inputs and weights have the type of the matrix products, float32 or a 16-bit
type. The gates and the cell are float32.
"""

from lm.base import tf1
from lm.model.gradients import custom_gradient


def lstm_layer(inputs, c, h, kernel, bias):
  """Runs one LSTM layer over all time steps.

  The equations are the paper's (section 3.1, where j is called g):

    zi, zj, zf, zo = [x, h] kernel + bias
    c' = sigm(zf) * c + sigm(zi) * tanh(zj)
    h' = sigm(zo) * tanh(c')

  Only the product of h has to wait for the step before. The product of x, with
  the upper half of the kernel, is computed for all steps at once. h has one
  product for each gate: in small and medium, four products side by side need
  less time than one that is four times as wide.

  Args and returns are those of a mode in rnn_modes.py, with lists of inputs and
  outputs. kernel [2H, 4H] and bias [4H] have the type of the inputs.
  """
  steps, dtype = len(inputs), inputs[0].dtype

  @custom_gradient
  def layer(c, h, kernel, bias, *inputs):
    kernel_x, kernel_h = tf1.split(kernel, 2)  # Each [H, 4H].
    kernels = tf1.split(kernel_h, 4, axis=1)  # Each gate's [H, H].
    x = tf1.concat(inputs, axis=0)  # [N, H]
    z_x = tf1.cast(tf1.nn.xw_plus_b(x, kernel_x, bias), tf1.float32)  # [N, 4H]
    z_x = tf1.split(z_x, steps)  # T of [B, 4H]
    # All are [B, H]. cs[t] and hs[t] are c and h before step t; gates[t] and
    # tanh_c[t] belong to step t.
    cs, hs, gates, tanh_c = [c], [tf1.cast(h, dtype)], [], []
    for t in range(steps):
      zi, zj, zf, zo = (
        z + tf1.cast(tf1.matmul(hs[t], w), tf1.float32)
        for z, w in zip(tf1.split(z_x[t], 4, axis=1), kernels, strict=True)
      )
      i, j = tf1.sigmoid(zi), tf1.tanh(zj)
      f, o = tf1.sigmoid(zf), tf1.sigmoid(zo)
      c = f * c + i * j
      gates.append((i, j, f, o))
      tanh_c.append(tf1.tanh(c))
      h = o * tanh_c[t]
      cs.append(c)
      hs.append(tf1.cast(h, dtype))

    def gradient(d_c, d_h, *d_outputs):
      d_z, d_c, d_h = _lstm_layer_gradient(
        kernel_h, cs, gates, tanh_c, d_outputs, d_c, d_h
      )
      # As z = x kernel_x + h kernel_h + bias, for all steps at once:
      d_z = tf1.concat(d_z, axis=0)  # [N, 4H]
      x_h = tf1.concat([x, tf1.concat(hs[:-1], axis=0)], axis=1)  # [N, 2H]
      d_kernel = tf1.matmul(x_h, d_z, transpose_a=True)  # [2H, 4H]
      d_bias = tf1.reduce_sum(d_z, axis=0)  # [4H]
      d_x = tf1.matmul(d_z, kernel_x, transpose_b=True)  # [N, H]
      return d_c, d_h, d_kernel, d_bias, *tf1.split(d_x, steps)

    return (c, h, *hs[1:]), gradient

  c, h, *outputs = layer(c, h, kernel, bias, *inputs)
  return outputs, c, h


def _lstm_layer_gradient(kernel_h, cs, gates, tanh_c, d_outputs, d_c, d_h):
  """Back-propagates through the time steps of `lstm_layer`.

  Through one step, with d_h' from the layer above and from the next step, and
  d_c' from the next step:

    d_zo  = d_h' * tanh(c') * o * (1 - o)           as h' = o * tanh(c')
    d_c' += d_h' * o * (1 - tanh(c')^2)
    d_zi  = d_c' * j * i * (1 - i)                  as c' = f * c + i * j
    d_zj  = d_c' * i * (1 - j^2)
    d_zf  = d_c' * c * f * (1 - f)
    d_c   = d_c' * f
    d_h   = d_z kernel_h^T                          as z  = h kernel_h + ...

  SigmoidGrad multiplies by y * (1 - y), TanhGrad by 1 - y^2.

  Args:
    kernel_h: [H, 4H], the lower half of the kernel.
    cs: c before each step and after the last, T + 1 tensors float32 [B, H].
    gates: (i, j, f, o) of each step, T times four tensors float32 [B, H].
    tanh_c: tanh(c') of each step, T tensors float32 [B, H].
    d_outputs: d_h' from the layer above, T tensors [B, H] of kernel_h's type.
    d_c: d_c' of the last step, float32 [B, H].
    d_h: d_h' from the step after the last one, float32 [B, H].

  Returns:
    (d_z, d_c, d_h): a list of T tensors [B, 4H] of kernel_h's type; and d_c and
    d_h of the first step, float32 [B, H].
  """
  size, dtype = kernel_h.shape.as_list()[0], kernel_h.dtype
  # Each gate's [H, H], transposed once rather than in each step.
  kernels = tf1.transpose(tf1.reshape(kernel_h, [size, 4, size]), [1, 2, 0])
  kernels = tf1.unstack(kernels)
  sigmoid_grad, tanh_grad = tf1.raw_ops.SigmoidGrad, tf1.raw_ops.TanhGrad
  d_z = [None] * len(gates)
  for t in reversed(range(len(gates))):
    i, j, f, o = gates[t]
    d_h += tf1.cast(d_outputs[t], tf1.float32)
    d_zo = sigmoid_grad(y=o, dy=d_h * tanh_c[t])
    d_c += tanh_grad(y=tanh_c[t], dy=d_h * o)
    d_zi = sigmoid_grad(y=i, dy=d_c * j)
    d_zj = tanh_grad(y=j, dy=d_c * i)
    d_zf = sigmoid_grad(y=f, dy=d_c * cs[t])
    d_c *= f
    d_gates = [tf1.cast(d, dtype) for d in (d_zi, d_zj, d_zf, d_zo)]
    d_z[t] = tf1.concat(d_gates, axis=1)  # [B, 4H]
    d_hs = map(tf1.matmul, d_gates, kernels)  # Each gate's part, [B, H].
    d_h = tf1.add_n([tf1.cast(d, tf1.float32) for d in d_hs])
  return d_z, d_c, d_h
