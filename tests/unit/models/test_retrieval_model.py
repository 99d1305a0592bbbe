from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from models import features
from models.checkpoints import TrainingCheckpoints
from models.config import ModelConfig
from models.dat import DAT
from models.optimizer import LazyAdam
from models.retrieval_model import category_weights
from models.two_tower import TwoTower
from tests.unit.models import helpers
from tests.unit.models.fixed import HARD, ITEMS, OBJECTIVES, Fixed, fixed, with_hard, without_sampled


def test_rows_count_by_the_size_of_their_category() -> None:
    # Counts 1, 2, 3, 4, categories 0, 1, 0, 1: 4 train rows of the first, 6 of the second. With 1: 1/4 and 1/6, in the
    # mean over the ten rows (1 + 1) / 10. With 1/2: 1/2 and 1/sqrt(6), in the mean (2 + sqrt(6)) / 10.
    catalogue = helpers.small_catalogue()
    np.testing.assert_array_equal(category_weights(catalogue, 0.0), [1, 1, 1, 1])
    np.testing.assert_allclose(category_weights(catalogue, 1.0), [1.25, 5 / 6, 1.25, 5 / 6], rtol=1e-6)
    mean = (2 + math.sqrt(6)) / 10
    expected = [0.5 / mean, 1 / math.sqrt(6) / mean] * 2
    np.testing.assert_allclose(category_weights(catalogue, 0.5), expected, rtol=1e-6)


def test_what_has_no_category_or_no_train_row_counts_as_one() -> None:
    catalogue = dataclasses.replace(
        helpers.small_catalogue(), categories=np.array([0, 1, -1, 2]), counts=np.array([1, 3, 5, 0])
    )
    # 1 and 1/3, in the mean over their four rows 1/2.
    np.testing.assert_allclose(category_weights(catalogue, 1.0), [2, 2 / 3, 1, 1], rtol=1e-6)
    nothing = dataclasses.replace(catalogue, counts=np.zeros(4, np.int64))
    np.testing.assert_array_equal(category_weights(nothing, 1.0), [1, 1, 1, 1])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_how_the_items_are_numbered_is_no_matter(objective: str) -> None:
    """In the small batch an item's place among the candidates is its number, and here it is not."""
    numbers = np.array([2, 0, 3, 1])  # of items 0, 1, 2, 3
    catalogue = dataclasses.replace(helpers.small_catalogue(), log_q=np.log(np.array([0.1, 0.2, 0.3, 0.4], np.float32)))
    items = np.argsort(numbers)

    class Renumbered(Fixed):
        pass

    Renumbered.items = ITEMS[items]
    renumbered = dataclasses.replace(
        catalogue,
        columns={key: column[items] for key, column in catalogue.columns.items()},
        categories=catalogue.categories[items],
        counts=catalogue.counts[items],
        log_q=catalogue.log_q[items],
    )
    config = ModelConfig(objective=objective, temperature=0.5, category_balance=1.0)
    batch = with_hard(HARD)
    other = dict(batch)
    for key in (features.CANDIDATE_INDEX, features.NEGATIVE_INDICES):
        other[key] = tf.gather(numbers, batch[key])
    other[features.HARD_NEGATIVE_INDICES] = tf.constant([[1, -1], [1, 0], [-1, 3]], tf.int64)
    encodings = helpers.small_encodings()
    expected = float(Fixed(config, encodings, catalogue).compute_loss(batch))
    assert float(Renumbered(config, encodings, renumbered).compute_loss(other)) == pytest.approx(expected, rel=1e-5)


def test_both_sides_are_told_that_it_is_training() -> None:
    told = []

    class Watched(Fixed):
        def query_embeddings(self, columns: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
            told.append(training)
            return super().query_embeddings(columns)

        def item_embeddings(self, columns: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
            told.append(training)
            return super().item_embeddings(columns)

    model = Watched(ModelConfig(), helpers.small_encodings(), helpers.small_catalogue())
    model.compute_loss(helpers.small_batch(), training=True)
    model.compute_loss(helpers.small_batch())
    assert told == [True, True, False, False]


def test_a_forgotten_query_is_still_the_same_query() -> None:
    # Every row but the last is of query 1 with items 0 and 1: nothing of the loss is left, whatever id the tower reads.
    batch = without_sampled(helpers.small_batch())
    batch[features.QUERY_INDEX] = tf.constant([1, 1, 1], tf.int64)
    model = two_tower(objective="in_batch_softmax", mask_same_query=True, unknown_rate=0.5)
    assert float(model.compute_loss(batch, training=True)) == pytest.approx(0.0, abs=1e-6)


def test_a_learned_temperature_stays_above_its_bound_and_comes_back() -> None:
    model = fixed("sampled_softmax", 0.02, learn_temperature=True)
    optimizer = LazyAdam(1.0, jit_compile=False)
    optimizer.build(model.trainable_variables)
    optimizer.apply_gradients([(tf.constant(1.0), model.log_temperature)])
    # log .02 - 1 would be a temperature of .0074.
    assert float(model.temperature) == pytest.approx(0.01)
    for _ in range(20):
        optimizer.apply_gradients([(tf.constant(-1.0), model.log_temperature)])
    assert float(model.temperature) > 0.02


def test_a_learned_temperature_is_trained_saved_and_no_matter_of_the_towers(tmp_path: Path) -> None:
    settings = {"objective": "in_batch_softmax", "temperature": 0.5, "learn_temperature": True}
    model, batch = two_tower(**settings), helpers.small_batch()
    model.compile(optimizer=LazyAdam(0.1, jit_compile=False), jit_compile=False)
    model.fit(tf.data.Dataset.from_tensors(batch), epochs=2, verbose=0)
    learned = float(model.temperature)
    assert learned != pytest.approx(0.5)
    TrainingCheckpoints(str(tmp_path), model, model.optimizer).save(2)

    other = two_tower(**settings)
    other.compute_loss(batch)
    optimizer = LazyAdam(0.1, jit_compile=False)
    optimizer.build(other.trainable_variables)
    assert TrainingCheckpoints(str(tmp_path), other, optimizer).restore() == 2
    assert float(other.temperature) == learned

    before = other.query_embeddings(batch).numpy()
    other.log_temperature.assign(0.0)
    np.testing.assert_array_equal(other.query_embeddings(batch), before)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("kind", [TwoTower, DAT])
def test_rows_of_zeros_give_a_finite_loss_and_gradients(kind: type[TwoTower], objective: str) -> None:
    config = ModelConfig(
        objective=objective, temperature=0.01, learn_temperature=True, hidden_units=(8,),
        augmented_dim=4, output_dim=4, mimic={"normalise": True},
    )  # fmt: skip
    model, batch = kind(config, helpers.small_encodings(), helpers.small_catalogue()), with_hard(HARD)
    model.compute_loss(batch)
    for variable in model.trainable_variables:
        if variable is not model.log_temperature:
            variable.assign(tf.zeros_like(variable))
    assert not model.query_embeddings(batch).numpy().any()
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch, training=True)
    assert np.isfinite(float(loss))
    for gradient in tape.gradient(loss, model.trainable_variables):
        assert gradient is None or np.isfinite(tf.convert_to_tensor(gradient)).all()


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
