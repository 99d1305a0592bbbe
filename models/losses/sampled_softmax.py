"""Softmax over a positive and its sampled negatives, corrected for how often each is sampled."""

from __future__ import annotations

import tensorflow as tf

from models.losses.scores import scores


def sampled_softmax(
    query: tf.Tensor,
    positive: tf.Tensor,
    negatives: tf.Tensor,
    positive_log_q: tf.Tensor,
    negative_log_q: tf.Tensor,
    temperature: float | tf.Tensor,
    mask: tf.Tensor | None = None,
    row_weights: tf.Tensor | None = None,
) -> tf.Tensor:
    """Softmax cross-entropy of each row's positive against the row's own negatives.

    loss = -(1/B) sum over the rows i of log( exp(c_i0) / sum over s = 0..S of exp(c_is) ),
    c_is = <p_ui, p_vis> / temperature - log q_is

    with s = 0 the positive and 1..S the negatives, and q the sampler's probability of drawing that
    item. Without its logarithm an item would be scored the lower the more often it is drawn. Jean,
    Cho, Memisevic, Bengio: "On Using Very Large Target Vocabulary for Neural Machine Translation",
    ACL 2015; the same as tf.nn.sampled_softmax_loss but for the negatives, which are the row's own.

    Args:
      query: float [B, D], outputs of the query tower, or [B, K, D].
      positive: float [B, D], output of the item tower for each row's positive.
      negatives: float [B, S, D], the same for its S negatives.
      positive_log_q: float [B], natural logarithm of the probability of drawing the positive, or, as for
        the negatives too, of how often it is expected among S draws: 0 for what is there for certain.
      negative_log_q: float [B, S], the same for the negatives.
      temperature: what the scores are divided by, > 0.
      mask: bool [B, S], the negatives that count; all if not given. A negative that is the row's
        positive (an accidental hit) must not count.
      row_weights: float [B], what each row's cross-entropy is multiplied by before the mean over the rows; 1 if not
        given.

    Returns:
      A float scalar. A row none of whose negatives counts adds 0.
    """
    own = scores(query, positive[:, tf.newaxis])[:, 0] / temperature - positive_log_q
    others = scores(query, negatives) / temperature - negative_log_q
    if mask is not None:
        # Half of the smallest float: subtracting a row's maximum cannot overflow.
        others = tf.where(mask, others, tf.constant(others.dtype.min / 2, others.dtype))
    logits = tf.concat([own[:, tf.newaxis], others], axis=1)
    labels = tf.zeros_like(own, tf.int32)
    of_rows = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.reduce_mean(of_rows if row_weights is None else of_rows * row_weights)
