"""The tower."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


@tf.keras.utils.register_keras_serializable(package="models.layers")
class Tower(tf.keras.layers.Layer):
    """Fully connected layers, then, by default, L2 normalisation.

    Args:
      hidden_units: widths of the hidden layers, each with ReLU; may be empty.
      output_dim: width of the output.
      last_activation: "relu" (the paper) or "linear". With ReLU all scores lie in [0, 1].
      dropout: share of the input set to 0 while training.
      normalise: bring the outputs to unit length.
    """

    def __init__(
        self,
        hidden_units: Sequence[int],
        output_dim: int,
        last_activation: str = "relu",
        dropout: float = 0.0,
        normalise: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.hidden_units = tuple(hidden_units)
        self.output_dim = output_dim
        self.last_activation = last_activation
        self.dropout = dropout
        self.normalise = normalise
        self._dropout = tf.keras.layers.Dropout(dropout)
        self._layers = [
            tf.keras.layers.Dense(units, activation="relu", name=f"hidden_{i}")
            for i, units in enumerate(self.hidden_units)
        ]
        self._layers.append(tf.keras.layers.Dense(output_dim, activation=last_activation, name="output"))

    def call(self, inputs: tf.Tensor, shortcut: tf.Tensor | None = None, training: bool = False) -> tf.Tensor:
        """Embeds a batch.

        Args:
          inputs: float32 [B, F].
          shortcut: float32 [B, output_dim], added to the last layer's output before normalisation.
          training: apply dropout.

        Returns:
          float32 [B, output_dim]. Each row has unit length, except one that is all zero before
          normalisation: it stays zero.
        """
        outputs = self._dropout(inputs, training=training)
        for layer in self._layers:
            outputs = layer(outputs)
        if shortcut is not None:
            outputs += shortcut
        return tf.math.l2_normalize(outputs, axis=-1) if self.normalise else outputs

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "hidden_units": list(self.hidden_units),
            "output_dim": self.output_dim,
            "last_activation": self.last_activation,
            "dropout": self.dropout,
            "normalise": self.normalise,
        }
