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
from models.retrieval_model import RetrievalModel, category_weights
from models.two_tower import TwoTower
from tests.unit.models import helpers

QUERIES = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], np.float32)
ITEMS = np.array([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6], [-1.0, 0.0]], np.float32)


class Fixed(RetrievalModel):
    """Embeddings by table: queries by index 1..3, items by candidate index."""

    items = ITEMS

    def query_embeddings(self, columns: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        return tf.gather(QUERIES, columns[features.QUERY_INDEX] - 1)

    def item_embeddings(self, columns: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        return tf.gather(self.items, columns[features.CANDIDATE_INDEX])


def fixed(objective: str, temperature: float, **settings: object) -> Fixed:
    config = ModelConfig(objective=objective, temperature=temperature, **settings)
    return Fixed(config, helpers.small_encodings(), helpers.small_catalogue())


def recorded(model: RetrievalModel) -> dict[str, float]:
    return {m.name: float(m.result()) for m in model.metrics}


def test_sampled_bce_leaves_out_a_negative_that_is_the_positive() -> None:
    # Scores over temperature 0.5. Row 1: positive 0: 1/0.5 = 2; negatives 2: 1.6; 0: left out.
    # Row 2: positive 1: 2; negatives 3: 0, 2: 1.2. Row 3: positive 0: 1.2; negatives 1: 1.6, 2: 1.92.
    positives, negatives = [2.0, 2.0, 1.2], [1.6, 0.0, 1.2, 1.6, 1.92]
    total = sum(math.log1p(math.exp(-s)) for s in positives) + sum(math.log1p(math.exp(s)) for s in negatives)
    model = fixed("sampled_bce", 0.5)
    assert float(model.compute_loss(helpers.small_batch())) == pytest.approx(total / 8, rel=1e-6)
    assert recorded(model)["mean_loss"] == pytest.approx(total / 8, rel=1e-6)


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


def test_sampled_softmax_against_the_rows_own_negatives() -> None:
    batch = helpers.small_batch()
    batch[features.NEGATIVE_LOG_Q] = tf.math.log([[0.5, 0.1], [0.2, 0.4], [0.3, 0.1]])
    # exp(score / .5) / q, the positive with the catalogue's 1/4. Row 1: 2 and 1.6; its second negative is its positive
    # and left out. Row 2: 2 against 0 and 1.2. Row 3: 1.2 against 1.6 and 1.92.
    rows = [(2, [(1.6, 0.5)]), (2, [(0, 0.2), (1.2, 0.4)]), (1.2, [(1.6, 0.3), (1.92, 0.1)])]
    expected = 0.0
    for own, others in rows:
        weight = math.exp(own) / 0.25
        expected -= math.log(weight / (weight + sum(math.exp(s) / q for s, q in others)))
    assert float(fixed("sampled_softmax", 0.5).compute_loss(batch)) == pytest.approx(expected / 3, rel=1e-5)


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


@pytest.mark.parametrize("objective", ["sampled_bce", "sampled_softmax", "in_batch_softmax"])
def test_each_objective_takes_the_rows_weights(objective: str) -> None:
    # Positives are candidates 0, 1, 0; with 1 they weigh 5/4, 5/6, 5/4. A row's own loss does not depend on weights.
    def loss(balance: float, weights: list[float] | None = None) -> float:
        model = fixed(objective, 0.5, category_balance=balance)
        if weights is not None:
            model._row_weights = tf.constant(weights)
        return float(model.compute_loss(helpers.small_batch()))

    of_first_and_third, of_second = loss(0.0, [1.0, 0.0, 0.0, 0.0]), loss(0.0, [0.0, 1.0, 0.0, 0.0])
    assert of_first_and_third > 0
    assert of_second > 0
    assert loss(0.0) == pytest.approx(of_first_and_third + of_second, rel=1e-5)
    assert loss(1.0) == pytest.approx(1.25 * of_first_and_third + 5 / 6 * of_second, rel=1e-5)


@pytest.mark.parametrize("objective", ["sampled_bce", "sampled_softmax", "in_batch_softmax"])
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


def with_hard(indices: list[list[int]]) -> dict[str, tf.Tensor]:
    return {**helpers.small_batch(), features.HARD_NEGATIVE_INDICES: tf.constant(indices, tf.int64)}


# Candidates 3, 3, 2 and none; row 2's second is its own positive. Scores over .5: -2, 0, 1.92.
HARD = [[3, -1], [3, 1], [-1, 2]]


def test_hard_negatives_in_sampled_bce() -> None:
    batch = helpers.small_batch()
    before = float(fixed("sampled_bce", 0.5).compute_loss(batch))
    added = math.log1p(math.exp(-2)) + math.log1p(math.exp(0)) + math.log1p(math.exp(1.92))
    # Eight pairs counted before, three more now.
    loss = fixed("sampled_bce", 0.5).compute_loss(with_hard(HARD))
    assert float(loss) == pytest.approx((before * 8 + added) / 11, rel=1e-5)


def test_hard_negatives_in_sampled_softmax() -> None:
    # Two draws of 1/4: each is expected half a time, and so is the positive; a hard one is there once.
    rows = [(2, [1.6], -2), (2, [0, 1.2], 0), (1.2, [1.6, 1.92], 1.92)]
    expected = 0.0
    for own, others, hard in rows:
        weight = math.exp(own) / 0.5
        expected -= math.log(weight / (weight + sum(math.exp(s) / 0.5 for s in others) + math.exp(hard)))
    loss = fixed("sampled_softmax", 0.5).compute_loss(with_hard(HARD))
    assert float(loss) == pytest.approx(expected / 3, rel=1e-5)


def test_hard_negatives_in_in_batch_softmax() -> None:
    # As without them (above), but that shares become counts among nine columns: times 9.
    count = [9 * (p + 0.5) / 3 for p in (0.1, 0.2, 0.3, 0.4)]
    columns = [0, 1, 0, 2, 0, 3, 2, 1, 2]
    expected = 0.0
    for row, (positive, hard) in enumerate([(0, -2), (1, 0), (0, 1.92)]):
        weights = {
            j: math.exp(QUERIES[row] @ ITEMS[v] / 0.5) / count[v]
            for j, v in enumerate(columns)
            if j == row or v != positive
        }
        expected += math.log(sum(weights.values()) + math.exp(hard)) - math.log(weights[row])
    loss = fixed("in_batch_softmax", 0.5).compute_loss(with_hard(HARD))
    assert float(loss) == pytest.approx(expected / 3, rel=1e-5)


@pytest.mark.parametrize("objective", ["sampled_bce", "sampled_softmax", "in_batch_softmax"])
def test_no_hard_negative_is_none(objective: str) -> None:
    model = fixed(objective, 0.5)
    without = float(model.compute_loss(helpers.small_batch()))
    assert float(model.compute_loss(with_hard([[-1, -1]] * 3))) == pytest.approx(without, rel=1e-6)


def without_sampled(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    rows = len(batch[features.CANDIDATE_INDEX])
    none = {features.NEGATIVE_INDICES: tf.zeros([rows, 0], tf.int64), features.NEGATIVE_LOG_Q: tf.zeros([rows, 0])}
    return {**batch, **none}


# Scores of the queries to candidates 0, 1: 1, 0; 0, 1; .6, .8. Shares .1 and .2.
@pytest.mark.parametrize(
    ("queries", "masked", "seen"),
    [
        # Rows 1 and 2 are of one query, of which candidates 0 and 1 are both positives. Row 3 sees candidate 1.
        ([1, 1, 3], True, [(0, []), (1, []), (0, [1])]),
        # Row 1 and row 3 are: for both candidate 1 is another query's, for row 2 candidate 0, twice.
        ([1, 2, 1], True, [(0, [1]), (1, [0, 0]), (0, [1])]),
        # Not masked: the same but for what row 2 sees of its own query.
        ([1, 1, 3], False, [(0, [1]), (1, [0, 0]), (0, [1])]),
        # Index 4 of three queries is any unknown one: rows 1 and 2 are not of one query.
        ([4, 4, 3], True, [(0, [1]), (1, [0, 0]), (0, [1])]),
    ],
)
def test_masking_the_querys_other_positives(
    queries: list[int], masked: bool, seen: list[tuple[int, list[int]]]
) -> None:
    class ByRow(Fixed):
        """Embeds by the row of the batch, so that rows of one query can have other scores."""

        def query_embeddings(self, columns: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
            return tf.constant(QUERIES)

    batch = without_sampled(helpers.small_batch()) | {features.QUERY_INDEX: tf.constant(queries, tf.int64)}
    config = ModelConfig(objective="in_batch_softmax", mask_same_query=masked)
    model = ByRow(config, helpers.small_encodings(), helpers.small_catalogue())
    weights = np.exp(QUERIES @ ITEMS[:2].T) / [0.1, 0.2]
    expected = 0.0
    for row, (own, others) in enumerate(seen):
        expected -= math.log(weights[row, own] / (weights[row, own] + sum(weights[row, v] for v in others)))
    assert float(model.compute_loss(batch)) == pytest.approx(expected / 3, rel=1e-5)


def test_a_forgotten_query_is_still_the_same_query() -> None:
    # Every row but the last is of query 1 with items 0 and 1: nothing of the loss is left, whatever id the tower reads.
    batch = without_sampled(helpers.small_batch())
    batch[features.QUERY_INDEX] = tf.constant([1, 1, 1], tf.int64)
    model = two_tower(objective="in_batch_softmax", mask_same_query=True, unknown_rate=0.5)
    assert float(model.compute_loss(batch, training=True)) == pytest.approx(0.0, abs=1e-6)


OBJECTIVES = ("sampled_bce", "sampled_softmax", "in_batch_softmax")


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_learned_temperature_starts_as_the_fixed_one(objective: str) -> None:
    model = fixed(objective, 0.2, learn_temperature=True)
    batch = helpers.small_batch()
    assert float(model.compute_loss(batch)) == pytest.approx(float(fixed(objective, 0.2).compute_loss(batch)), rel=1e-6)
    assert recorded(model)["temperature"] == pytest.approx(0.2)
    assert "temperature" not in recorded(fixed(objective, 0.2))
    assert [v.name for v in model.trainable_variables] == ["log_temperature:0"]


def test_the_temperatures_gradient() -> None:
    # One row with score 1, its negative with score -1, uniform: loss = log(1 + exp(-2 / t)) with t = exp(x), so
    # dloss/dx = (2 / t) exp(-2 / t) / (1 + exp(-2 / t)). The fit is good, so a smaller temperature is better.
    batch = {key: value[:1] for key, value in helpers.small_batch().items()}
    batch[features.NEGATIVE_INDICES] = tf.constant([[3]], tf.int64)
    batch[features.NEGATIVE_LOG_Q] = tf.math.log([[0.25]])
    model = fixed("sampled_softmax", 0.5, learn_temperature=True)
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch)
    expected = 4 * math.exp(-4) / (1 + math.exp(-4))
    assert float(tape.gradient(loss, model.log_temperature)) == pytest.approx(expected, rel=1e-5)


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
