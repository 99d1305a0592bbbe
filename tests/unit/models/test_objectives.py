"""The objectives, by hand, over embeddings that are known."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
import tensorflow as tf

from models import features
from models.config import ModelConfig
from tests.unit.models import helpers
from tests.unit.models.fixed import HARD, ITEMS, OBJECTIVES, QUERIES, Fixed, fixed, recorded, with_hard, without_sampled


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


@pytest.mark.parametrize("objective", OBJECTIVES)
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


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_no_hard_negative_is_none(objective: str) -> None:
    model = fixed(objective, 0.5)
    without = float(model.compute_loss(helpers.small_batch()))
    assert float(model.compute_loss(with_hard([[-1, -1]] * 3))) == pytest.approx(without, rel=1e-6)


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
