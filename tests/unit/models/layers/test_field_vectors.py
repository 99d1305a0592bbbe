from __future__ import annotations

import numpy as np
import tensorflow as tf

from models.features import Encoding
from models.layers import FieldVectors

ENCODINGS = (Encoding("city", 3, 8), Encoding("age", 0, 1), Encoding("genres", 3, 8, pooled=True))


def test_each_column_gives_one_vector() -> None:
    layer = FieldVectors(ENCODINGS, 2)
    columns = {"city": tf.constant([2, 0]), "age": tf.constant([0.5, -3.0]), "genres": tf.constant([[1, 2], [0, 0]])}
    layer(columns)
    layer.encoder.tables["city"].set_weights([np.array([[7, 8], [1, 1], [3, 4]])])
    layer.encoder.tables["genres"].set_weights([np.array([[9, 9], [2, 0], [0, 6]])])
    layer.numbers["age"].assign([10, 2])
    # A missing city has a vector of its own; the genres' mean is [1, 3], without any it is zero.
    expected = [[[3, 4], [5, 1], [1, 3]], [[7, 8], [-30, -6], [0, 0]]]
    np.testing.assert_allclose(layer(columns), expected)


def test_a_layer_from_its_config() -> None:
    config = FieldVectors(ENCODINGS, 2, name="fields").get_config()
    assert FieldVectors.from_config(config).get_config() == config
