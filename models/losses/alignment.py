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

    # No covariance is made: it takes D x D numbers a row. With X_i the centred rows of S_i over sqrt(n_i - 1),
    # C(S_i) = X_i^T X_i, and <C(S_i), C(S_j)>_F is the sum of the squares of X_i X_j^T.
    centred = embeddings - tf.gather(tf.math.segment_mean(embeddings, segments), segments)
    scaled = centred * tf.math.rsqrt(tf.gather(tf.maximum(counts - 1, 1), segments))[:, tf.newaxis]
    products = tf.square(tf.linalg.matmul(scaled, scaled, transpose_b=True))
    major = tf.argmax(counts, output_type=segments.dtype)
    own = tf.reduce_sum(tf.where(segments[:, tf.newaxis] == segments, products, 0), axis=1)
    own, cross = (
        tf.math.segment_sum(part, segments)
        for part in (own, tf.linalg.matvec(products, tf.cast(segments == major, products.dtype)))
    )
    distances = tf.maximum(own - 2 * cross + own[major], 0)  # rounding alone takes it below
    others = (counts >= 2) & (tf.range(tf.size(counts)) != major)
    return tf.reduce_sum(distances * tf.cast(others, distances.dtype))


@tf.keras.utils.register_keras_serializable(package="models.losses")
class CategoryAlignmentLoss(tf.keras.layers.Layer):
    """`category_alignment_loss` as a layer: embeddings [N, D], categories [N] -> scalar."""

    def call(self, embeddings: tf.Tensor, categories: tf.Tensor) -> tf.Tensor:
        return category_alignment_loss(embeddings, categories)
