"""The language model and its training step in plain numpy, for the tests.

Slow, in float64, and written from the equations of Zaremba et al. 2014
(arXiv:1409.2329), not from TensorFlow's code. For layer l and time t, with x
what comes from the layer below and h, c what the layer itself had at t - 1:

  (i, g, f, o) = (sigm, tanh, sigm, sigm)([D(x), h] kernel + bias)
  c' = f * c + i * g
  h' = o * tanh(c')

D is dropout: it acts on what goes up, not on the h and c that go on in time
(section 3.2). The gates stand in the kernel in the order i, g, f, o.

Dimensions: B streams, T steps, H units, V words, L layers. Weights are in a
dictionary, by the names of TensorFlow's variables. A state is a list with a
pair (c, h), each [B, H], for each layer.
"""

import numpy as np

CELL = "Model/RNN/multi_rnn_cell/cell_{}/basic_lstm_cell/"


def forward(weights, ids, targets, state, masks=None, forget_bias=0, eos=None):
  """Computes the cost of a batch.

  Args:
    weights: the variables.
    ids: [B, T], the words.
    targets: [B, T], the words that follow.
    state: the state after the batch before.
    masks: [L + 1, T, B, H], the factors of dropout on the embedded words and
      on each layer's outputs; None for ones.
    forget_bias: a number to add to the forget gate's input.
    eos: the word before which the state returns to zeros; None for no word.

  Returns:
    (cost, state, trace): the cross-entropy in nats, summed over time and
    averaged over the batch; the state after T steps; what `backward` needs.
  """
  x = weights["Model/embedding"][ids.T]  # [T, B, H]
  masks = np.ones([len(state) + 1, *x.shape]) if masks is None else masks
  x = x * masks[0]
  kept = (eos != ids.T)[:, :, None].astype(float)  # [T, B, 1]
  layers, new_state = [], []
  for layer, (c, h) in enumerate(state):
    kernel = weights[CELL.format(layer) + "kernel"]  # [2H, 4H]
    bias = weights[CELL.format(layer) + "bias"]  # [4H]
    steps, outputs = [], []
    for x_t, k in zip(x, kept, strict=True):
      c, h = c * k, h * k
      below = np.concatenate([x_t, h], axis=1)  # [B, 2H]
      i, g, f, o = np.split(below @ kernel + bias, 4, axis=1)  # Each [B, H].
      i, g, f, o = sigm(i), np.tanh(g), sigm(f + forget_bias), sigm(o)
      steps.append((below, i, g, f, o, c, f * c + i * g))
      c = steps[-1][-1]
      h = o * np.tanh(c)
      outputs.append(h)
    layers.append(steps)
    new_state.append((c, h))
    x = np.stack(outputs) * masks[layer + 1]  # [T, B, H]
  logits = x @ softmax_w_of(weights) + weights["Model/softmax_b"]
  p = np.exp(logits - logits.max(axis=2, keepdims=True))
  p /= p.sum(axis=2, keepdims=True)  # [T, B, V]
  hit = np.take_along_axis(p, targets.T[:, :, None], axis=2)  # [T, B, 1]
  cost = -np.log(hit).mean(axis=1).sum()
  return cost, new_state, (masks, kept, layers, x, p)


def backward(weights, ids, targets, trace):
  """Returns the cost's gradient for each variable, through T steps.

  The embedding's is [T, B, H]: a row for each word read, in the order of time.
  """
  masks, kept, layers, x, p = trace
  steps, batch = p.shape[:2]
  d_logits = p.copy()  # [T, B, V]
  t, b = np.ogrid[:steps, :batch]
  d_logits[t, b, targets.T] -= 1
  d_logits /= batch
  gradients = {
    "Model/softmax_w": np.einsum("tbh,tbv->hv", x, d_logits),
    "Model/softmax_b": d_logits.sum(axis=(0, 1)),
  }
  d_x = d_logits @ softmax_w_of(weights).T  # [T, B, H]
  for layer in reversed(range(len(layers))):
    d_out = d_x * masks[layer + 1]
    kernel = weights[CELL.format(layer) + "kernel"]
    d_kernel, d_bias = np.zeros_like(kernel), np.zeros(kernel.shape[1])
    d_h = d_c = np.zeros_like(d_out[0])
    for t in reversed(range(steps)):
      below, i, g, f, o, c, new_c = layers[layer][t]
      d_h = d_h + d_out[t]
      d_c = d_c + d_h * o * (1 - np.tanh(new_c) ** 2)
      d_gates = np.concatenate(
        [
          d_c * g * i * (1 - i),
          d_c * i * (1 - g**2),
          d_c * c * f * (1 - f),
          d_h * np.tanh(new_c) * o * (1 - o),
        ],
        axis=1,
      )  # [B, 4H]
      d_kernel += below.T @ d_gates
      d_bias += d_gates.sum(axis=0)
      d_x[t], d_h = np.split(d_gates @ kernel.T, 2, axis=1)
      d_c, d_h = d_c * f * kept[t], d_h * kept[t]
    gradients[CELL.format(layer) + "kernel"] = d_kernel
    gradients[CELL.format(layer) + "bias"] = d_bias
  gradients["Model/embedding"] = d_x * masks[0]
  return gradients


def train_step(weights, ids, targets, state, lr, max_grad_norm, *options):
  """Trains the weights, in place, by one clipped step of SGD.

  `options` are the last arguments of `forward`.

  Returns:
    (cost, state, norm): as `forward` has them, and the gradient's global norm
    before clipping.
  """
  cost, state, trace = forward(weights, ids, targets, state, *options)
  gradients = backward(weights, ids, targets, trace)
  if "Model/softmax_w" not in weights:
    rows = gradients.pop("Model/embedding")
    gradients["Model/embedding"] = gradients.pop("Model/softmax_w").T.copy()
    np.add.at(gradients["Model/embedding"], ids.T, rows)
  norm = np.sqrt(sum((g**2).sum() for g in gradients.values()))
  scale = lr * min(1, max_grad_norm / norm)
  if "Model/softmax_w" in weights:
    rows = gradients.pop("Model/embedding")
    np.subtract.at(weights["Model/embedding"], ids.T, scale * rows)
  for name, gradient in gradients.items():
    weights[name] -= scale * gradient
  return cost, state, norm


def softmax_w_of(weights):
  """Returns softmax_w [H, V]: the embedding's, if they are tied."""
  return weights.get("Model/softmax_w", weights["Model/embedding"].T)


def sigm(x):
  """Returns the logistic function of x."""
  return 1 / (1 + np.exp(-x))
