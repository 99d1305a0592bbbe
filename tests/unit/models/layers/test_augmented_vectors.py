from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from models.layers import AugmentedVectors

TABLE = np.array([[0.0, 0.0], [3.0, 4.0], [1.0, 0.0]])


def layer(normalise: bool) -> AugmentedVectors:
    made = AugmentedVectors(3, 2, normalise)
    made(tf.constant([0]))
    made.set_weights([TABLE])
    return made


@pytest.mark.parametrize(("normalise", "expected"), [(False, [3.0, 4.0]), (True, [0.6, 0.8])])
def test_looks_up_a_vector_for_each_index(normalise: bool, expected: list[float]) -> None:
    np.testing.assert_allclose(layer(normalise)(tf.constant([1, 0])), [expected, [0.0, 0.0]], rtol=1e-6)


@pytest.mark.parametrize("shape", [(0,), (1,), (4,), (2, 3)])
def test_any_shape(shape: tuple[int, ...]) -> None:
    assert layer(True)(tf.ones(shape, tf.int64)).shape == (*shape, 2)


def test_gradient_stays_in_the_rows_read() -> None:
    made = layer(False)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(made(tf.constant([2, 2])))
    gradient = tape.gradient(total, made.trainable_variables[0])
    assert isinstance(gradient, tf.IndexedSlices)
    np.testing.assert_allclose(tf.convert_to_tensor(gradient), [[0, 0], [0, 0], [2, 2]])


@pytest.mark.parametrize("normalise", [False, True])
def test_save_and_load(normalise: bool, tmp_path: Path) -> None:
    inputs = tf.keras.Input([], dtype=tf.int64)
    made = layer(normalise)
    tf.keras.Model(inputs, made(inputs)).save(tmp_path / "model.keras")
    loaded = tf.keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(np.array([1, 2]), verbose=0), made(tf.constant([1, 2])))
    assert AugmentedVectors.from_config(made.get_config()).normalise is normalise
