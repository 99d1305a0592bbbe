from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from models.config import ModelConfig
from models.dat import DAT
from models.factorization_machine import FactorizationMachine
from models.matrix_factorization import MatrixFactorization
from models.mind import MIND
from models.registry import MODELS, build_model
from models.two_tower import TwoTower
from models.youtube_dnn import YoutubeDNN
from tests.unit.models import helpers

BY_HAND = {
    "two_tower": TwoTower,
    "dat": DAT,
    "youtube_dnn": YoutubeDNN,
    "mind": MIND,
    "factorization_machine": FactorizationMachine,
    "matrix_factorization": MatrixFactorization,
}


@pytest.mark.parametrize(("kind", "cls"), BY_HAND.items())
def test_a_model_built_from_its_config_equals_the_one_built_by_hand(kind: str, cls: type) -> None:
    config = ModelConfig(kind=kind, hidden_units=(6,), last_activation="linear")
    batch = helpers.small_batch()
    losses = []
    for build in (build_model, cls):
        tf.keras.utils.set_random_seed(5)
        model = build(config, helpers.small_encodings(), helpers.small_catalogue())
        losses.append(float(model.compute_loss(batch)))
        assert type(model) is cls
    assert losses[0] == losses[1]


def test_every_kind_of_the_config_has_a_model() -> None:
    assert set(MODELS) == set(BY_HAND) == set(ModelConfig.model_fields["kind"].annotation.__args__)


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
