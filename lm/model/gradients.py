"""The gradients of a model's variables, dense or sparse."""

from lm.base import tf1


def gradients_of(cost, variables, config):
  """Returns TensorFlow's gradients of a cost, a list, one for each variable.

  The gradient of an embedding is sparse, with a row for each word that was
  read. It is dense if the embedding is also the softmax_w of all words.
  """
  gradients = tf1.gradients(cost, variables)
  if config.tie_embeddings and not config.num_samples:
    gradients = map(tf1.convert_to_tensor, gradients)
  return list(gradients)


def with_distinct_rows(gradient):
  """Adds up the rows of a sparse gradient that belong to the same word.

  TensorFlow applies 1,024 rows or more in several threads, the rows of one word
  in any order. The last bits of their sum would vary from run to run. Fewer
  rows, and dense gradients, are returned as they are.
  """
  if not isinstance(gradient, tf1.IndexedSlices):
    return gradient
  size = gradient.indices.shape[0]
  if size is not None and size < 1024:
    return gradient
  indices, positions = tf1.unique(gradient.indices)
  values = tf1.unsorted_segment_sum(
    gradient.values, positions, tf1.size(indices)
  )
  return tf1.IndexedSlices(values, indices, gradient.dense_shape)
