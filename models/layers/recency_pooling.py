"""A history as one vector, the latest items weighing what they are worth."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from models.layers.pooling import mean_of_rows


@tf.keras.utils.register_keras_serializable(package="models.layers")
class RecencyPooling(tf.keras.layers.Layer):
    """Weighted mean of a history's vectors, with one learned weight for each place from the end.

    x = sum over r of exp(t_r) v(h_r) / sum over r of exp(t_r)

    h_1 is the latest item of the history and t_r a learned scalar, 0 at first, so that training begins
    with the plain mean. An empty history gives zeros.

    Args:
      length: items of the longest history, L; what lies further back weighs like the L-th.
    """

    def __init__(self, length: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.length = length

    def build(self, input_shape: Any) -> None:
        self.log_weights = self.add_weight(name="log_weights", shape=[self.length], initializer="zeros")
        super().build(input_shape)

    def call(self, history: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
        """Pools a batch.

        Args:
          history: int64 [B, n], rows of the table, oldest first; 0 is padding.
          table: float32 [rows, D].

        Returns:
          float32 [B, D].
        """
        present = tf.cast(history > 0, tf.int32)
        later = tf.cumsum(present, axis=1, exclusive=True, reverse=True)
        weights = tf.exp(tf.gather(self.log_weights, tf.minimum(later, self.length - 1)))
        return mean_of_rows(table, history, weights)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "length": self.length}
