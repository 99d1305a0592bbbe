"""Adaptive-mimic mechanism (AMM)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def mimic_loss(augmented: tf.Tensor, target: tf.Tensor, num_pairs: int | tf.Tensor) -> tf.Tensor:
    """Pulls augmented vectors towards the other tower's output.

    loss_u = (1/T) sum over all T pairs of || y a_u + (1 - y) p_v - p_v ||^2

    with y = 1 for a positive pair and 0 for a negative one, so a negative adds 0 and only the
    positives are needed here; loss_v is the same with the roles swapped. p is held fixed: no gradient
    reaches `target`. The square is summed over the dimensions, not averaged.

    Yu et al., "A Dual Augmented Two-tower Model for Online Large-scale Recommendation",
    DLP-KDD 2021.

    Args:
      augmented: float [P, D], the augmented vectors of the P positive pairs, a_u or a_v.
      target: float [P, D], the outputs of the other tower for the same pairs, p_v or p_u.
      num_pairs: T, the number of all pairs, positives and negatives: P (S + 1) with S negatives each.

    Returns:
      A float scalar.
    """
    distance = tf.reduce_sum(tf.math.squared_difference(augmented, tf.stop_gradient(target)))
    return distance / tf.cast(num_pairs, distance.dtype)


@tf.keras.utils.register_keras_serializable(package="models.losses")
class MimicLoss(tf.keras.layers.Layer):
    """`mimic_loss`, of vectors brought to unit length and of targets without what all have in common, if asked.

    With `centre` the target is normalise(p - mean of p over the batch's pairs). Of all outputs a large part is one
    direction, the popular items' or the moment's; mimicked as it is, it makes all augmented vectors alike.

    Args:
      normalise: L2-normalise the augmented vectors, as the outputs they mimic are. The paper does
        not. A row of zeros stays zero.
      centre: mimic what sets a target apart from the batch's mean. The paper does not.
    """

    def __init__(self, normalise: bool = False, centre: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.normalise = normalise
        self.centre = centre

    def target_of(self, outputs: tf.Tensor) -> tf.Tensor:
        """What is mimicked of the other tower's outputs of all P pairs: float [P, D], both."""
        if not self.centre:
            return outputs
        return tf.math.l2_normalize(outputs - tf.reduce_mean(outputs, axis=0), axis=-1)

    def call(self, augmented: tf.Tensor, outputs: tf.Tensor, num_pairs: int | tf.Tensor) -> tf.Tensor:
        if self.normalise:
            augmented = tf.math.l2_normalize(augmented, axis=-1)
        return mimic_loss(augmented, self.target_of(outputs), num_pairs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "normalise": self.normalise, "centre": self.centre}
