from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from models import features
from models.config import ModelConfig
from models.youtube_dnn import YoutubeDNN
from tests.unit.models import helpers

CONFIG = ModelConfig(
    kind="youtube_dnn", hidden_units=(8,), output_dim=4, last_activation="linear", objective="in_batch_softmax"
)


def test_an_item_is_the_unit_vector_of_its_id() -> None:
    model = YoutubeDNN(CONFIG, helpers.small_encodings(), helpers.small_catalogue())
    table = np.zeros([6, 4], np.float32)
    table[1], table[4], table[5] = [3, 4, 0, 0], [0, 0, 0, 2], [0, 5, 12, 0]
    model.item_vectors.build(None)
    model.item_vectors.set_weights([table])
    # Candidates 0 and 3 are rows 1 and 4 of six, an unknown one is row 5; candidate 1 is all zero.
    made = model.item_embeddings({features.CANDIDATE_INDEX: tf.constant([0, 3, -1, 1], tf.int64)})
    expected = [[0.6, 0.8, 0, 0], [0, 0, 0, 1], [0, 5 / 13, 12 / 13, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(made, expected, atol=1e-6)


def test_the_loss_reaches_the_tower_and_every_item_of_the_batch() -> None:
    model = YoutubeDNN(CONFIG, helpers.small_encodings(), helpers.small_catalogue())
    with tf.GradientTape() as tape:
        loss = model.compute_loss(helpers.small_batch(), training=True)
    # Query id and history, 4 wide each, through 8 hidden units.
    assert [v.shape.as_list() for v in model.query_tower.trainable_variables] == [[8, 8], [8], [8, 4], [4]]
    gradients = tape.gradient(loss, [*model.query_tower.trainable_variables, model.item_vectors.embeddings])
    assert all(np.abs(tf.convert_to_tensor(g)).sum() > 0 for g in gradients)
    items = tf.convert_to_tensor(gradients[-1]).numpy()
    # Candidates 0 to 3 all stand in the batch; rows 0 (padding) and 5 (unknown) do not.
    np.testing.assert_array_equal(items.any(axis=1), [False, True, True, True, True, False])


def test_the_history_reads_the_output_vectors_when_shared() -> None:
    encodings = helpers.small_encodings()
    user, history = encodings.query
    encodings = dataclasses.replace(encodings, query=(user, dataclasses.replace(history, table="item")))
    # The history is declared 4 wide; with outputs of 5 it is as wide as these, beside the query id's 4.
    for output_dim in (4, 5):
        config = CONFIG.model_copy(update={"output_dim": output_dim})
        model = YoutubeDNN(config, encodings, helpers.small_catalogue())
        model.compute_loss(helpers.small_batch())
        assert model.query_encoder.tables["item"] is model.item_vectors
        assert model.query_tower.trainable_variables[0].shape.as_list() == [4 + output_dim, 8]
