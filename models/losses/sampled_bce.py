"""Sigmoid cross-entropy over a positive and its sampled negatives."""

from __future__ import annotations

import tensorflow as tf

from models.losses.scores import scores


def sampled_bce(
    query: tf.Tensor,
    positive: tf.Tensor,
    negatives: tf.Tensor,
    temperature: float | tf.Tensor,
    mask: tf.Tensor | None = None,
    row_weights: tf.Tensor | None = None,
) -> tf.Tensor:
    """The paper's loss_p.

    loss_p = -(1/T) sum over all T pairs of y log sigmoid(s) + (1 - y) log(1 - sigmoid(s)),
    s(u, v) = <p_u, p_v> / temperature,

    with y = 1 for the row's positive and 0 for its S negatives, T = B (S + 1).

    Yu et al., "A Dual Augmented Two-tower Model for Online Large-scale Recommendation",
    DLP-KDD 2021; the paper has no temperature, that is, 1.

    Args:
      query: float [B, D], outputs of the query tower, or [B, K, D].
      positive: float [B, D], output of the item tower for each row's positive.
      negatives: float [B, S, D], the same for its S negatives. S may be 0.
      temperature: what the scores are divided by, > 0.
      mask: bool [B, S], the negatives that count; all if not given. T is then the number of pairs
        that count.
      row_weights: float [B], what the terms of each row's pairs are multiplied by; T stays. 1 if not given.

    Returns:
      A float scalar.
    """
    positive_logits = scores(query, positive[:, tf.newaxis])[:, 0] / temperature
    negative_logits = scores(query, negatives) / temperature
    # -log sigmoid(s) = softplus(-s), -log(1 - sigmoid(s)) = softplus(s): finite for any finite s.
    positive_losses = tf.math.softplus(-positive_logits)
    negative_losses = tf.math.softplus(negative_logits)
    counted = tf.ones_like(negative_losses) if mask is None else tf.cast(mask, negative_losses.dtype)
    pairs = tf.cast(tf.size(positive_losses), counted.dtype) + tf.reduce_sum(counted)
    of_rows = positive_losses + tf.reduce_sum(negative_losses * counted, axis=1)
    if row_weights is not None:
        of_rows *= row_weights
    return tf.math.divide_no_nan(tf.reduce_sum(of_rows), pairs)
