"""Softmax over the batch's items, corrected for how often each is sampled."""

from __future__ import annotations

import tensorflow as tf


def in_batch_softmax(
    query: tf.Tensor,
    candidates: tf.Tensor,
    candidate_ids: tf.Tensor,
    log_q: tf.Tensor,
    temperature: float | tf.Tensor,
    query_ids: tf.Tensor | None = None,
    hard: tf.Tensor | None = None,
    hard_mask: tf.Tensor | None = None,
) -> tf.Tensor:
    """Softmax cross-entropy of each row's positive against all columns.

    loss = -(1/B) sum over the rows i of log( exp(c_ii) / sum over the columns j of exp(c_ij) ),
    c_ij = <p_ui, p_vj> / temperature - log q_j

    q_j is how often item j is expected among the columns. Without its logarithm popular items, which
    are negatives more often, would be scored too low (log-q correction: Yi et al.,
    "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations", RecSys 2019).
    Columns beyond the batch's own positives are mixed negatives: Yang et al., "Mixed Negative
    Sampling for Learning Two-tower Neural Networks in Recommendations", WWW 2020.

    A column that holds the row's own positive once more is not a negative and is left out.

    A hard negative is a further column of its row alone. It was not drawn but is there for certain,
    once: its q is 1, and nothing is subtracted. It then has the weight it has in a softmax over all
    items, of which the other columns are a sample.

    Args:
      query: float [B, D], outputs of the query tower.
      candidates: float [C, D], outputs of the item tower, C >= B; row i < B is the positive of query
        row i, the others are negatives for all.
      candidate_ids: int [C], the item of each column.
      log_q: float [C], natural logarithm of the expected number of columns with that item. Without
        hard negatives a constant may be added, so that the logarithm of its share will do.
      temperature: what the scores are divided by, > 0.
      query_ids: int [B], the query of each row. If given, a column that holds a positive of any row of
        the same query is left out too.
      hard: float [B, H, D], outputs of the item tower for each row's hard negatives.
      hard_mask: bool [B, H], those that count; all if not given.

    Returns:
      A float scalar.
    """
    rows, columns = tf.shape(query)[0], tf.shape(candidates)[0]
    logits = tf.linalg.matmul(query, candidates, transpose_b=True) / temperature - log_q[tf.newaxis, :]
    if query_ids is None:
        left_out = candidate_ids[:rows, tf.newaxis] == candidate_ids[tf.newaxis, :]
    else:
        left_out = _positives_of_the_query(query_ids, candidate_ids)
    left_out &= ~tf.eye(rows, columns, dtype=tf.bool)
    if hard is not None:
        logits = tf.concat([logits, tf.einsum("bd,bhd->bh", query, hard) / temperature], axis=1)
        hard_left_out = tf.zeros(tf.shape(hard)[:2], tf.bool) if hard_mask is None else ~hard_mask
        left_out = tf.concat([left_out, hard_left_out], axis=1)
    # Half of the smallest float: subtracting a row's maximum cannot overflow.
    logits = tf.where(left_out, tf.constant(logits.dtype.min / 2, logits.dtype), logits)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.range(rows), logits=logits)
    return tf.reduce_mean(losses)


def _positives_of_the_query(query_ids: tf.Tensor, candidate_ids: tf.Tensor) -> tf.Tensor:
    """bool [B, C]: whether the column's item is the positive of a row with the same query."""
    names, queries = tf.unique(query_ids)
    items_there_are, items = tf.unique(candidate_ids)
    pairs = tf.stack([queries, items[: tf.size(queries)]], axis=1)
    # A table of the batch's distinct queries and items: comparing all rows with all columns for each row would cost
    # rows^2 x columns.
    counts = tf.scatter_nd(pairs, tf.ones_like(queries), [tf.size(names), tf.size(items_there_are)])
    return tf.gather(tf.gather(counts > 0, queries), items, axis=1)
