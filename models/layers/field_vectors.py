"""One vector for each column."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from models.features import Encoding
from models.layers.feature_encoder import FeatureEncoder


@tf.keras.utils.register_keras_serializable(package="models.layers")
class FieldVectors(tf.keras.layers.Layer):
    """x v of each column: the terms that a factorization machine adds up.

    An index becomes its embedding, several indices the mean of theirs, padding left out (zeros if all is padding), a
    number the product of its value and a learned vector. All vectors have one width, whatever the encodings say.

    Args:
      encodings: the columns to read, at least one.
      dim: width of the vectors.
      tables: embedding layers owned elsewhere, by table name, as for FeatureEncoder.
    """

    def __init__(
        self,
        encodings: Sequence[Encoding | Mapping[str, Any]],
        dim: int,
        tables: Mapping[str, tf.keras.layers.Embedding] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        given = [e if isinstance(e, Encoding) else Encoding(**e) for e in encodings]
        self._encodings = tuple(e if e.is_number else dataclasses.replace(e, dim=dim) for e in given)
        self._dim = dim
        self.encoder = FeatureEncoder(self._encodings, tables)
        self.numbers = {
            e.key: self.add_weight(name=f"{e.key}_vector", shape=[dim], initializer="uniform")
            for e in self._encodings
            if e.is_number
        }

    def call(self, columns: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Columns as FeatureEncoder takes them to float32 [B, number of encodings, dim]."""
        parts = tf.split(self.encoder(columns), [e.dim for e in self._encodings], axis=-1)
        vectors = [
            part * self.numbers[e.key] if e.is_number else part for e, part in zip(self._encodings, parts, strict=True)
        ]
        return tf.stack(vectors, axis=1)

    def get_config(self) -> dict[str, Any]:
        encodings = [dataclasses.asdict(e) for e in self._encodings]
        return {**super().get_config(), "encodings": encodings, "dim": self._dim}
