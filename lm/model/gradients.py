"""Gradients of the variables, some of them sparse."""

from lm.base import tf1


def gradients_of(cost, variables, config):
  """Returns TensorFlow's gradients of a cost, one for each variable.

  That of an embedding is sparse: it has a row for each word that was read. If
  the embedding is also softmax_w, its gradient is dense.
  """
  gradients = tf1.gradients(cost, variables)
  if config.tie_embeddings and not config.num_samples:
    gradients = map(tf1.convert_to_tensor, gradients)
  return list(gradients)


def with_distinct_rows(gradient):
  """Adds up the rows of a sparse gradient that belong to the same word.

  TensorFlow applies 1,024 rows or more in several threads: those of one word in
  any order, so that the last bits of their sum would vary from run to run.
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
