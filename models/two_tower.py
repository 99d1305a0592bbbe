"""The two-tower model."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from models.config import ModelConfig
from models.features import Encodings
from models.layers import FeatureEncoder, Tower
from models.retrieval_model import Catalogue, RetrievalModel


class TwoTower(RetrievalModel):
    """A tower of fully connected layers for each side.

    With `share_item_embedding` the query's history reads the embedding table of the item's id, so
    what is learned of an item as a candidate is known of it as a past choice too.
    """

    def __init__(self, config: ModelConfig, encodings: Encodings, catalogue: Catalogue) -> None:
        super().__init__(config, encodings, catalogue)
        self.item_encoder = FeatureEncoder(encodings.item, name="item_encoder")
        shared = {e.table: self.item_encoder.tables[e.table] for e in encodings.query if e.is_shared}
        self.query_encoder = FeatureEncoder(encodings.query, shared, name="query_encoder")
        self.query_tower = self._tower("query_tower")
        self.item_tower = self._tower("item_tower")

    def _tower(self, name: str) -> Tower:
        c = self.config
        return Tower(c.hidden_units, c.output_dim, c.last_activation, c.dropout, name=name)

    def query_embeddings(self, columns: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        return self.query_tower(self.query_encoder(columns), training=training)

    def item_embeddings(self, columns: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        return self.item_tower(self.item_encoder(columns), training=training)
