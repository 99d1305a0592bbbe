"""Tests of the adaptive-mimic loss."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from models.losses import MimicLoss, mimic_loss

AUGMENTED = tf.constant([[1.0, 2.0], [0.0, -1.0]])
TARGET = tf.constant([[0.0, 2.0], [2.0, 1.0]])
# Rows: (1-0)^2 + 0 = 1 and (0-2)^2 + (-1-1)^2 = 8, in all 9.


def test_the_sum_of_squares_is_divided_by_all_pairs() -> None:
    # Two positives with S = 2 negatives each: T = 6.
    assert mimic_loss(AUGMENTED, TARGET, 6).numpy() == pytest.approx(9 / 6)


def test_twice_the_batch_gives_the_same_loss() -> None:
    twice = mimic_loss(tf.tile(AUGMENTED, [2, 1]), tf.tile(TARGET, [2, 1]), 12)

    assert twice.numpy() == pytest.approx(9 / 6)


def test_the_gradient_reaches_the_augmented_vectors_only() -> None:
    augmented, target = tf.Variable(AUGMENTED), tf.Variable(TARGET)
    with tf.GradientTape() as tape:
        loss = mimic_loss(augmented, target, tf.constant(6))
    to_augmented, to_target = tape.gradient(loss, [augmented, target])

    assert to_target is None
    # 2 (a - p) / T
    np.testing.assert_allclose(to_augmented, [[2 / 6, 0], [-4 / 6, -4 / 6]], rtol=1e-6)


def test_normalised_vectors_by_hand_and_zero_rows_safe() -> None:
    augmented = tf.Variable([[3.0, 4.0], [0.0, 0.0]])
    target = tf.constant([[1.0, 0.0], [0.0, 1.0]])
    with tf.GradientTape() as tape:
        loss = MimicLoss(normalise=True)(augmented, target, 2)
    gradient = tape.gradient(loss, augmented)

    # (.6, .8) to (1, 0): .16 + .64 = .8; the zero row stays zero: 1. Together 1.8, over T = 2.
    assert loss.numpy() == pytest.approx(0.9)
    assert np.isfinite(gradient.numpy()).all()


def test_centred_targets_by_hand() -> None:
    augmented, target = tf.Variable([[1.0, 0.0], [0.0, 1.0]]), tf.Variable([[3.0, 5.0], [3.0, 1.0]])
    with tf.GradientTape() as tape:
        loss = MimicLoss(centre=True)(augmented, target, 2)
    to_augmented, to_target = tape.gradient(loss, [augmented, target])

    # The mean is (3, 3); what is left, (0, 2) and (0, -2), at unit length (0, 1) and (0, -1). Distances 1 + 1 and 4.
    assert loss.numpy() == pytest.approx(6 / 2)
    np.testing.assert_allclose(to_augmented, [[1, -1], [0, 2]], rtol=1e-6)
    assert to_target is None


def test_equal_targets_have_nothing_to_mimic() -> None:
    # (1, 2) and (0, -1) to zeros: 5 + 1, finite.
    assert MimicLoss(centre=True)(AUGMENTED, tf.ones([2, 2]), 1).numpy() == pytest.approx(6.0)


def test_without_normalise_the_layer_is_the_plain_loss() -> None:
    assert MimicLoss()(AUGMENTED, TARGET, 6).numpy() == pytest.approx(1.5)


def test_traced_once_for_any_batch_size() -> None:
    vectors = tf.TensorSpec([None, 2])
    function = tf.function(mimic_loss, input_signature=[vectors, vectors, tf.TensorSpec([], tf.int32)])

    assert function(AUGMENTED, TARGET, 6).numpy() == pytest.approx(1.5)
    assert function(AUGMENTED[:1], TARGET[:1], 1).numpy() == pytest.approx(1.0)


def test_the_configuration_survives() -> None:
    layer = tf.keras.layers.deserialize(tf.keras.layers.serialize(MimicLoss(normalise=True, centre=True)))

    assert isinstance(layer, MimicLoss)
    assert layer.normalise is True
    assert layer.centre is True


def test_saved_and_loaded_in_a_model(tmp_path: Path) -> None:
    augmented, target = tf.keras.Input([2]), tf.keras.Input([2])
    loss = MimicLoss(normalise=True)(augmented, target, num_pairs=2)
    tf.keras.Model([augmented, target], loss).save(tmp_path / "model.keras")

    loaded = tf.keras.models.load_model(tmp_path / "model.keras")

    value = loaded([tf.constant([[3.0, 4.0], [0.0, 0.0]]), tf.constant([[1.0, 0.0], [0.0, 1.0]])])
    assert value.numpy() == pytest.approx(0.9)
