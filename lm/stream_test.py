"""Tests of stream.py."""

import numpy as np
import pytest

from lm import stream


@pytest.mark.parametrize("count", [2, 6, 7, 8, 12, 13, 14, 25])
def test_side_by_side_has_each_target_once(count):
  ids = np.arange(100, 100 + count, dtype=np.int32)
  x, y, is_real = stream.side_by_side(ids, batch_size=3, num_steps=2)
  steps = -(-(count - 1) // 6)
  assert x.shape == y.shape == is_real.shape == (steps, 3, 2)
  by_piece = [part.transpose(1, 0, 2).ravel() for part in (x, y, is_real)]
  np.testing.assert_array_equal(by_piece[0][by_piece[2]], ids[:-1])
  np.testing.assert_array_equal(by_piece[1][by_piece[2]], ids[1:])
  assert x.dtype == y.dtype == np.int32
