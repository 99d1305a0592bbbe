from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from models import features
from models.config import MindConfig, ModelConfig
from models.features import Encodings
from models.mind import MIND
from tests.unit.models import helpers


def mind(encodings: Encodings | None = None, interests: int = 3, **settings: object) -> MIND:
    config = ModelConfig(
        kind="mind", hidden_units=(8,), output_dim=4, last_activation="linear",
        mind=MindConfig(interests=interests), **settings,
    )  # fmt: skip
    return MIND(config, encodings or helpers.small_encodings(), helpers.small_catalogue())


def test_k_vectors_a_query_of_their_own_lengths() -> None:
    model = mind()
    made = model.query_embeddings(helpers.small_batch()).numpy()
    assert made.shape == (3, 3, 4)
    assert len(np.unique(np.linalg.norm(made[0], axis=1).round(6))) == 3
    # Queries with a history have different interests; without one all are those of the other features.
    assert not np.allclose(made[0, 0], made[0, 1])
    np.testing.assert_allclose(made[2], np.tile(made[2, :1], (3, 1)), atol=1e-6)


def test_with_one_interest_the_loss_is_that_of_a_single_vector() -> None:
    model = mind(interests=1)
    batch = helpers.small_batch()
    loss = float(model.compute_loss(batch))
    query = model.query_embeddings(batch).numpy()[:, 0]
    columns = {key: tf.constant(column) for key, column in helpers.small_catalogue().columns.items()}
    items = model.item_embeddings({**columns, features.CANDIDATE_INDEX: tf.range(4, dtype=tf.int64)}).numpy()
    scores = query @ items.T
    # Positives 0, 1, 0; negatives 2 (0 is the positive itself), 3 and 2, 1 and 2: eight pairs.
    positives, negatives = scores[[0, 1, 2], [0, 1, 0]], scores[[0, 1, 1, 2, 2], [2, 3, 2, 1, 2]]
    assert loss == pytest.approx((np.logaddexp(0, -positives).sum() + np.logaddexp(0, negatives).sum()) / 8, rel=1e-5)


def test_the_loss_reaches_history_map_and_towers() -> None:
    model = mind(objective="in_batch_softmax")
    with tf.GradientTape() as tape:
        loss = model.compute_loss(helpers.small_batch(), training=True)
    gradients = tape.gradient(loss, model.trainable_variables)
    assert len(gradients) == 3 + 1 + 1 + 2 * 4  # user, item, genres; history; bilinear map; two towers of two layers
    for gradient in gradients:
        values = tf.convert_to_tensor(gradient).numpy()
        assert np.isfinite(values).all()
        assert values.any()


def test_a_batch_without_any_history() -> None:
    model = mind(objective="in_batch_softmax")
    batch = {**helpers.small_batch(), "history": tf.zeros([3, 0], tf.int64)}
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch, training=True)
    assert np.isfinite(loss)
    assert all(np.isfinite(tf.convert_to_tensor(g)).all() for g in tape.gradient(loss, model.trainable_variables))
    assert np.isfinite(model.query_embeddings(batch)).all()


def test_history_alone_and_a_shared_table() -> None:
    encodings = helpers.small_encodings()
    history = dataclasses.replace(encodings.query[1], table="item")
    model = mind(dataclasses.replace(encodings, query=(history,)))
    batch = helpers.small_batch()
    model.compute_loss(batch)
    assert model.history_table is model.item_encoder.tables["item"]
    # No history, no other feature: the tower's biases, zero at first, have no direction.
    np.testing.assert_array_equal(model.query_embeddings(batch)[2], np.zeros([3, 4]))


def test_without_history() -> None:
    encodings = dataclasses.replace(helpers.small_encodings(), history=None)
    with pytest.raises(ValueError, match="kind mind needs a feature of kind history"):
        mind(encodings)
