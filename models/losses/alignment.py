"""Category alignment loss (CAL)."""

from __future__ import annotations

import tensorflow as tf


def category_alignment_loss(embeddings: tf.Tensor, categories: tf.Tensor) -> tf.Tensor:
    """Makes the embeddings of all categories spread like those of the largest one.

    loss_CA = sum over the categories i of the batch other than the largest of
              || C(S_major) - C(S_i) ||_F^2

    with C(S) the covariance (divisor n - 1) of the item embeddings of category S in the batch, and
    S_major the category with the most rows (of several, the one with the lowest index). A category
    with fewer than two rows has no covariance and is left out; with no other category left the loss
    is 0. Every row counts as given: an item that stands twice in the batch counts twice.

    Yu et al., "A Dual Augmented Two-tower Model for Online Large-scale Recommendation",
    DLP-KDD 2021.

    Args:
      embeddings: float [N, D], item embeddings p_v.
      categories: int [N], the category of each row; -1 for none, which leaves the row out.

    Returns:
      A float scalar.
    """
    order = tf.argsort(categories, stable=True)
    categories = tf.gather(categories, order)
    embeddings = tf.gather(embeddings, order)
    # Ascending categories: argmax below then breaks ties by the lowest index.
    _, segments = tf.unique(categories)
    counts = tf.math.segment_sum(tf.cast(categories >= 0, embeddings.dtype), segments)

    means = tf.math.segment_mean(embeddings, segments)
    centred = embeddings - tf.gather(means, segments)
    outer = centred[:, :, tf.newaxis] * centred[:, tf.newaxis, :]
    covariances = tf.math.segment_sum(outer, segments) / tf.maximum(counts - 1, 1)[:, tf.newaxis, tf.newaxis]

    major = tf.gather(covariances, tf.argmax(counts))
    distances = tf.reduce_sum(tf.math.squared_difference(covariances, major), axis=[1, 2])
    return tf.reduce_sum(distances * tf.cast(counts >= 2, distances.dtype))


@tf.keras.utils.register_keras_serializable(package="models.losses")
class CategoryAlignmentLoss(tf.keras.layers.Layer):
    """`category_alignment_loss` as a layer: embeddings [N, D], categories [N] -> scalar."""

    def call(self, embeddings: tf.Tensor, categories: tf.Tensor) -> tf.Tensor:
        return category_alignment_loss(embeddings, categories)
