"""The score of queries and items."""

from __future__ import annotations

import tensorflow as tf


def scores(query: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
    """Dot products of each query with items of its own. Of a query with several vectors the largest counts.

    Args:
      query: float [B, D], or [B, K, D].
      items: float [B, n, D].

    Returns:
      float [B, n].
    """
    if query.shape.rank == 2:
        return tf.einsum("bd,bnd->bn", query, items)
    return tf.reduce_max(tf.einsum("bkd,bnd->bkn", query, items), axis=1)


def scores_of_all(query: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
    """Dot products of each query with the same items.

    Args:
      query: float [B, D], or [B, K, D].
      items: float [U, D].

    Returns:
      float [B, U].
    """
    if query.shape.rank == 2:
        return tf.linalg.matmul(query, items, transpose_b=True)
    # One vector after the other: the [B, K, U] of all of them is large.
    each = [tf.linalg.matmul(vectors, items, transpose_b=True) for vectors in tf.unstack(query, axis=1)]
    largest = each[0]
    for further in each[1:]:
        largest = tf.maximum(largest, further)
    return largest
