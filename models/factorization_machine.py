"""The factorization machine, taken apart so that a dot product serves it."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from models.config import ModelConfig
from models.features import Encodings
from models.layers import FieldVectors
from models.retrieval_model import Catalogue, RetrievalModel


class FactorizationMachine(RetrievalModel):
    """All features of query and item in pairs; no hidden layer, no normalisation.

    y(x) = w_0 + sum over i of w_i x_i + sum over the pairs i < j of <v_i, v_j> x_i x_j

    Over the features Q of a query and I of an item this is, up to terms of the query alone (w_0 among them), which
    do not change the order of its items, <p_u, p_v> with

    p_u = [sum over Q of v_i x_i, 1],
    p_v = [sum over I of v_i x_i, sum over I of w_i x_i + sum over the pairs i < j in I of <v_i, v_j> x_i x_j].

    The factors v have output_dim - 1 numbers for every feature, so that p has output_dim; embedding_dim is not read.
    Several values of one feature are averaged: each has x = 1 / n.

    Rendle, "Factorization Machines", ICDM 2010.
    """

    def __init__(self, config: ModelConfig, encodings: Encodings, catalogue: Catalogue) -> None:
        super().__init__(config, encodings, catalogue)
        factors = config.output_dim - 1
        self.item_vectors = FieldVectors(encodings.item, factors, name="item_vectors")
        self.item_weights = FieldVectors(encodings.item, 1, name="item_weights")
        tables = self.item_vectors.encoder.tables
        shared = {e.table: tables[e.table] for e in encodings.query if e.is_shared}
        self.query_vectors = FieldVectors(encodings.query, factors, shared, name="query_vectors")

    def query_embeddings(self, columns: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        total = tf.reduce_sum(self.query_vectors(columns), axis=1)
        return tf.concat([total, tf.ones_like(total[:, :1])], axis=-1)

    def item_embeddings(self, columns: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        vectors = self.item_vectors(columns)
        total = tf.reduce_sum(vectors, axis=1)
        # The sum over all pairs, in linear time: half of the square of the sum less the sum of the squares.
        pairs = 0.5 * tf.reduce_sum(total**2 - tf.reduce_sum(vectors**2, axis=1), axis=-1, keepdims=True)
        bias = tf.reduce_sum(self.item_weights(columns), axis=1)
        return tf.concat([total, bias + pairs], axis=-1)
