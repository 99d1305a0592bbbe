"""The deep candidate generation model of YouTube."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import tensorflow as tf

from models import features
from models.config import ModelConfig
from models.features import Encodings
from models.layers import FeatureEncoder, Tower
from models.retrieval_model import Catalogue, RetrievalModel


class YoutubeDNN(RetrievalModel):
    """A tower for the query, pooled history among its inputs; a table of output vectors for the items.

    The items have no tower: an item is the row of its id, and its features are not read. The paper trains by a
    sampled softmax (objective `in_batch_softmax`). It normalises neither side; here both are, as the towers of the
    other models are, so that one temperature means the same for all of them. A length, with which the paper's
    item vectors can say how popular the item is, is lost by that.

    With `share_item_embedding` the history reads the table of output vectors, as wide as the output and not as
    embedding_dim; the paper keeps two tables.

    Covington, Adams, Sargin, "Deep Neural Networks for YouTube Recommendations", RecSys 2016.
    """

    def __init__(self, config: ModelConfig, encodings: Encodings, catalogue: Catalogue) -> None:
        super().__init__(config, encodings, catalogue)
        self.item_vectors = tf.keras.layers.Embedding(encodings.item_rows, config.output_dim, name="item_vectors")
        query = [dataclasses.replace(e, dim=config.output_dim) if e.is_shared else e for e in encodings.query]
        shared = {e.table: self.item_vectors for e in query if e.is_shared}
        self.query_encoder = FeatureEncoder(query, shared, name="query_encoder")
        self.query_tower = Tower(
            config.hidden_units, config.output_dim, config.last_activation, config.dropout, name="query_tower"
        )

    def own_tables(self) -> dict[str, list[tf.keras.layers.Embedding]]:
        return {features.ITEM_VOCABULARY: [self.item_vectors]}

    def query_embeddings(self, columns: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        return self.query_tower(self.query_encoder(columns), training=training)

    def item_embeddings(self, columns: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        rows = features.item_table_rows(columns[features.CANDIDATE_INDEX], self.encodings.item_rows)
        return tf.math.l2_normalize(self.item_vectors(rows), axis=-1)
