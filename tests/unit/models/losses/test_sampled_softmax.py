"""Tests of the sampled softmax with log-q correction."""

from math import exp, log

import numpy as np
import pytest
import tensorflow as tf

from models.losses import sampled_softmax

QUERY = tf.constant([[1.0, 0.0], [0.0, 1.0]])
POSITIVE = tf.constant([[2.0, 9.0], [9.0, -1.0]])  # scores 2 and -1
NEGATIVES = tf.constant([[[1.0, 9.0], [0.0, 9.0]], [[9.0, 3.0], [9.0, -2.0]]])  # scores 1, 0 and 3, -2
NO_CORRECTION = (tf.zeros([2]), tf.zeros([2, 2]))


def test_by_hand() -> None:
    row_0 = -log(exp(2) / (exp(2) + exp(1) + exp(0)))
    row_1 = -log(exp(-1) / (exp(-1) + exp(3) + exp(-2)))

    loss = sampled_softmax(QUERY, POSITIVE, NEGATIVES, *NO_CORRECTION, 1.0)

    assert loss.numpy() == pytest.approx((row_0 + row_1) / 2, rel=1e-6)


def test_temperature_divides_the_score_and_not_log_q() -> None:
    positive_log_q, negative_log_q = tf.math.log([0.5, 0.25]), tf.math.log([[0.25, 0.125], [0.5, 0.5]])
    # exp(s / .5 - log q) = exp(2 s) / q
    row_0 = -log((exp(4) / 0.5) / (exp(4) / 0.5 + exp(2) / 0.25 + exp(0) / 0.125))
    row_1 = -log((exp(-2) / 0.25) / (exp(-2) / 0.25 + exp(6) / 0.5 + exp(-4) / 0.5))

    loss = sampled_softmax(QUERY, POSITIVE, NEGATIVES, positive_log_q, negative_log_q, 0.5)

    assert loss.numpy() == pytest.approx((row_0 + row_1) / 2, rel=1e-6)


def test_masked_negatives_do_not_count() -> None:
    mask = tf.constant([[True, False], [False, False]])
    # Row 1 has no negative left and adds 0.
    row_0 = -log(exp(2) / (exp(2) + exp(1)))

    loss = sampled_softmax(QUERY, POSITIVE, NEGATIVES, *NO_CORRECTION, 1.0, mask)

    assert loss.numpy() == pytest.approx(row_0 / 2, rel=1e-6)


@pytest.mark.parametrize(("correction", "optimum"), [(1.0, "log p"), (0.0, "log p - log q")])
def test_the_correction_makes_the_optimum_the_log_probability(correction: float, optimum: str) -> None:
    # One query, positives by p, one negative by q, accidental hits masked. Of items a and b either is the positive:
    # a with weight p(a) q(b), b with p(b) q(a), so at the optimum c(a) - c(b) = log p(a) q(b) / p(b) q(a). With
    # c = s - log q that is s(a) - s(b) = log p(a) - log p(b); without the correction log q stays in it.
    p, q = np.array([0.6, 0.3, 0.1], np.float32), np.array([0.7, 0.1, 0.2], np.float32)
    log_q = tf.constant(np.log(q) * correction)
    # All nine draws at once: each is a query of its own, weighted below.
    positives, negatives = np.repeat(np.arange(3), 3), np.tile(np.arange(3), 3)
    scores = tf.Variable(tf.zeros([3, 1]))

    def gradient(start: np.ndarray) -> np.ndarray:
        scores.assign(start[:, np.newaxis])
        with tf.GradientTape() as tape:
            total = 0.0
            for v, w in zip(positives, negatives, strict=True):
                total += p[v] * q[w] * sampled_softmax(
                    tf.ones([1, 1]), scores[v : v + 1], scores[tf.newaxis, w : w + 1],
                    log_q[v : v + 1], log_q[tf.newaxis, w : w + 1], 1.0, tf.constant([[v != w]]),
                )  # fmt: skip
        return tf.convert_to_tensor(tape.gradient(total, scores)).numpy()

    starts = {"log p": np.log(p), "log p - log q": np.log(p) - np.log(q)}
    for name, start in starts.items():
        assert (np.abs(gradient(start)).max() < 1e-6) == (name == optimum)


def test_large_scores_stay_finite() -> None:
    query = tf.Variable([[1e6, 0.0]])
    with tf.GradientTape() as tape:
        loss = sampled_softmax(
            query, tf.constant([[-1.0, 0.0]]), tf.constant([[[1.0, 0.0], [5.0, 0.0]]]),
            tf.zeros([1]), tf.zeros([1, 2]), 0.5, tf.constant([[True, False]]),
        )  # fmt: skip
    gradient = tape.gradient(loss, query)

    # Scores -2e6 and 2e6: the loss is their difference, its gradient (1 - -1) / .5.
    assert loss.numpy() == pytest.approx(4e6)
    np.testing.assert_allclose(gradient, [[4.0, 0.0]])


def test_traced_once_for_any_batch_size() -> None:
    rows, pairs = tf.TensorSpec([None, 2]), tf.TensorSpec([None, None, 2])
    function = tf.function(
        lambda q, p, n, positive, negative: sampled_softmax(q, p, n, positive, negative, 1.0),
        input_signature=[rows, rows, pairs, tf.TensorSpec([None]), tf.TensorSpec([None, None])],
    )

    whole = function(QUERY, POSITIVE, NEGATIVES, *NO_CORRECTION).numpy()
    parts = [
        function(QUERY[i : i + 1], POSITIVE[i : i + 1], NEGATIVES[i : i + 1], [0.0], [[0.0, 0.0]]).numpy()
        for i in range(2)
    ]
    assert whole == pytest.approx(sum(parts) / 2)
