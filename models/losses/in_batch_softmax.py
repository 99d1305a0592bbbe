"""Softmax over the batch's items, corrected for how often each is sampled."""

from __future__ import annotations

import tensorflow as tf

from models.losses.scores import scores, scores_of_all


def in_batch_softmax(
    query: tf.Tensor,
    candidates: tf.Tensor,
    positives: tf.Tensor,
    log_q: tf.Tensor,
    log_weights: tf.Tensor,
    temperature: float | tf.Tensor,
    query_ids: tf.Tensor | None = None,
    hard: tf.Tensor | None = None,
    hard_mask: tf.Tensor | None = None,
    row_weights: tf.Tensor | None = None,
) -> tf.Tensor:
    """Softmax cross-entropy of each row's positive against all items of the batch.

    loss = -(1/B) sum over the rows i of log( exp(c_ii) / (exp(c_ii) + sum over the items j != i of w_j exp(s_ij)) ),
    s_ij = <p_ui, p_vj> / temperature,  c_ii = s_ii - log q_i,  w_j = sum over the copies of item j of 1 / q_j

    The copies of an item are the rows whose positive it is and the times it was drawn as a negative, and q_j is how
    many of them are expected. Without 1 / q_j popular items, which are negatives more often, would be scored too low
    (log-q correction: Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations",
    RecSys 2019). Drawn negatives beside the batch's own positives are mixed negatives: Yang et al., "Mixed Negative
    Sampling for Learning Two-tower Neural Networks in Recommendations", WWW 2020.

    The row's own positive counts once: further copies of it are no negatives. All copies of another item have one
    score, so they are one column, and the matrix of scores has as many as there are distinct items.

    A hard negative is a further column of its row alone. It was not drawn but is there for certain,
    once: its q is 1. It then has the weight it has in a softmax over all items, of which the other columns are a
    sample.

    Args:
      query: float [B, D], outputs of the query tower, or [B, K, D].
      candidates: float [U, D], outputs of the item tower for distinct items.
      positives: int [B], the row of `candidates` that is each row's positive.
      log_q: float [B], natural logarithm of the expected number of copies of each row's positive. Without
        hard negatives a constant may be added to it and taken from `log_weights`, so that the logarithm of its share
        will do.
      log_weights: float [U], log w; the smallest float or -inf for an item without copies, which then is no
        negative.
      temperature: what the scores are divided by, > 0.
      query_ids: int [B], the query of each row. If given, the positives of any row of the same query are left out.
      hard: float [B, H, D], outputs of the item tower for each row's hard negatives.
      hard_mask: bool [B, H], those that count; all if not given.
      row_weights: float [B], what each row's cross-entropy is multiplied by before the mean over the rows; 1 if not
        given.

    Returns:
      A float scalar.
    """
    rows = tf.shape(query)[0]
    # Half of the smallest float: subtracting a row's maximum cannot overflow.
    lowest = tf.constant(query.dtype.min / 2, query.dtype)
    weights = tf.maximum(log_weights, lowest)
    # The weights ride along in the product: a pass over a [B, U] matrix costs as much as the product itself.
    scaled = query / temperature
    left = tf.concat([scaled, tf.ones_like(scaled[..., :1])], axis=-1)
    right = tf.concat([candidates, weights[:, tf.newaxis]], axis=1)
    logits = scores_of_all(left, right)
    own = tf.stack([tf.range(rows, dtype=positives.dtype), positives], axis=1)
    logits = tf.tensor_scatter_nd_sub(logits, own, log_q + tf.gather(weights, positives))
    if query_ids is not None:
        logits = tf.where(_others_of_the_query(query_ids, positives, tf.shape(candidates)[0]), lowest, logits)
    if hard is not None:
        hard_logits = scores(query, hard) / temperature
        if hard_mask is not None:
            hard_logits = tf.where(hard_mask, hard_logits, lowest)
        logits = tf.concat([logits, hard_logits], axis=1)
    of_rows = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=positives, logits=logits)
    return tf.reduce_mean(of_rows if row_weights is None else of_rows * row_weights)


def _others_of_the_query(query_ids: tf.Tensor, positives: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
    """bool [B, U]: whether the item is the positive of a row with the same query, and not of this one."""
    names, queries = tf.unique(query_ids, out_idx=positives.dtype)
    counts = tf.scatter_nd(
        tf.stack([queries, positives], axis=1),
        tf.ones_like(queries),
        tf.cast([tf.size(names), items], positives.dtype),
    )
    return tf.gather(counts > 0, queries) & ~tf.one_hot(positives, items, on_value=True, off_value=False)
