"""The dual augmented two-tower model (DAT)."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from models import features
from models.config import ModelConfig
from models.features import Encodings
from models.layers import AugmentedVectors
from models.losses import CategoryAlignmentLoss, MimicLoss
from models.retrieval_model import Catalogue, Pairs
from models.two_tower import TwoTower


class DAT(TwoTower):
    """Two-tower with augmented vectors, an adaptive-mimic mechanism and category alignment.

    Tower input z = [e_1 .. e_n, a]. Loss = objective + l1 loss_u + l2 loss_v + l3 loss_CA: a_u mimics
    p_v and a_v mimics p_u over the positive pairs, with p held fixed; loss_CA sees the item
    embeddings of the batch's positives and not the sampled negatives, an item as often as it was
    chosen. The paper leaves open which items it sees.

    Yu et al., "A Dual Augmented Two-tower Model for Online Large-scale Recommendation",
    DLP-KDD 2021.
    """

    def __init__(self, config: ModelConfig, encodings: Encodings, catalogue: Catalogue) -> None:
        super().__init__(config, encodings, catalogue)
        normalise = config.mimic.normalise
        dim = config.augmented_dim
        self.query_augmented = AugmentedVectors(encodings.query_rows, dim, normalise, name="query_augmented")
        self.item_augmented = AugmentedVectors(encodings.item_rows, dim, normalise, name="item_augmented")
        self.mimic_loss = MimicLoss(normalise)
        self.alignment_loss = CategoryAlignmentLoss()
        self.add_means("query_mimic_loss", "item_mimic_loss", "alignment_loss")

    def _query_vectors(self, columns: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return self.query_augmented(columns[features.QUERY_INDEX])

    def _item_vectors(self, columns: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return self.item_augmented(
            features.item_table_rows(columns[features.CANDIDATE_INDEX], self.item_augmented.rows)
        )

    def query_inputs(self, columns: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return tf.concat([super().query_inputs(columns), self._query_vectors(columns)], axis=-1)

    def item_inputs(self, columns: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return tf.concat([super().item_inputs(columns), self._item_vectors(columns)], axis=-1)

    def loss_of(self, pairs: Pairs) -> tf.Tensor:
        positives = pairs.positive_items
        total = self.num_pairs(pairs)
        query_vectors = self._query_vectors(pairs.query_columns)
        item_vectors = tf.gather(self._item_vectors(pairs.item_columns), pairs.positives)
        query_mimic = self.record("query_mimic_loss", self.mimic_loss(query_vectors, positives, total))
        item_mimic = self.record("item_mimic_loss", self.mimic_loss(item_vectors, pairs.queries, total))
        loss = super().loss_of(pairs)
        loss += self.config.mimic.query_weight * query_mimic + self.config.mimic.item_weight * item_mimic
        if self.config.alignment.weight > 0:
            categories = self.categories(tf.gather(pairs.candidates, pairs.positives))
            alignment = self.record("alignment_loss", self.alignment_loss(positives, categories))
            loss += self.config.alignment.weight * alignment
        return loss
