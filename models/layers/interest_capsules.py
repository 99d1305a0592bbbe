"""A history to several interests, by dynamic routing."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

STARTS = 4096  # distinct starts of the routing


def routing_starts(interests: int) -> np.ndarray:
    """The logits b that routing starts from, float32 [STARTS, interests], standard normal, always the same."""
    return np.random.default_rng(0).standard_normal([STARTS, interests]).astype(np.float32)


def squash(vectors: tf.Tensor) -> tf.Tensor:
    """|z|^2 / (1 + |z|^2) z / |z| over the last axis; zero stays zero, with a finite gradient."""
    square = tf.reduce_sum(vectors**2, axis=-1, keepdims=True)
    return vectors * square * tf.math.rsqrt(square + 1e-9) / (1.0 + square)


@tf.keras.utils.register_keras_serializable(package="models.layers")
class InterestCapsules(tf.keras.layers.Layer):
    """Behaviour-to-interest (B2I) dynamic routing: the items of a history, softly clustered.

    With e_i the embedding of the history's i-th item and b_ij the routing logits, in each iteration

    w_ij = softmax over the interests j of b_ij,  u_j = squash(sum over i of w_ij S e_i),  b_ij += <u_j, S e_i>.

    S is one bilinear map for all pairs. The paper draws the first b_ij at random. Here they are drawn once and for
    all, by the item (its index modulo STARTS): the same history gives the same interests, in training as when served,
    and goes on giving like ones as it grows or its oldest items fall out. No gradient passes through the logits. That
    queries with little history get fewer interests (which saves memory, the paper says) is left out.

    Li et al., "Multi-Interest Network with Dynamic Routing for Recommendation at Tmall", CIKM 2019.

    Args:
      interests: K.
      iterations: of the routing.
    """

    def __init__(self, interests: int, iterations: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.interests = interests
        self.iterations = iterations
        self._starts = routing_starts(interests)

    def build(self, input_shape: Any) -> None:
        width = input_shape[-1]
        # Wide from the start: squash is quadratic near zero, and what a small map makes of small embeddings would
        # neither reach the tower nor get a gradient.
        wide = tf.keras.initializers.RandomNormal(stddev=1.0)
        self.bilinear = self.add_weight(name="bilinear", shape=[width, width], initializer=wide)
        super().build(input_shape)

    def call(self, vectors: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """Interests of each history.

        Args:
          vectors: float32 [B, L, D], e.
          items: int64 [B, L], the index of each item; 0 is padding, which takes no part.

        Returns:
          float32 [B, K, D], each shorter than 1; zeros for an empty history.
        """
        mapped = tf.einsum("bld,de->ble", vectors, self.bilinear)
        fixed = tf.stop_gradient(mapped)
        present = tf.cast(items > 0, vectors.dtype)[:, :, tf.newaxis]
        logits = tf.gather(tf.constant(self._starts), tf.math.floormod(items, STARTS))
        for iteration in range(self.iterations):
            weights = tf.nn.softmax(logits, axis=-1) * present
            if iteration == self.iterations - 1:
                break
            interests = squash(tf.einsum("blk,bld->bkd", weights, fixed))
            logits += tf.einsum("bkd,bld->blk", interests, fixed)
        return squash(tf.einsum("blk,bld->bkd", weights, mapped))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "interests": self.interests, "iterations": self.iterations}
