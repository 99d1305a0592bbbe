from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from models.layers.pooling import mean_of_rows

TABLE = tf.constant([[9.0, 9.0], [1.0, 0.0], [0.0, 1.0], [4.0, 4.0]])  # row 0 is padding and never read
# Without weights (4 + 1 + 4) / 3 and (4 + 0 + 4) / 3; with them (2 * 4 + 1 * 1 + 1 * 4) / 4 and (2 * 4 + 0 + 4) / 4.
ROW, WEIGHTS = [3, 0, 1, 3], [2.0, 7.0, 1.0, 1.0]
PLAIN, WEIGHTED = [3, 8 / 3], [3.25, 3]


def test_one_row() -> None:
    indices = tf.constant([ROW], tf.int64)
    np.testing.assert_allclose(mean_of_rows(TABLE, indices), [PLAIN], rtol=1e-6)
    np.testing.assert_allclose(mean_of_rows(TABLE, indices, tf.constant([WEIGHTS])), [WEIGHTED], rtol=1e-6)


def test_several_rows() -> None:
    indices = tf.constant([ROW, [0, 2, 0, 0]], tf.int64)
    np.testing.assert_allclose(mean_of_rows(TABLE, indices), [PLAIN, [0, 1]], rtol=1e-6)
    weights = tf.constant([WEIGHTS, [1.0, 5.0, 1.0, 1.0]])
    np.testing.assert_allclose(mean_of_rows(TABLE, indices, weights), [WEIGHTED, [0, 1]], rtol=1e-6)


@pytest.mark.parametrize("rows", [1, 2])
def test_all_padding_gives_zeros(rows: int) -> None:
    indices = tf.zeros([rows, 3], tf.int64)
    np.testing.assert_array_equal(mean_of_rows(TABLE, indices), np.zeros([rows, 2]))
    np.testing.assert_array_equal(mean_of_rows(TABLE, indices, tf.ones([rows, 3])), np.zeros([rows, 2]))
    np.testing.assert_array_equal(mean_of_rows(TABLE, tf.zeros([rows, 0], tf.int64)), np.zeros([rows, 2]))
