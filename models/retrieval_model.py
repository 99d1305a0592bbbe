"""What every retrieval model has in common: the batch, the objective, the metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from models import features
from models.config import MIN_LEARNED_TEMPERATURE, ModelConfig, Objective
from models.features import Encodings
from models.objectives import Pairs, objective_loss


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


def category_weights(catalogue: Catalogue, balance: float) -> np.ndarray:
    """How much a row counts in the objective, for each candidate that may be its positive.

    w_v = n_c(v)^-balance / mean over the train rows of n_c^-balance, n_c the train rows whose item is of category c.

    Args:
      catalogue: all candidates.
      balance: 0 to 1. With 1 the rows of each category weigh the same together.

    Returns:
      float32 [N]; 1 for a candidate without category. The mean over the train rows is 1.
    """
    weights = np.ones(len(catalogue.counts), np.float32)
    known = (catalogue.categories >= 0) & (catalogue.counts > 0)
    if known.any():
        categories, counts = catalogue.categories[known], catalogue.counts[known]
        powers = np.bincount(categories, weights=counts)[categories] ** -balance
        weights[known] = powers / np.average(powers, weights=counts)
    return weights


class RetrievalModel(tfrs.Model):
    """Base class: owns similarity, objective and metrics. Subclasses own the towers.

    The score of a query and an item is the dot product of their embeddings; the loss divides it by
    the temperature, fixed or learned. Of a query with several vectors the largest score counts, in the loss and when
    it is served. Item features are looked up in the catalogue by candidate index, so examples carry none;
    a candidate that stands several times in a batch passes the item tower once.

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
        self._row_weights = tf.constant(category_weights(catalogue, config.category_balance))
        self._means: dict[str, tf.keras.metrics.Mean] = {}
        self.add_means("mean_loss", "retrieval_loss")
        if config.learn_temperature:
            # The logarithm: a step of the optimizer changes the temperature by a share of itself. The constraint holds
            # after each step; a bound on the way to the loss would leave a value beyond it without a gradient back.
            self.log_temperature = tf.Variable(
                math.log(config.temperature),
                dtype=tf.float32,
                name="log_temperature",
                constraint=lambda value: tf.maximum(value, math.log(MIN_LEARNED_TEMPERATURE)),
            )
            self.add_means("temperature")

    def query_embeddings(self, columns: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Query columns and `query_index`, [B, ...], to embeddings, float32 [B, D] or [B, K, D].

        Of unit length, or zero, where the model says nothing else.
        """
        raise NotImplementedError

    def item_embeddings(self, columns: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Item columns and `candidate_index`, [B, ...], to embeddings, float32 [B, D]."""
        raise NotImplementedError

    def with_shared(self, query_columns: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
        """The columns, and what query tower and loss both make of them, so that a step makes it once."""
        return query_columns

    def solve(self, query_index: np.ndarray, candidate_index: np.ndarray, seed: int) -> None:
        """Fits a model that does not learn by gradient, in place of epochs over batches.

        Args:
          query_index: int64 [rows], of all train rows.
          candidate_index: int64 [rows].
          seed: of the start.
        """
        raise NotImplementedError

    def plan_steps(self, steps: int) -> None:
        """Told before a cold training, and before its steps are traced, how many steps it will take."""

    def own_tables(self) -> dict[str, list[tf.keras.layers.Embedding]]:
        """Embedding tables that are in no FeatureEncoder, by the vocabulary whose ids their rows stand for."""
        return {}

    @property
    def temperature(self) -> float | tf.Tensor:
        """What the objective divides scores by; the towers' outputs do not depend on it."""
        return tf.exp(self.log_temperature) if self.config.learn_temperature else self.config.temperature

    def loss_of(self, pairs: Pairs) -> tf.Tensor:
        """The objective, a scalar. Subclasses add their own terms to it."""
        temperature = self.temperature
        if self.config.learn_temperature:
            self.record("temperature", temperature)
        return self.record("retrieval_loss", objective_loss(self.config, pairs, temperature))

    def num_pairs(self, pairs: Pairs) -> tf.Tensor:
        """T of the mimic loss.

        B (S + 1) pairs with sampled_bce, as in the paper, and the hard negatives there are. B rows with
        a softmax: the mimic loss keeps its weight beside it, however many negatives there are or the
        batch shares.
        """
        rows = tf.size(pairs.positives)
        if self.config.objective is not Objective.SAMPLED_BCE:
            return rows
        return (
            rows + tf.size(pairs.negatives) + tf.math.count_nonzero(pairs.differ(pairs.hard_negatives), dtype=tf.int32)
        )

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

    # Nothing in a step, Keras's optimizer with it, depends on a tensor in Python's own ifs and loops; converting it all
    # would take longer than an epoch.
    @tf.autograph.experimental.do_not_convert
    def train_step(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """One step of the optimizer, and its values by name; `inputs` as in `compute_loss`."""
        step: dict[str, tf.Tensor] = super().train_step(inputs)
        return step

    def compute_loss(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Loss of a batch.

        Args:
          inputs: dense query columns, `query_index` and `candidate_index`, int64 [B];
            `negative_indices`, int64 [B, S]; `negative_log_q`, float32 [B, S];
            `hard_negative_indices`, int64 [B, H], -1 for none.
          training: replace ids by out-of-vocabulary at `unknown_rate`, and apply dropout.

        Returns:
          A float32 scalar.
        """
        positive, negative = inputs[features.CANDIDATE_INDEX], inputs[features.NEGATIVE_INDICES]
        hard = inputs[features.HARD_NEGATIVE_INDICES]
        hard = tf.where(hard < 0, positive[:, tf.newaxis], hard)
        drawn = [positive, tf.reshape(negative, [-1]), tf.reshape(hard, [-1])]
        candidates, places = tf.unique(tf.concat(drawn, axis=0))
        positives, negatives, hards = tf.split(places, [tf.size(indices) for indices in drawn])
        query_keys = (features.QUERY_INDEX, *(e.key for e in self.encodings.query))
        query_columns: Mapping[str, tf.Tensor] = {key: inputs[key] for key in query_keys}
        item_columns = {key: tf.gather(column, candidates) for key, column in self._candidate_columns.items()}
        if training and self.config.unknown_rate > 0:
            query_columns = self._forget_queries(query_columns)
            item_columns = self._forget_items(item_columns)
        query_columns = self.with_shared(query_columns)
        pairs = Pairs(
            query_columns=query_columns,
            item_columns=item_columns,
            queries=self.query_embeddings(query_columns, training),
            items=self.item_embeddings(item_columns, training),
            query_ids=self._distinct_queries(inputs[features.QUERY_INDEX]),
            candidates=candidates,
            shares=tf.gather(self._positive_share, candidates),
            log_q=tf.gather(self._log_q, candidates),
            positives=positives,
            negatives=tf.reshape(negatives, tf.shape(negative)),
            negative_log_q=inputs[features.NEGATIVE_LOG_Q],
            hard_negatives=tf.reshape(hards, tf.shape(hard)),
            row_weights=tf.gather(self._row_weights, positive),
        )
        return self.record("mean_loss", self.loss_of(pairs))

    def categories(self, candidates: tf.Tensor) -> tf.Tensor:
        """Category index of each candidate index; -1 for none."""
        return tf.gather(self._categories, candidates)

    def _distinct_queries(self, index: tf.Tensor) -> tf.Tensor:
        """`query_index` [B], but for each row of an unknown query a negative number of its own."""
        own = -1 - tf.range(tf.size(index, out_type=index.dtype), dtype=index.dtype)
        return tf.where(index == self.encodings.query_rows - 1, own, index)

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
