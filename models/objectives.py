"""From a batch of pairs to the loss that the configured objective makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import tensorflow as tf

from models.config import ModelConfig, Objective
from models.losses import in_batch_softmax, sampled_bce, sampled_softmax


@dataclass(frozen=True)
class Pairs:
    """A batch on its way to the loss: B queries, U distinct candidates, S negatives for each query.

    Attributes:
      query_columns: what the query tower read, [B, ...].
      item_columns: what the item tower read, [U, ...].
      queries: float32 [B, D] or [B, K, D], query embeddings.
      items: float32 [U, D], embeddings of the distinct candidates.
      query_ids: int64 [B], equal in rows of one query. A row whose query is not known has a number
        of its own.
      candidates: int64 [U], candidate index of each row of `items`.
      shares: float32 [U], each candidate's share of the train positives.
      log_q: float32 [U], natural log of the probability of each candidate as a sampled negative.
      positives: int32 [B], rows of `items`.
      negatives: int32 [B, S], rows of `items`.
      negative_log_q: float32 [B, S], as the sampler wrote it.
      hard_negatives: int32 [B, H], rows of `items`; the row's positive where there is none.
      row_weights: float32 [B], how much each row counts in the objective.
    """

    query_columns: Mapping[str, tf.Tensor]
    item_columns: Mapping[str, tf.Tensor]
    queries: tf.Tensor
    items: tf.Tensor
    query_ids: tf.Tensor
    candidates: tf.Tensor
    shares: tf.Tensor
    log_q: tf.Tensor
    positives: tf.Tensor
    negatives: tf.Tensor
    negative_log_q: tf.Tensor
    hard_negatives: tf.Tensor
    row_weights: tf.Tensor

    @property
    def positive_items(self) -> tf.Tensor:
        """float32 [B, D]."""
        return tf.gather(self.items, self.positives)

    def differ(self, negatives: tf.Tensor) -> tf.Tensor:
        """bool [B, n]: whether int32 [B, n], rows of `items`, are other items than the row's positive."""
        return negatives != self.positives[:, tf.newaxis]


def objective_loss(config: ModelConfig, pairs: Pairs, temperature: float | tf.Tensor) -> tf.Tensor:
    """The configured objective of a batch, a float32 scalar.

    Args:
      config: names the objective, and says whether a query's other positives are masked.
      pairs: the batch.
      temperature: what the scores are divided by, > 0.
    """
    if config.objective is Objective.IN_BATCH_SOFTMAX:
        return _in_batch_softmax(pairs, temperature, config.mask_same_query)
    negatives = tf.concat([pairs.negatives, pairs.hard_negatives], axis=1)
    items, mask = tf.gather(pairs.items, negatives), pairs.differ(negatives)
    if config.objective is Objective.SAMPLED_BCE:
        return sampled_bce(pairs.queries, pairs.positive_items, items, temperature, mask, pairs.row_weights)
    # Of S draws; a hard negative is there for certain, once.
    draws = tf.math.log(tf.cast(tf.shape(pairs.negatives)[1], tf.float32))
    certain = tf.zeros_like(pairs.hard_negatives, tf.float32)
    return sampled_softmax(
        pairs.queries,
        pairs.positive_items,
        items,
        tf.gather(pairs.log_q, pairs.positives) + draws,
        tf.concat([pairs.negative_log_q + draws, certain], axis=1),
        temperature,
        mask,
        pairs.row_weights,
    )


def _in_batch_softmax(pairs: Pairs, temperature: float | tf.Tensor, mask_same_query: bool) -> tf.Tensor:
    """Columns: the distinct items among the B positives and the B S draws.

    The expected number of copies of item v among them is
    q'(v) = B (p(v) + S q(v)), with p the item's share of the train positives and q the
    sampler's probability: a negative's own, as the sampler wrote it, and for a positive the one
    of the catalogue, which leaves out that the sampler may exclude known items (no query draws
    them, so every other query draws v a little more often; the difference is below a percent
    unless single queries know much of the catalogue).

    Hard negatives are columns of their row alone.
    """
    drawn = tf.reshape(pairs.negatives, [-1])
    rows, per_positive = tf.unstack(tf.cast(tf.shape(pairs.negatives), tf.float32))

    def log_expected(items: tf.Tensor, log_q: tf.Tensor) -> tf.Tensor:
        share = tf.gather(pairs.shares, items)
        return tf.math.log(rows * (share + per_positive * tf.exp(log_q)))

    of_draws = log_expected(drawn, tf.reshape(pairs.negative_log_q, [-1]))
    of_positives = log_expected(pairs.positives, tf.gather(pairs.log_q, pairs.positives))
    weights = tf.math.unsorted_segment_sum(
        tf.exp(-tf.concat([of_positives, of_draws], axis=0)),
        tf.concat([pairs.positives, drawn], axis=0),
        tf.size(pairs.candidates),
    )
    with_hard = pairs.hard_negatives.shape[1] != 0
    return in_batch_softmax(
        pairs.queries,
        pairs.items,
        pairs.positives,
        of_positives,
        tf.math.log(weights),
        temperature,
        query_ids=pairs.query_ids if mask_same_query else None,
        hard=tf.gather(pairs.items, pairs.hard_negatives) if with_hard else None,
        hard_mask=pairs.differ(pairs.hard_negatives) if with_hard else None,
        row_weights=pairs.row_weights,
    )
