"""The augmented vectors of DAT."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


@tf.keras.utils.register_keras_serializable(package="models.layers")
class AugmentedVectors(tf.keras.layers.Layer):
    """One learned vector per query or per item, a_u or a_v, beside its id embedding.

    The table is this layer's own. It is an input of its tower, and the adaptive-mimic mechanism
    makes it resemble what the other tower says of the row's positives.

    Yu et al., "A Dual Augmented Two-tower Model for Online Large-scale Recommendation",
    DLP-KDD 2021.

    Args:
      rows: rows of the table, padding and out-of-vocabulary included.
      dim: width of a vector.
      normalise: return the vectors at unit length, as the outputs they mimic are. The paper does not.
    """

    def __init__(self, rows: int, dim: int, normalise: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rows = rows
        self.dim = dim
        self.normalise = normalise
        self.table = tf.keras.layers.Embedding(rows, dim, name="vectors")

    def call(self, indices: tf.Tensor) -> tf.Tensor:
        """Indices, int64 [B], to vectors, float32 [B, dim]."""
        vectors = self.table(indices)
        return tf.math.l2_normalize(vectors, axis=-1) if self.normalise else vectors

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rows": self.rows, "dim": self.dim, "normalise": self.normalise}
