"""Columns to one dense vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import tensorflow as tf

from models.features import Encoding
from models.layers.pooling import mean_of_rows


@tf.keras.utils.register_keras_serializable(package="models.layers")
class FeatureEncoder(tf.keras.layers.Layer):
    """Embeds each column and concatenates the embeddings, in the order of the encodings.

    A single index becomes its embedding (a missing value, index 0, has one of its own, learned like
    the others). Several indices become the mean of their embeddings, padding left out; a row that is
    all padding becomes zeros. A plain number stands for itself.

    Args:
      encodings: the columns to read.
      tables: embedding layers owned elsewhere, by table name, for the encodings that share one. They
        are not part of the layer's config: a layer made from its config owns all its tables.

    Raises:
      ValueError: a shared table has another shape than its encoding says.

    Example:
      >>> encoder = FeatureEncoder([Encoding("genres", rows=20, dim=8, pooled=True)])
      >>> encoder({"genres": tf.constant([[3, 5], [4, 0]])}).shape
      TensorShape([2, 8])
    """

    def __init__(
        self,
        encodings: Sequence[Encoding | Mapping[str, Any]],
        tables: Mapping[str, tf.keras.layers.Embedding] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._encodings = tuple(e if isinstance(e, Encoding) else Encoding(**e) for e in encodings)
        self.tables = dict(tables or {})
        for e in self._encodings:
            if e.is_number:
                continue
            table = self.tables.get(e.table)
            if table is None:
                self.tables[e.table] = tf.keras.layers.Embedding(e.rows, e.dim, name=f"{e.table}_embedding")
            elif (table.input_dim, table.output_dim) != (e.rows, e.dim):
                raise ValueError(
                    f"{e.key!r} needs a table of {e.rows} x {e.dim}, but {e.table!r} is "
                    f"{table.input_dim} x {table.output_dim}"
                )

    def build(self, input_shape: Any) -> None:
        for table in self.tables.values():
            if not table.built:
                table.build(None)
        super().build(input_shape)

    @property
    def output_width(self) -> int:
        """Length of the concatenated vector."""
        return sum(e.dim for e in self._encodings)

    def _encode(self, encoding: Encoding, column: tf.Tensor) -> tf.Tensor:
        if encoding.is_number:
            return column[:, tf.newaxis]
        table = self.tables[encoding.table]
        if not encoding.pooled:
            return table(column)
        return mean_of_rows(table.embeddings, column)

    def call(self, columns: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Encodes a batch.

        Args:
          columns: by key, int64 [B], int64 [B, L] where pooled, or float32 [B] for plain numbers;
            further keys are ignored.

        Returns:
          float32 [B, output_width].
        """
        return tf.concat([self._encode(e, columns[e.key]) for e in self._encodings], axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "encodings": [asdict(e) for e in self._encodings]}
