"""The multi-interest network with dynamic routing (MIND)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import tensorflow as tf

from models import features
from models.config import ModelConfig
from models.features import Encodings
from models.layers import FeatureEncoder, InterestCapsules, Tower
from models.retrieval_model import Catalogue, Pairs, RetrievalModel


def label_aware_attention(interests: tf.Tensor, items: tf.Tensor, power: float) -> tf.Tensor:
    """The interests of a query as its positive sees them: sum over k of w_k v_k, w_k proportional to exp(s_k)^power.

    s_k = <v_k, p_v>. Power 0 takes the mean; towards infinity only the interest counts that suits the item best, as it
    does when served. The paper raises s_k itself to the power, before the softmax; for the scores of unit vectors,
    at most 1 and possibly negative, that would flatten where it should sharpen.

    Args:
      interests: float32 [B, K, D].
      items: float32 [B, D], embedding of each row's positive.
      power: at least 0.

    Returns:
      float32 [B, D].
    """
    weights = tf.nn.softmax(power * tf.einsum("bkd,bd->bk", interests, items), axis=-1)
    return tf.einsum("bk,bkd->bd", weights, interests)


class MIND(RetrievalModel):
    """K vectors of a query, of which the one that suits an item best gives the item's score.

    Dynamic routing turns the history into K interests; each of them, with the query's other features, passes the same
    tower. In training the positive picks among the K vectors by label-aware attention. The items have the tower of
    the two-tower model, so that all models see the same features; the paper averages the embeddings of an item's
    features.

    The K vectors are not brought to unit length: the highest score counts when served, and an interest that the history
    says little of, short out of its capsule, must stay short, or its list would push out those of the others.

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

    def loss_of(self, pairs: Pairs) -> tf.Tensor:
        attended = label_aware_attention(pairs.queries, pairs.positive_items, self.config.mind.attention_power)
        return super().loss_of(dataclasses.replace(pairs, queries=attended))
