from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from models.optimizer import LazyAdam


def step(optimizer: tf.keras.optimizers.Optimizer, table: tf.Variable, indices: list[int]) -> None:
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.gather(table, indices) * tf.range(1.0, len(indices) + 1)[:, tf.newaxis])
    optimizer.apply_gradients([(tape.gradient(loss, table), table)])


def test_only_rows_with_a_gradient_move() -> None:
    table = tf.Variable(tf.ones([3, 2]))
    optimizer = LazyAdam(0.1, jit_compile=False)
    step(optimizer, table, [0])
    # Adam's first step is the learning rate, whatever the gradient.
    np.testing.assert_allclose(table, [[0.9, 0.9], [1, 1], [1, 1]], atol=1e-5)
    step(optimizer, table, [2, 2])
    # Row 0 has momentum, which Keras's Adam would still follow. Row 2's gradients 1 and 2 add up to 3:
    # v = 0.009, rate = 0.1 sqrt(1 - 0.999^2) = 0.004471, so it moves by 0.004471 * 3 / 0.09487 = 0.1414.
    np.testing.assert_allclose(table, [[0.9, 0.9], [1, 1], [0.8586, 0.8586]], atol=1e-4)


def test_a_rare_row_moves_as_far_as_by_adam_in_the_end() -> None:
    # Row 1 has a gradient in step 300 only; Keras's Adam moves it in the steps after it, by its momentum.
    tables = [tf.Variable([[1.0], [1.0]]) for _ in range(2)]
    for optimizer, table in zip([LazyAdam(0.01), tf.keras.optimizers.Adam(0.01)], tables, strict=True):
        for i in range(400):
            step(optimizer, table, [0, 1] if i == 300 else [0])
    moved = [1 - float(table[1, 0]) for table in tables]
    # 0.01 sqrt(1 - 0.999^301) / sqrt(0.001) = 0.1612, whatever the gradient.
    assert moved[0] == pytest.approx(0.1612, abs=1e-3)
    assert moved[1] == pytest.approx(moved[0], rel=0.15)


def test_equals_adam_without_momentum_where_every_row_is_read() -> None:
    tables = [tf.Variable([[1.0], [2.0]]) for _ in range(2)]
    for optimizer, table in zip([LazyAdam(0.1), tf.keras.optimizers.Adam(0.1, beta_1=0.0)], tables, strict=True):
        for _ in range(3):
            step(optimizer, table, [0, 1, 1])
    np.testing.assert_allclose(tables[0], tables[1], rtol=1e-5)


def test_dense_weights_are_updated_as_by_adam() -> None:
    weights = [tf.Variable([1.0, 2.0]) for _ in range(2)]
    for optimizer, weight in zip([LazyAdam(0.1), tf.keras.optimizers.Adam(0.1)], weights, strict=True):
        for _ in range(2):
            optimizer.apply_gradients([(weight * 3.0, weight)])
    np.testing.assert_allclose(weights[0], weights[1], rtol=1e-6)
