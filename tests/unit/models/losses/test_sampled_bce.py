"""Tests of the sampled sigmoid cross-entropy."""

from math import exp, log

import numpy as np
import pytest
import tensorflow as tf

from models.losses import sampled_bce

QUERY = tf.constant([[1.0, 0.0], [0.0, 1.0]])
POSITIVE = tf.constant([[2.0, 9.0], [9.0, -1.0]])  # scores 2 and -1
NEGATIVES = tf.constant([[[1.0, 9.0], [0.0, 9.0]], [[9.0, 3.0], [9.0, -2.0]]])  # scores 1, 0 and 3, -2


def positive_loss(score: float) -> float:
    return -log(1 / (1 + exp(-score)))


def negative_loss(score: float) -> float:
    return -log(1 - 1 / (1 + exp(-score)))


def test_the_mean_over_all_pairs_by_hand() -> None:
    expected = positive_loss(2) + positive_loss(-1) + sum(negative_loss(s) for s in (1, 0, 3, -2))

    assert sampled_bce(QUERY, POSITIVE, NEGATIVES, 1.0).numpy() == pytest.approx(expected / 6, rel=1e-6)


def test_scores_are_divided_by_the_temperature() -> None:
    expected = positive_loss(4) + positive_loss(-2) + sum(negative_loss(s) for s in (2, 0, 6, -4))

    assert sampled_bce(QUERY, POSITIVE, NEGATIVES, 0.5).numpy() == pytest.approx(expected / 6, rel=1e-6)


def test_masked_negatives_do_not_count() -> None:
    mask = tf.constant([[True, False], [False, False]])
    expected = (positive_loss(2) + positive_loss(-1) + negative_loss(1)) / 3

    assert sampled_bce(QUERY, POSITIVE, NEGATIVES, 1.0, mask).numpy() == pytest.approx(expected, rel=1e-6)


def test_no_negatives() -> None:
    expected = (positive_loss(2) + positive_loss(-1)) / 2

    assert sampled_bce(QUERY, POSITIVE, tf.zeros([2, 0, 2]), 1.0).numpy() == pytest.approx(expected, rel=1e-6)


def test_large_scores_stay_finite() -> None:
    query = tf.Variable([[1e4, 0.0]])
    with tf.GradientTape() as tape:
        loss = sampled_bce(query, tf.constant([[-1.0, 0.0]]), tf.constant([[[1.0, 0.0]]]), 1.0)
    gradient = tape.gradient(loss, query)

    # Both pairs cost the score itself, 1e4; each pulls the query by 1, halved by the mean.
    assert loss.numpy() == pytest.approx(1e4)
    np.testing.assert_allclose(gradient, [[1.0, 0.0]])


def test_scores_between_0_and_1_cannot_go_below_the_known_floor() -> None:
    # With ReLU towers the best is a positive at 1 and a negative at 0: .3133 and .6931.
    unit, other = tf.constant([[1.0, 0.0]]), tf.constant([[[0.0, 1.0]]])

    assert sampled_bce(unit, unit, other, 1.0).numpy() == pytest.approx((0.31326 + 0.69315) / 2, abs=1e-5)


def test_traced_once_for_any_batch_size() -> None:
    rows = tf.TensorSpec([None, 2])
    function = tf.function(
        lambda q, p, n: sampled_bce(q, p, n, 1.0), input_signature=[rows, rows, tf.TensorSpec([None, None, 2])]
    )

    whole = function(QUERY, POSITIVE, NEGATIVES).numpy()
    parts = [function(QUERY[i : i + 1], POSITIVE[i : i + 1], NEGATIVES[i : i + 1]).numpy() for i in range(2)]
    assert whole == pytest.approx(sum(parts) / 2)
