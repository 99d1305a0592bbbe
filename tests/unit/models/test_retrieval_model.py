from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
import tensorflow as tf

from models import features
from models.config import ModelConfig
from models.retrieval_model import RetrievalModel
from models.two_tower import TwoTower
from tests.unit.models import helpers

QUERIES = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], np.float32)
ITEMS = np.array([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6], [-1.0, 0.0]], np.float32)


class Fixed(RetrievalModel):
    """Embeddings by table: queries by index 1..3, items by candidate index."""

    def query_embeddings(self, columns: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        return tf.gather(QUERIES, columns[features.QUERY_INDEX] - 1)

    def item_embeddings(self, columns: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        return tf.gather(ITEMS, columns[features.CANDIDATE_INDEX])


def fixed(objective: str, temperature: float) -> Fixed:
    config = ModelConfig(objective=objective, temperature=temperature)
    return Fixed(config, helpers.small_encodings(), helpers.small_catalogue())


def test_sampled_bce_leaves_out_a_negative_that_is_the_positive() -> None:
    # Scores over temperature 0.5. Row 1: positive 0: 1/0.5 = 2; negatives 2: 1.6; 0: left out.
    # Row 2: positive 1: 2; negatives 3: 0, 2: 1.2. Row 3: positive 0: 1.2; negatives 1: 1.6, 2: 1.92.
    positives, negatives = [2.0, 2.0, 1.2], [1.6, 0.0, 1.2, 1.6, 1.92]
    total = sum(math.log1p(math.exp(-s)) for s in positives) + sum(math.log1p(math.exp(s)) for s in negatives)
    model = fixed("sampled_bce", 0.5)
    assert float(model.compute_loss(helpers.small_batch())) == pytest.approx(total / 8, rel=1e-6)
    assert {m.name: float(m.result()) for m in model.metrics}["mean_loss"] == pytest.approx(total / 8, rel=1e-6)


def test_in_batch_softmax_against_every_column_written_out() -> None:
    # Counts 1, 2, 3, 4 of 10 and uniform draws, S = 2: share of item v = (p + 2 / 4) / 3.
    share = [(p + 0.5) / 3 for p in (0.1, 0.2, 0.3, 0.4)]
    columns = [0, 1, 0, 2, 0, 3, 2, 1, 2]  # three positives, then the six draws
    expected = 0.0
    for row, positive in enumerate([0, 1, 0]):
        scores = {
            j: QUERIES[row] @ ITEMS[v] / 0.5 - math.log(share[v])
            for j, v in enumerate(columns)
            if j == row or v != positive
        }
        expected += math.log(sum(math.exp(s) for s in scores.values())) - scores[row]
    loss = fixed("in_batch_softmax", 0.5).compute_loss(helpers.small_batch())
    assert float(loss) == pytest.approx(expected / 3, rel=1e-5)


def test_in_batch_softmax_takes_each_draws_own_probability() -> None:
    batch = helpers.small_batch()
    before = float(fixed("in_batch_softmax", 0.5).compute_loss(batch))
    batch[features.NEGATIVE_LOG_Q] += 1.0
    assert float(fixed("in_batch_softmax", 0.5).compute_loss(batch)) < before


def test_in_batch_softmax_without_sampled_negatives() -> None:
    batch = helpers.small_batch()
    batch[features.NEGATIVE_INDICES] = tf.zeros([3, 0], tf.int64)
    batch[features.NEGATIVE_LOG_Q] = tf.zeros([3, 0])
    # Columns 0, 1, 0 with shares 0.1, 0.2, 0.1. Rows 1 and 3 see columns {own, 1}, row 2 all three.
    a, b = -math.log(0.1), -math.log(0.2)
    rows = [(1 + a, [b]), (1 + b, [a, a]), (0.6 + a, [0.8 + b])]
    expected = sum(math.log(sum(map(math.exp, [own, *others]))) - own for own, others in rows) / 3
    assert float(fixed("in_batch_softmax", 1.0).compute_loss(batch)) == pytest.approx(expected, rel=1e-5)


def two_tower(**settings: object) -> TwoTower:
    config = ModelConfig(kind="two_tower", hidden_units=(8,), output_dim=4, last_activation="linear", **settings)
    return TwoTower(config, helpers.small_encodings(), helpers.small_catalogue())


@pytest.mark.parametrize(("rate", "trained"), [(0.0, False), (0.9, True)])
def test_unknown_rate_trains_the_rows_of_unknown_ids(rate: float, trained: bool) -> None:
    tf.keras.utils.set_random_seed(3)
    model = two_tower(unknown_rate=rate)
    batch = helpers.small_batch()
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch, training=True)
    tables = [model.query_encoder.tables["user"].embeddings, model.item_encoder.tables["item"].embeddings]
    users, items = (tf.convert_to_tensor(g).numpy() for g in tape.gradient(loss, tables))
    assert bool(users[-1].any()) is trained
    assert bool(items[-1].any()) is trained
    # Row 0 is padding of history and genres; an id never reads it.
    assert not users[0].any()
    assert not items[0].any()


def test_ids_are_kept_outside_of_training() -> None:
    model = two_tower(unknown_rate=0.9)
    batch = helpers.small_batch()
    assert float(model.compute_loss(batch)) == float(model.compute_loss(batch))


def test_the_seed_decides_which_ids_are_forgotten() -> None:
    model, batch = two_tower(unknown_rate=0.5), helpers.small_batch()
    model.compute_loss(batch)

    def losses(seed: int) -> list[float]:
        tf.keras.utils.set_random_seed(seed)
        return [float(model.compute_loss(batch, training=True)) for _ in range(4)]

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)


def test_candidates_pass_the_item_tower_once() -> None:
    seen = []

    class Watched(TwoTower):
        def item_embeddings(self, columns: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
            seen.append(columns[features.CANDIDATE_INDEX].numpy().tolist())
            return super().item_embeddings(columns, training)

    config = ModelConfig(kind="two_tower")
    model = Watched(config, helpers.small_encodings(), helpers.small_catalogue())
    model.compute_loss(helpers.small_batch())
    assert [sorted(candidates) for candidates in seen] == [[0, 1, 2, 3]]


def test_gradients_of_tables_are_sparse() -> None:
    model = two_tower()
    with tf.GradientTape() as tape:
        loss = model.compute_loss(helpers.small_batch(), training=True)
    tables = [v for v in model.trainable_variables if "embedding" in v.name]
    assert len(tables) == 4
    for gradient in tape.gradient(loss, tables):
        assert isinstance(gradient, tf.IndexedSlices)
