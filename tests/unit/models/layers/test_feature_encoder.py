from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from models.features import Encoding
from models.layers import FeatureEncoder

ENCODINGS = [
    Encoding("group", rows=3, dim=2),
    Encoding("price", rows=0, dim=1),
    Encoding("genres", rows=4, dim=2, pooled=True),
]
COLUMNS = {
    "group": tf.constant([2, 0], tf.int64),
    "price": tf.constant([0.5, -1.0]),
    "genres": tf.constant([[1, 3, 0], [0, 0, 0]], tf.int64),
    "further": tf.constant([9, 9]),
}


def encoder() -> FeatureEncoder:
    layer = FeatureEncoder(ENCODINGS)
    layer(COLUMNS)
    layer.tables["group"].set_weights([np.array([[7.0, 8.0], [1.0, 2.0], [3.0, 4.0]])])
    layer.tables["genres"].set_weights([np.array([[100.0, 100.0], [1.0, 2.0], [5.0, 6.0], [3.0, 8.0]])])
    return layer


def test_embeds_pools_and_concatenates() -> None:
    # genres of the first row: mean of (1, 2) and (3, 8); of the second: nothing but padding.
    expected = [[3.0, 4.0, 0.5, 2.0, 5.0], [7.0, 8.0, -1.0, 0.0, 0.0]]
    np.testing.assert_allclose(encoder()(COLUMNS), expected)
    assert encoder().output_width == 5


@pytest.mark.parametrize(("rows", "length"), [(0, 0), (1, 0), (1, 1), (3, 7)])
def test_any_batch_and_length(rows: int, length: int) -> None:
    columns = {
        "group": tf.zeros([rows], tf.int64),
        "price": tf.zeros([rows]),
        "genres": tf.ones([rows, length], tf.int64),
    }
    made = encoder()(columns)
    assert made.shape == (rows, 5)
    pooled = [1.0, 2.0] if length else [0.0, 0.0]
    np.testing.assert_allclose(made[:, 3:], np.tile(pooled, (rows, 1)))


def test_padding_gets_no_gradient() -> None:
    layer = encoder()
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(COLUMNS))
    gradient = tape.gradient(total, layer.tables["genres"].embeddings)
    assert isinstance(gradient, tf.IndexedSlices)
    np.testing.assert_allclose(tf.convert_to_tensor(gradient), [[0, 0], [0.5, 0.5], [0, 0], [0.5, 0.5]])


def test_config_round_trip() -> None:
    layer = encoder()
    again = FeatureEncoder.from_config(layer.get_config())
    again(COLUMNS)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(COLUMNS), layer(COLUMNS))


def test_save_and_load(tmp_path: Path) -> None:
    inputs = {
        "group": tf.keras.Input([], dtype=tf.int64),
        "price": tf.keras.Input([]),
        "genres": tf.keras.Input([3], dtype=tf.int64),
    }
    layer = encoder()
    model = tf.keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.keras")
    loaded = tf.keras.models.load_model(tmp_path / "model.keras")
    given = {key: COLUMNS[key] for key in inputs}
    np.testing.assert_array_equal(loaded.predict(given, verbose=0), layer(COLUMNS))


def test_shared_table_is_the_other_encoders() -> None:
    items = FeatureEncoder([Encoding("item", rows=4, dim=2)])
    queries = FeatureEncoder([Encoding("history", 4, 2, pooled=True, table="item")], items.tables)
    history, item = {"history": tf.constant([[3, 0]])}, {"item": tf.constant([3])}
    np.testing.assert_array_equal(queries(history), items(item))
    items.tables["item"].set_weights([np.ones([4, 2])])
    np.testing.assert_array_equal(queries(history), [[1.0, 1.0]])


def test_shared_table_of_another_shape_is_refused() -> None:
    items = FeatureEncoder([Encoding("item", rows=4, dim=2)])
    with pytest.raises(ValueError, match="'history' needs a table of 5 x 2, but 'item' is 4 x 2"):
        FeatureEncoder([Encoding("history", 5, 2, pooled=True, table="item")], items.tables)
