"""A model whose embeddings are known, and what its losses by hand start from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from models import features
from models.config import ModelConfig
from models.retrieval_model import RetrievalModel
from tests.unit.models import helpers

OBJECTIVES = ("sampled_bce", "sampled_softmax", "in_batch_softmax")
QUERIES = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], np.float32)
ITEMS = np.array([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6], [-1.0, 0.0]], np.float32)
# Candidates 3, 3, 2 and none; row 2's second is its own positive. Scores over .5: -2, 0, 1.92.
HARD = [[3, -1], [3, 1], [-1, 2]]


class Fixed(RetrievalModel):
    """Embeddings by table: queries by index 1..3, items by candidate index."""

    items = ITEMS

    def query_embeddings(self, columns: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        return tf.gather(QUERIES, columns[features.QUERY_INDEX] - 1)

    def item_embeddings(self, columns: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        return tf.gather(self.items, columns[features.CANDIDATE_INDEX])


def fixed(objective: str, temperature: float, **settings: object) -> Fixed:
    config = ModelConfig(objective=objective, temperature=temperature, **settings)
    return Fixed(config, helpers.small_encodings(), helpers.small_catalogue())


def recorded(model: RetrievalModel) -> dict[str, float]:
    return {m.name: float(m.result()) for m in model.metrics}


def with_hard(indices: list[list[int]]) -> dict[str, tf.Tensor]:
    return {**helpers.small_batch(), features.HARD_NEGATIVE_INDICES: tf.constant(indices, tf.int64)}


def without_sampled(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    rows = len(batch[features.CANDIDATE_INDEX])
    none = {features.NEGATIVE_INDICES: tf.zeros([rows, 0], tf.int64), features.NEGATIVE_LOG_Q: tf.zeros([rows, 0])}
    return {**batch, **none}
