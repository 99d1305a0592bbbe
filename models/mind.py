"""The multi-interest network with dynamic routing (MIND)."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from models import features
from models.config import ModelConfig
from models.features import Encodings
from models.layers import FeatureEncoder, InterestCapsules, Tower
from models.retrieval_model import Catalogue, RetrievalModel


class MIND(RetrievalModel):
    """K vectors of a query, of which the one that suits an item best gives the item's score.

    Dynamic routing turns the history into K interests; each of them, with the query's other features, passes the same
    tower. The items have the tower of the two-tower model, so that all models see the same features; the paper averages
    the embeddings of an item's features.

    In training, too, an item's score is the largest over the K vectors, of negatives as of the positive. The paper has
    the positive weigh the K vectors (label-aware attention) and scores the negatives with the sum: then no vector
    learns from what it alone would rank high, and it is served all the same.

    The K vectors are not brought to unit length: the highest score counts when served, and an interest that the history
    says little of, short out of its capsule, stays short, or its list would push out those of the others.

    With `share_item_embedding` the history reads the table of the item's id, as in the paper.

    Li et al., "Multi-Interest Network with Dynamic Routing for Recommendation at Tmall", CIKM 2019.

    Raises:
      ValueError: there is no feature of kind history.
    """

    def __init__(self, config: ModelConfig, encodings: Encodings, catalogue: Catalogue) -> None:
        super().__init__(config, encodings, catalogue)
        history = next((e for e in encodings.query if e.key == encodings.history), None)
        if history is None:
            raise ValueError("model.kind mind needs a feature of kind history")
        self._history = history.key
        self.item_encoder = FeatureEncoder(encodings.item, name="item_encoder")
        shared = {e.table: self.item_encoder.tables[e.table] for e in encodings.query if e.is_shared}
        self.history_table = shared.get(
            history.table, tf.keras.layers.Embedding(history.rows, history.dim, name="history_embedding")
        )
        others = [e for e in encodings.query if e.key != history.key]
        self.query_encoder = FeatureEncoder(others, shared, name="query_encoder") if others else None
        self.capsules = InterestCapsules(config.mind.interests, config.mind.routing_iterations, name="capsules")
        self.query_tower = self._tower("query_tower", normalise=False)
        self.item_tower = self._tower("item_tower", normalise=True)

    def own_tables(self) -> dict[str, list[tf.keras.layers.Embedding]]:
        return {features.ITEM_VOCABULARY: [self.history_table]}

    def _tower(self, name: str, normalise: bool) -> Tower:
        c = self.config
        return Tower(c.hidden_units, c.output_dim, c.last_activation, c.dropout, normalise, name=name)

    def query_embeddings(self, columns: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        items = columns[self._history]
        inputs = self.capsules(self.history_table(items), items)
        if self.query_encoder is not None:
            others = self.query_encoder(columns)[:, tf.newaxis, :]
            inputs = tf.concat([inputs, tf.repeat(others, self.config.mind.interests, axis=1)], axis=-1)
        return self.query_tower(inputs, training=training)

    def item_embeddings(self, columns: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        return self.item_tower(self.item_encoder(columns), training=training)
