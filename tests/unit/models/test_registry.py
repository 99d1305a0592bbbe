from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from models import features
from models.config import MODELS, ModelConfig
from models.dat import DAT
from models.factorization_machine import FactorizationMachine
from models.matrix_factorization import MatrixFactorization
from models.mind import MIND
from models.registry import build_model
from models.two_tower import TwoTower
from models.youtube_dnn import YoutubeDNN
from tests.unit.models import helpers

CLASSES = {
    "two_tower": TwoTower,
    "dat": DAT,
    "youtube_dnn": YoutubeDNN,
    "mind": MIND,
    "factorization_machine": FactorizationMachine,
    "matrix_factorization": MatrixFactorization,
}


def test_a_kind_is_its_class() -> None:
    for kind, cls in CLASSES.items():
        config = ModelConfig(kind=kind, hidden_units=(6,))
        assert type(build_model(config, helpers.small_encodings(), helpers.small_catalogue())) is cls


def _dense(tower: tf.keras.layers.Layer, inputs: tf.Tensor) -> np.ndarray:
    """A hidden layer of six, an output of five, unit length: Keras's own layers with the tower's weights."""
    layers = tf.keras.Sequential([tf.keras.layers.Dense(6, activation="relu"), tf.keras.layers.Dense(5)])
    layers.build(inputs.shape)
    layers.set_weights(tower.get_weights())
    outputs = layers(inputs).numpy()
    return outputs / np.linalg.norm(outputs, axis=1, keepdims=True)


def _embedding(table: tf.keras.layers.Embedding) -> tf.keras.layers.Embedding:
    copied = tf.keras.layers.Embedding(table.input_dim, table.output_dim)
    copied.build(None)
    copied.set_weights(table.get_weights())
    return copied


def test_a_two_tower_built_from_its_config_equals_the_one_built_by_hand() -> None:
    config = ModelConfig(kind="two_tower", hidden_units=(6,), output_dim=5, last_activation="linear")
    catalogue, batch = helpers.small_catalogue(), helpers.small_batch()
    model = build_model(config, helpers.small_encodings(), catalogue)
    model.compute_loss(batch)
    user, history = (_embedding(model.query_encoder.tables[key]) for key in ("user", "history"))
    earlier = history(batch["history"])
    # Histories of two, one and no items.
    mean = tf.stack([(earlier[0, 0] + earlier[0, 1]) / 2, earlier[1, 0], tf.zeros(4)])
    expected = _dense(model.query_tower, tf.concat([user(batch["user"]), mean], axis=1))
    np.testing.assert_allclose(model.query_embeddings(batch), expected, rtol=1e-5, atol=1e-6)

    item, genres = (_embedding(model.item_encoder.tables[key]) for key in ("item", "genres"))
    columns = {key: tf.constant(column) for key, column in catalogue.columns.items()}
    # One genre each, the other place is padding.
    inputs = tf.concat([item(columns["item"]), genres(columns["genres"])[:, 0]], axis=1)
    np.testing.assert_allclose(model.item_embeddings(columns), _dense(model.item_tower, inputs), rtol=1e-5, atol=1e-6)


def test_every_kind_of_the_config_has_a_model() -> None:
    assert set(MODELS) == set(CLASSES)


@pytest.mark.parametrize(
    ("kind", "of_items"), [("two_tower", True), ("dat", True), ("mind", True), ("youtube_dnn", False)]
)
def test_towers_drop_inputs_in_training_alone(kind: str, of_items: bool) -> None:
    config = ModelConfig(kind=kind, hidden_units=(16,), last_activation="linear", dropout=0.5)
    catalogue, batch = helpers.small_catalogue(), helpers.small_batch()
    model = build_model(config, helpers.small_encodings(), catalogue)
    columns = {key: tf.constant(column) for key, column in catalogue.columns.items()}
    columns[features.CANDIDATE_INDEX] = tf.range(4, dtype=tf.int64)
    for embed, inputs, drops in ((model.query_embeddings, batch, True), (model.item_embeddings, columns, of_items)):
        still = embed(inputs).numpy()
        np.testing.assert_array_equal(embed(inputs), still)
        seen = [embed(inputs, training=True).numpy() for _ in range(8)]
        # YouTubeDNN's items are rows of a table, without a tower.
        assert all(np.array_equal(one, still) for one in seen) is not drops


def test_history_reads_the_item_ids_table_when_shared() -> None:
    encodings = helpers.small_encodings()
    user, history = encodings.query
    encodings = dataclasses.replace(encodings, query=(user, dataclasses.replace(history, table="item")))
    model = build_model(ModelConfig(kind="two_tower"), encodings, helpers.small_catalogue())
    batch = helpers.small_batch()
    model.compute_loss(batch)
    # User, item and genres: the history has no table of its own.
    assert sum("embedding" in v.name for v in model.trainable_variables) == 3
    before = model.query_encoder(batch).numpy()
    table = model.item_encoder.tables["item"].embeddings
    table.assign(table + 1.0)
    # Histories of two, one and no items: the mean moves by 1, of none it stays 0. User first, 4 wide.
    moved = model.query_encoder(batch).numpy() - before
    np.testing.assert_allclose(moved, [[0] * 4 + [1] * 4, [0] * 4 + [1] * 4, [0] * 8], atol=1e-6)
