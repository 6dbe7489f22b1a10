"""The gradients of a model's variables, dense or sparse."""

import functools

from lm.base import tf1


def gradients_of(cost, config):
  """Returns a cost's gradients, and the variables that it depends on.

  The gradient of an embedding is sparse: it has a row for each word that was
  read. If the embedding is also softmax_w, its gradient is dense, unless
  training samples words.

  Args:
    cost: a scalar.
    config: a Config.

  Returns:
    (gradients, variables): two lists of the same length.
  """
  # A program's graph may have trainable variables of other models.
  all_variables = tf1.trainable_variables()
  gradients, variables = [], []
  for variable, gradient in zip(
    all_variables, tf1.gradients(cost, all_variables), strict=True
  ):
    if gradient is not None:
      gradients.append(gradient)
      variables.append(variable)
  if config.tie_embeddings and not config.num_samples:
    gradients = [tf1.convert_to_tensor(gradient) for gradient in gradients]
  return gradients, variables


def sgd_step(cost, config, learning_rate):
  """Returns an operation that trains the variables that a cost depends on.

  It is one step of SGD with clipped gradients (the paper's section 4.1).

  Args:
    cost: a scalar.
    config: a Config.
    learning_rate: a number.
  """
  gradients, variables = gradients_of(cost, config)
  factor = clip_factor(tf1.global_norm(gradients), config.max_grad_norm)
  gradients = map(with_distinct_rows, gradients)
  # The factor depends on all gradients, so no variable changes before these are
  # computed.
  optimizer = tf1.train.GradientDescentOptimizer(learning_rate * factor)
  return optimizer.apply_gradients(zip(gradients, variables, strict=True))


def clip_factor(norm, max_grad_norm):
  """Returns the factor that clips gradients whose global norm is `norm`."""
  return max_grad_norm / tf1.maximum(norm, max_grad_norm)


def multiplied(gradient, factor):
  """Multiplies a gradient, which may be sparse, by a scalar."""
  if not isinstance(gradient, tf1.IndexedSlices):
    return gradient * factor
  return tf1.IndexedSlices(
    gradient.values * factor, gradient.indices, gradient.dense_shape
  )


def custom_gradient(function):
  """Like tf.custom_gradient, for graphs that can be freed.

  TensorFlow keeps each function that its custom_gradient gets, and with it the
  graph, until the process ends. Here, the graph keeps the function.

  Args:
    function: gets tensors, and returns (outputs, gradient). `gradient` gets the
      gradient of each output, and returns the gradient of each input.

  Returns:
    A function that returns the outputs, a tuple.
  """

  def call(*inputs):
    _register_gradient()
    outputs, gradient = function(*inputs)
    graph = tf1.get_default_graph()
    with graph.gradient_override_map({"IdentityN": _GRADIENT}):
      results = tf1.identity_n([*outputs, *inputs])
    if not hasattr(graph, _GRADIENT):
      setattr(graph, _GRADIENT, {})
    getattr(graph, _GRADIENT)[results[0].op.name] = gradient, len(outputs)
    return tuple(results[: len(outputs)])

  return call


# The name of the registered gradient, and of a graph's dictionary of functions.
_GRADIENT = "ptb_word_lm_gradient"


@functools.cache
def _register_gradient():
  """Registers the gradient of all operations that `custom_gradient` makes."""

  @tf1.RegisterGradient(_GRADIENT)
  def gradient_of(operation, *gradients):
    functions = getattr(operation.graph, _GRADIENT)
    gradient, size = functions[operation.name]
    return [*[None] * size, *gradient(*gradients[:size])]


def with_distinct_rows(gradient):
  """Adds up the rows of a sparse gradient that belong to the same word.

  TensorFlow applies 1,024 rows or more in several threads, the rows of one word
  in any order. The last bits of their sum would vary from run to run. Fewer
  rows, and dense gradients, are returned as they are.
  """
  if not isinstance(gradient, tf1.IndexedSlices):
    return gradient
  size = gradient.indices.shape.as_list()[0]
  if size is not None and size < 1024:
    return gradient
  indices, positions = tf1.unique(gradient.indices)
  values = tf1.unsorted_segment_sum(
    gradient.values, positions, tf1.size(indices)
  )
  return tf1.IndexedSlices(values, indices, gradient.dense_shape)
