from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from models.layers import Tower


def test_hidden_relu_and_unit_length() -> None:
    tower = Tower([2], 2, "linear")
    tower(tf.zeros([1, 2]))
    tower.set_weights([np.eye(2), np.zeros(2), np.array([[3.0, -4.0], [1.0, 0.0]]), np.zeros(2)])
    # (1, -5): hidden (1, 0), output (3, -4), length 5. (0, 2): output (2, 0). (-1, -1): all zero.
    np.testing.assert_allclose(
        tower(tf.constant([[1.0, -5.0], [0.0, 2.0], [-1.0, -1.0]])), [[0.6, -0.8], [1, 0], [0, 0]], atol=1e-7
    )


def test_a_shortcut_is_added_before_normalisation() -> None:
    tower = Tower([], 2, "linear")
    tower(tf.zeros([1, 2]))
    tower.set_weights([np.eye(2), np.zeros(2)])
    # (1, 2) + (2, 2) = (3, 4), length 5.
    np.testing.assert_allclose(tower(tf.constant([[1.0, 2.0]]), tf.constant([[2.0, 2.0]])), [[0.6, 0.8]], rtol=1e-6)


def test_without_normalisation() -> None:
    tower = Tower([], 2, "linear", normalise=False)
    tower(tf.zeros([1, 2]))
    tower.set_weights([np.eye(2), np.zeros(2)])
    np.testing.assert_allclose(tower(tf.constant([[1.0, -5.0]])), [[1.0, -5.0]])


def test_last_relu_is_the_papers_form() -> None:
    tower = Tower([], 2)
    tower(tf.zeros([1, 2]))
    tower.set_weights([np.array([[3.0, -4.0], [1.0, 0.0]]), np.zeros(2)])
    np.testing.assert_allclose(tower(tf.constant([[1.0, 0.0]])), [[1.0, 0.0]])


def test_zero_row_has_a_finite_gradient() -> None:
    tower = Tower([], 2)
    tower(tf.zeros([1, 2]))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(tower(tf.zeros([1, 2])))
    for gradient in tape.gradient(total, tower.trainable_variables):
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_any_batch(rows: int) -> None:
    tf.keras.utils.set_random_seed(1)  # with some weights all hidden units are off, and the row is zero
    made = Tower([4, 3], 2, "linear")(tf.ones([rows, 6]))
    assert made.shape == (rows, 2)
    np.testing.assert_allclose(tf.norm(made, axis=1), np.ones(rows), rtol=1e-6)


def test_dropout_only_while_training() -> None:
    tower = Tower([], 8, "linear", dropout=0.5)
    inputs = tf.random.stateless_normal([4, 64], [1, 2])
    np.testing.assert_array_equal(tower(inputs), tower(inputs))
    assert not np.allclose(tower(inputs, training=True), tower(inputs))


def test_save_and_load(tmp_path: Path) -> None:
    inputs = tf.keras.Input([5])
    tower = Tower([4, 3], 2, "linear", 0.25)
    tf.keras.Model(inputs, tower(inputs)).save(tmp_path / "model.keras")
    loaded = tf.keras.models.load_model(tmp_path / "model.keras")
    given = np.arange(10, dtype=np.float32).reshape(2, 5)
    np.testing.assert_array_equal(loaded.predict(given, verbose=0), tower(given))
    again = Tower.from_config(tower.get_config())
    assert again.get_config() == tower.get_config()
