from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from models.layers import InterestCapsules
from models.layers.interest_capsules import STARTS, routing_starts, squash


def routed(vectors: np.ndarray, items: np.ndarray, bilinear: np.ndarray, interests: int, iterations: int) -> np.ndarray:
    """One history, loop by loop."""

    def squashed(z: np.ndarray) -> np.ndarray:
        length = np.linalg.norm(z)
        return z * length / (1 + length**2)

    places = [i for i, item in enumerate(items) if item > 0]
    starts = routing_starts(interests)
    logits = {(i, j): float(starts[items[i] % STARTS, j]) for i in places for j in range(interests)}
    made = np.zeros([interests, vectors.shape[1]])
    for _ in range(iterations):
        for j in range(interests):
            z = np.zeros(vectors.shape[1])
            for i in places:
                share = np.exp(logits[i, j]) / sum(np.exp(logits[i, k]) for k in range(interests))
                z += share * (vectors[i] @ bilinear)
            made[j] = squashed(z)
        for i, j in logits:
            logits[i, j] += made[j] @ (vectors[i] @ bilinear)
    return made


@pytest.mark.parametrize(("interests", "iterations"), [(1, 3), (3, 1), (4, 3)])
def test_routing_equals_the_loops(interests: int, iterations: int) -> None:
    random = np.random.default_rng(2)
    vectors = random.normal(size=[4, 5, 3]).astype(np.float32)
    items = np.array([[7, 2, 9, 4, 1], [3, 3, STARTS + 3, 0, 0], [5, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    layer = InterestCapsules(interests, iterations)
    made = layer(tf.constant(vectors), tf.constant(items)).numpy()
    bilinear = layer.bilinear.numpy()
    expected = [routed(v, i, bilinear, interests, iterations) for v, i in zip(vectors, items, strict=True)]
    np.testing.assert_allclose(made, expected, atol=1e-5)
    np.testing.assert_array_equal(made[3], np.zeros([interests, 3]))


def test_one_interest_is_the_squashed_sum() -> None:
    layer = InterestCapsules(1, 3)
    layer.build(tf.TensorShape([None, None, 2]))
    layer.set_weights([np.eye(2)])
    # Sum [3, 4], length 5: 25 / 26 of the direction [.6, .8]. The last place is padding.
    made = layer(tf.constant([[[1.0, 1], [2, 3], [50, 50]]]), tf.constant([[1, 2, 0]]))
    np.testing.assert_allclose(made, [[[0.6 * 25 / 26, 0.8 * 25 / 26]]], rtol=1e-6)


def test_order_padding_and_batch_do_not_matter() -> None:
    random = np.random.default_rng(5)
    table = random.normal(size=[10, 3]).astype(np.float32)
    layer = InterestCapsules(4, 3)

    def interests(histories: list[list[int]]) -> np.ndarray:
        return layer(tf.gather(table, histories), tf.constant(histories)).numpy()

    made = interests([[1, 2, 3, 0, 0], [3, 1, 2, 0, 0], [4, 5, 6, 7, 8]])
    np.testing.assert_allclose(made[0], made[1], atol=1e-6)
    np.testing.assert_allclose(made[0], interests([[1, 2, 3]])[0], atol=1e-6)


def test_squash_of_zero_has_a_finite_gradient() -> None:
    zero = tf.zeros([1, 3])
    with tf.GradientTape() as tape:
        tape.watch(zero)
        made = squash(zero)
    np.testing.assert_array_equal(made, zero)
    assert np.isfinite(tape.gradient(made, zero)).all()


def test_a_layer_from_its_config() -> None:
    layer = InterestCapsules(2, 1, name="capsules")
    assert InterestCapsules.from_config(layer.get_config()).get_config() == layer.get_config()
