from __future__ import annotations

import numpy as np
import tensorflow as tf

from models.layers import RecencyPooling

TABLE = tf.constant([[9.0, 9.0], [1.0, 0.0], [0.0, 1.0], [4.0, 4.0]])  # row 0 is padding and never read


def test_begins_as_the_plain_mean() -> None:
    history = tf.constant([[1, 2, 3], [3, 0, 0], [0, 0, 0]], tf.int64)
    pooled = RecencyPooling(3)(history, TABLE)
    np.testing.assert_allclose(pooled, [[5 / 3, 5 / 3], [4, 4], [0, 0]], rtol=1e-6)


def test_weights_count_from_the_end_whatever_the_padding() -> None:
    layer = RecencyPooling(2)
    layer(tf.constant([[1]], tf.int64), TABLE)
    layer.set_weights([np.log([3.0, 1.0])])
    # Row 2 is the latest and weighs 3, row 1 weighs 1: (1/4, 3/4).
    for history in ([1, 2, 0], [0, 1, 2], [1, 0, 2]):
        np.testing.assert_allclose(layer(tf.constant([history], tf.int64), TABLE), [[0.25, 0.75]], rtol=1e-6)
    # Further back than the length weighs like its last place: (1 * (4, 4) + 1 * (1, 0) + 3 * (0, 1)) / 5.
    np.testing.assert_allclose(layer(tf.constant([[3, 1, 2]], tf.int64), TABLE), [[1.0, 1.4]], rtol=1e-6)


def test_gradients_reach_weights_and_table() -> None:
    layer, table = RecencyPooling(2), tf.Variable(TABLE)
    history = tf.constant([[1, 2], [0, 0]], tf.int64)
    layer(history, table)
    with tf.GradientTape() as tape:
        first = layer(history, table)[0, 0]
    by_weight, by_table = tape.gradient(first, [layer.log_weights, table])
    # x = w_2 / (w_1 + w_2) with w = exp(t) = 1: dx/dt_1 = -1/4, dx/dt_2 = 1/4.
    np.testing.assert_allclose(tf.convert_to_tensor(by_weight), [-0.25, 0.25], rtol=1e-6)
    np.testing.assert_allclose(tf.convert_to_tensor(by_table), [[0, 0], [0.5, 0], [0.5, 0], [0, 0]], rtol=1e-6)


def test_made_again_from_its_config() -> None:
    assert RecencyPooling.from_config(RecencyPooling(7, name="x").get_config()).length == 7
