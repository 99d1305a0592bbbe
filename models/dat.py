"""The dual augmented two-tower model (DAT)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import tensorflow as tf

from models import features
from models.config import ModelConfig
from models.features import Encodings
from models.layers import AugmentedVectors, RecencyPooling
from models.losses import CategoryAlignmentLoss, MimicLoss
from models.retrieval_model import Catalogue, Pairs
from models.two_tower import TwoTower

QUERY_VECTORS = "query_vectors"  # a column that DAT adds in training: a_u


class DAT(TwoTower):
    """Two-tower with augmented vectors, an adaptive-mimic mechanism and category alignment.

    Tower input z = [e_1 .. e_n, a]. Loss = objective + l1 loss_u + l2 loss_v + l3 loss_CA: a_u mimics
    p_v and a_v mimics p_u over the positive pairs, with p held fixed; loss_CA sees the item
    embeddings of the batch's positives and not the sampled negatives, an item as often as it was
    chosen. The paper leaves open which items it sees.

    Yu et al., "A Dual Augmented Two-tower Model for Online Large-scale Recommendation",
    DLP-KDD 2021.

    Four things are ours, and off by default:

    - augmented.query "history": a_u is the `RecencyPooling` of a_v over the query's history, instead
      of a row of its own. a_v has learned what the queries look like that chose v, so a_u says what
      those look like that chose what this query chose. A query that training never saw, or saw
      once, has one too; one with an empty history has zeros. With mimic.normalise the mean is brought
      to unit length and the a_v that go into it are not: a longer one weighs more.
    - augmented.to_output: p = normalise(tower(z) + g a) on both sides, g a learned scalar for each that
      starts at 1. a mimics an output and so lives in the outputs' space; this spares the tower learning
      to pass it on.
    - mimic.centre: see `MimicLoss`.
    - mimic.start: the mimic losses count from this share of a cold training's steps on. Before that the outputs that
      they aim at are still far from where they will be. A model that goes on from an earlier one mimics at once.

    Raises:
      ValueError: a_u is to come from the history, and no feature of that kind is declared.
    """

    def __init__(self, config: ModelConfig, encodings: Encodings, catalogue: Catalogue) -> None:
        super().__init__(config, encodings, catalogue)
        normalise = config.mimic.normalise
        dim = config.augmented_dim
        self.item_augmented = AugmentedVectors(encodings.item_rows, dim, normalise, name="item_augmented")
        if config.augmented.query == "history":
            if encodings.history is None:
                raise ValueError("augmented.query history: no feature of kind history is declared")
            self._history = encodings.history
            self.item_augmented.table.build(None)
            self.history_pooling = RecencyPooling(encodings.history_length, name="history_pooling")
        else:
            self.query_augmented = AugmentedVectors(encodings.query_rows, dim, normalise, name="query_augmented")
        if config.augmented.to_output:
            self.query_gain = tf.Variable(1.0, name="query_gain")
            self.item_gain = tf.Variable(1.0, name="item_gain")
        self.mimic_loss = MimicLoss(normalise, config.mimic.centre)
        self._first_mimicking = 0  # step
        self.alignment_loss = CategoryAlignmentLoss()
        self.add_means("query_mimic_loss", "item_mimic_loss", "alignment_loss")
        # How well a_u resembles what it mimics of p_v: its length, which is 1 for p_v, and the cosine of the two.
        self.add_means("query_mimic_norm", "query_mimic_cosine")

    def own_tables(self) -> dict[str, list[tf.keras.layers.Embedding]]:
        tables = {features.ITEM_VOCABULARY: [self.item_augmented.table]}
        if self.config.augmented.query == "table":
            tables[features.QUERY_VOCABULARY] = [self.query_augmented.table]
        return tables

    def plan_steps(self, steps: int) -> None:
        self._first_mimicking = math.ceil(self.config.mimic.start * steps)

    def with_shared(self, query_columns: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
        return {**query_columns, QUERY_VECTORS: self.query_vectors(query_columns)}

    def query_vectors(self, columns: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """a_u, float32 [B, augmented_dim]."""
        if QUERY_VECTORS in columns:
            return columns[QUERY_VECTORS]
        if self.config.augmented.query == "table":
            return self.query_augmented(columns[features.QUERY_INDEX])
        pooled = self.history_pooling(columns[self._history], self.item_augmented.table.embeddings)
        return tf.math.l2_normalize(pooled, axis=-1) if self.config.mimic.normalise else pooled

    def item_vectors(self, columns: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """a_v, float32 [B, augmented_dim]."""
        return self.item_augmented(
            features.item_table_rows(columns[features.CANDIDATE_INDEX], self.item_augmented.rows)
        )

    def query_embeddings(self, columns: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        vectors = self.query_vectors(columns)
        inputs = tf.concat([self.query_encoder(columns), vectors], axis=-1)
        shortcut = self.query_gain * vectors if self.config.augmented.to_output else None
        return self.query_tower(inputs, shortcut, training=training)

    def item_embeddings(self, columns: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        vectors = self.item_vectors(columns)
        inputs = tf.concat([self.item_encoder(columns), vectors], axis=-1)
        shortcut = self.item_gain * vectors if self.config.augmented.to_output else None
        return self.item_tower(inputs, shortcut, training=training)

    def loss_of(self, pairs: Pairs) -> tf.Tensor:
        positives = pairs.positive_items
        total = self.num_pairs(pairs)
        query_vectors = self.query_vectors(pairs.query_columns)
        item_vectors = tf.gather(self.item_vectors(pairs.item_columns), pairs.positives)
        query_mimic = self.record("query_mimic_loss", self.mimic_loss(query_vectors, positives, total))
        item_mimic = self.record("item_mimic_loss", self.mimic_loss(item_vectors, pairs.queries, total))
        self.record("query_mimic_norm", tf.reduce_mean(tf.norm(query_vectors, axis=-1)))
        target = self.mimic_loss.target_of(positives)
        cosine = tf.reduce_sum(tf.math.l2_normalize(query_vectors, axis=-1) * target, axis=-1)
        self.record("query_mimic_cosine", tf.reduce_mean(cosine))
        mimic = self.config.mimic.query_weight * query_mimic + self.config.mimic.item_weight * item_mimic
        if self._first_mimicking > 0:
            mimic *= tf.cast(self.optimizer.iterations >= self._first_mimicking, mimic.dtype)
        loss = super().loss_of(pairs) + mimic
        if self.config.alignment.weight > 0:
            categories = self.categories(tf.gather(pairs.candidates, pairs.positives))
            alignment = self.record("alignment_loss", self.alignment_loss(positives, categories))
            loss += self.config.alignment.weight * alignment
        return loss
