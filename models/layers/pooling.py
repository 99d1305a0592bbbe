"""The weighted mean of some rows of a table."""

from __future__ import annotations

import tensorflow as tf


def mean_of_rows(table: tf.Tensor, indices: tf.Tensor, weights: tf.Tensor | None = None) -> tf.Tensor:
    """Pools the rows of each line of indices; a line that is all padding gives zeros.

    Args:
      table: float32 [rows, D].
      indices: int64 [B, n]; 0 is padding.
      weights: float32 [B, n], positive; None for a plain mean.

    Returns:
      float32 [B, D].
    """
    if indices.shape[0] == 1:  # a served query: dense ops alone, of which TensorFlow Lite has them all
        present = tf.cast(indices > 0, table.dtype)
        shares = present if weights is None else present * weights
        total = tf.reduce_sum(shares, axis=1, keepdims=True)
        shares /= tf.where(total > 0, total, 1.0)
        return tf.reduce_sum(shares[:, :, tf.newaxis] * tf.gather(table, indices), axis=1)
    # Looks each distinct index up once and pools without a [B, n, D] tensor in between.
    places = tf.where(indices > 0)
    rows = tf.SparseTensor(places, tf.gather_nd(indices, places), tf.shape(indices, tf.int64))
    sparse_weights = None if weights is None else rows.with_values(tf.gather_nd(weights, places))
    return tf.nn.safe_embedding_lookup_sparse(table, rows, sparse_weights, combiner="mean")
