"""What every retrieval model has in common: the batch, the objective, the metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from models import features
from models.config import ModelConfig, Objective
from models.features import Encodings
from models.losses import in_batch_softmax, sampled_bce


@dataclass(frozen=True)
class Catalogue:
    """The N candidates, ordered by candidate index.

    Attributes:
      columns: transformed item features by key, dense, [N] or [N, longest], int64 or float32.
      categories: int64 [N], -1 for none.
      counts: int64 [N], train positives of each candidate.
      log_q: float32 [N], natural log of the probability of each candidate as a sampled negative.
    """

    columns: Mapping[str, np.ndarray]
    categories: np.ndarray
    counts: np.ndarray
    log_q: np.ndarray


@dataclass(frozen=True)
class Pairs:
    """A batch on its way to the loss: B queries, U distinct candidates, S negatives for each query.

    Attributes:
      query_columns: what the query tower read, [B, ...].
      item_columns: what the item tower read, [U, ...].
      queries: float32 [B, D], or [B, K, D] for a model with K vectors a query; query embeddings.
      items: float32 [U, D], embeddings of the distinct candidates.
      candidates: int64 [U], candidate index of each row of `items`.
      positives: int32 [B], rows of `items`.
      negatives: int32 [B, S], rows of `items`.
      negative_log_q: float32 [B, S].
    """

    query_columns: Mapping[str, tf.Tensor]
    item_columns: Mapping[str, tf.Tensor]
    queries: tf.Tensor
    items: tf.Tensor
    candidates: tf.Tensor
    positives: tf.Tensor
    negatives: tf.Tensor
    negative_log_q: tf.Tensor

    @property
    def positive_items(self) -> tf.Tensor:
        return tf.gather(self.items, self.positives)


class RetrievalModel(tfrs.Model):
    """Base class: owns similarity, objective and metrics. Subclasses own the towers.

    The score of a query and an item is the dot product of their embeddings; the loss divides it by
    the temperature. Of a query with several vectors the largest score counts when it is served. Item
    features are looked up in the catalogue by candidate index, so examples carry none; a candidate that
    stands several times in a batch passes the item tower once.

    Args:
      config: architecture and loss.
      encodings: inputs of the towers.
      catalogue: all candidates.
    """

    learns_by_gradient = True  # else by `solve`

    def __init__(self, config: ModelConfig, encodings: Encodings, catalogue: Catalogue) -> None:
        super().__init__()
        self.config = config
        self.encodings = encodings
        self._candidate_columns = {
            **{key: tf.constant(column) for key, column in catalogue.columns.items()},
            features.CANDIDATE_INDEX: tf.range(len(catalogue.categories), dtype=tf.int64),
        }
        self._categories = tf.constant(catalogue.categories, tf.int64)
        share = catalogue.counts / max(int(catalogue.counts.sum()), 1)
        self._positive_share = tf.constant(share, tf.float32)
        self._log_q = tf.constant(catalogue.log_q, tf.float32)
        self._means: dict[str, tf.keras.metrics.Mean] = {}
        self.add_means("mean_loss", "retrieval_loss")

    def query_embeddings(self, columns: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Query columns and `query_index`, [B, ...], to embeddings, float32 [B, D] or [B, K, D].

        A model with K vectors a query brings them to one in its `loss_of`. Of unit length, or zero, where the
        model says nothing else.
        """
        raise NotImplementedError

    def item_embeddings(self, columns: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Item columns and `candidate_index`, [B, ...], to embeddings, float32 [B, D]."""
        raise NotImplementedError

    def solve(self, query_index: np.ndarray, candidate_index: np.ndarray, seed: int) -> None:
        """Fits a model that does not learn by gradient, in place of epochs over batches.

        Args:
          query_index: int64 [rows], of all train rows.
          candidate_index: int64 [rows].
          seed: of the start.
        """
        raise NotImplementedError

    def loss_of(self, pairs: Pairs) -> tf.Tensor:
        """The objective, a scalar. Subclasses add their own terms to it."""
        objective = {Objective.SAMPLED_BCE: self._sampled_bce, Objective.IN_BATCH_SOFTMAX: self._in_batch_softmax}
        return self.record("retrieval_loss", objective[self.config.objective](pairs))

    def num_pairs(self, pairs: Pairs) -> tf.Tensor:
        """T of the mimic loss, the pairs the objective looks at.

        B (S + 1) with sampled_bce, as in the paper. B with in_batch_softmax, whose negatives are
        shared: counting B pairs for each query would make the mimic loss vanish in large batches.
        """
        rows = tf.size(pairs.positives)
        return rows + tf.size(pairs.negatives) if self.config.objective is Objective.SAMPLED_BCE else rows

    def add_means(self, *names: str) -> None:
        """Declares values that `record` will average over an epoch."""
        for name in names:
            self._means[name] = tf.keras.metrics.Mean(name=name)

    def record(self, name: str, value: tf.Tensor) -> tf.Tensor:
        """Adds a batch's value to the epoch's mean of that name, and returns it."""
        self._means[name].update_state(value)
        return value

    @property
    def metrics(self) -> list[tf.keras.metrics.Metric]:
        return list(self._means.values())

    # Nothing here depends on a tensor in Python's own ifs and loops; converting it would take longer than an epoch.
    @tf.autograph.experimental.do_not_convert
    def compute_loss(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Loss of a batch.

        Args:
          inputs: dense query columns, `query_index` and `candidate_index`, int64 [B];
            `negative_indices`, int64 [B, S]; `negative_log_q`, float32 [B, S].
          training: replace ids by out-of-vocabulary at `unknown_rate`, and apply dropout.

        Returns:
          A float32 scalar.
        """
        positive, negative = inputs[features.CANDIDATE_INDEX], inputs[features.NEGATIVE_INDICES]
        candidates, rows = tf.unique(tf.concat([positive, tf.reshape(negative, [-1])], axis=0))
        query_columns = {k: inputs[k] for k in (features.QUERY_INDEX, *(e.key for e in self.encodings.query))}
        item_columns = {key: tf.gather(column, candidates) for key, column in self._candidate_columns.items()}
        if training and self.config.unknown_rate > 0:
            query_columns = self._forget_queries(query_columns)
            item_columns = self._forget_items(item_columns)
        count = tf.size(positive)
        pairs = Pairs(
            query_columns=query_columns,
            item_columns=item_columns,
            queries=self.query_embeddings(query_columns, training),
            items=self.item_embeddings(item_columns, training),
            candidates=candidates,
            positives=rows[:count],
            negatives=tf.reshape(rows[count:], tf.shape(negative)),
            negative_log_q=inputs[features.NEGATIVE_LOG_Q],
        )
        return self.record("mean_loss", self.loss_of(pairs))

    def categories(self, candidates: tf.Tensor) -> tf.Tensor:
        """Category index of each candidate index; -1 for none."""
        return tf.gather(self._categories, candidates)

    def _forgotten(self, like: tf.Tensor) -> tf.Tensor:
        return tf.random.uniform(tf.shape(like)) < self.config.unknown_rate

    def _forget_queries(self, columns: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Makes some queries unknown, so that the rows new queries will read are trained."""
        index = columns[features.QUERY_INDEX]
        forgotten = self._forgotten(index)
        changed = {
            features.QUERY_INDEX: tf.where(forgotten, tf.cast(self.encodings.query_rows - 1, index.dtype), index)
        }
        for e in self.encodings.query:
            if e.key == self.encodings.query_id:
                changed[e.key] = tf.where(forgotten, tf.constant(e.missing, index.dtype), columns[e.key])
        return {**columns, **changed}

    def _forget_items(self, columns: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        index = columns[features.CANDIDATE_INDEX]
        forgotten = self._forgotten(index)
        changed = {features.CANDIDATE_INDEX: tf.where(forgotten, tf.constant(-1, index.dtype), index)}
        for e in self.encodings.item:
            if e.key == self.encodings.item_id:
                changed[e.key] = tf.where(forgotten, tf.constant(e.missing, index.dtype), columns[e.key])
        return {**columns, **changed}

    def _sampled_bce(self, pairs: Pairs) -> tf.Tensor:
        return sampled_bce(
            pairs.queries,
            pairs.positive_items,
            tf.gather(pairs.items, pairs.negatives),
            self.config.temperature,
            mask=pairs.negatives != pairs.positives[:, tf.newaxis],
        )

    def _in_batch_softmax(self, pairs: Pairs) -> tf.Tensor:
        """Columns: the B positives, then every distinct sampled negative once.

        The expected share of item v among B positives and B S draws is
        q'(v) = (p(v) + S q(v)) / (1 + S), with p the item's share of the train positives and q the
        sampler's probability: a negative's own, as the sampler wrote it, and for a positive the one
        of the catalogue, which leaves out that the sampler may exclude known items (no query draws
        them, so every other query draws v a little more often; the difference is below a percent
        unless single queries know much of the catalogue).

        A negative drawn n times is one column with log q' - log n: exp(s - log q' + log n) is the
        sum of its n columns, at a fraction of the cost.
        """
        positive_ids = tf.gather(pairs.candidates, pairs.positives)
        sampled, column = tf.unique(tf.reshape(pairs.negatives, [-1]))
        sampled_ids = tf.gather(pairs.candidates, sampled)
        per_positive = tf.cast(tf.shape(pairs.negatives)[1], tf.float32)

        def log_share(ids: tf.Tensor, log_q: tf.Tensor) -> tf.Tensor:
            share = tf.gather(self._positive_share, ids)
            return tf.math.log((share + per_positive * tf.exp(log_q)) / (1.0 + per_positive))

        drawn_ids = tf.gather(pairs.candidates, tf.reshape(pairs.negatives, [-1]))
        drawn = log_share(drawn_ids, tf.reshape(pairs.negative_log_q, [-1]))
        weight = tf.math.unsorted_segment_sum(tf.exp(-drawn), column, tf.size(sampled))
        return in_batch_softmax(
            pairs.queries,
            tf.concat([pairs.positive_items, tf.gather(pairs.items, sampled)], axis=0),
            tf.concat([positive_ids, sampled_ids], axis=0),
            tf.concat([log_share(positive_ids, tf.gather(self._log_q, positive_ids)), -tf.math.log(weight)], axis=0),
            self.config.temperature,
        )
