"""Tests of the in-batch softmax with log-q correction."""

from math import exp, log

import numpy as np
import pytest
import tensorflow as tf

from models.losses import in_batch_softmax

QUERY = tf.constant([[1.0, 0.0], [0.0, 1.0]])
CANDIDATES = tf.constant([[2.0, 1.0], [0.0, 3.0], [1.0, -1.0]])
# Scores: row 0: 2 0 1; row 1: 1 3 -1.
POSITIVES = tf.constant([0, 1])
NO_CORRECTION = tf.zeros([2])
ONCE_EACH = tf.zeros([3])


def test_by_hand_with_a_mixed_negative() -> None:
    row_0 = -log(exp(2) / (exp(2) + exp(0) + exp(1)))
    row_1 = -log(exp(3) / (exp(1) + exp(3) + exp(-1)))

    loss = in_batch_softmax(QUERY, CANDIDATES, POSITIVES, NO_CORRECTION, ONCE_EACH, 1.0)

    assert loss.numpy() == pytest.approx((row_0 + row_1) / 2, rel=1e-6)


def test_temperature_divides_the_score_and_not_log_q() -> None:
    # exp(s / .5 - log q) = exp(2 s) / q
    row_0 = -log((exp(4) / 0.5) / (exp(4) / 0.5 + exp(0) / 0.25 + exp(2) / 0.25))
    row_1 = -log((exp(6) / 0.25) / (exp(2) / 0.5 + exp(6) / 0.25 + exp(-2) / 0.25))

    log_q, log_weights = tf.math.log([0.5, 0.25]), -tf.math.log([0.5, 0.25, 0.25])
    loss = in_batch_softmax(QUERY, CANDIDATES, POSITIVES, log_q, log_weights, 0.5)

    assert loss.numpy() == pytest.approx((row_0 + row_1) / 2, rel=1e-6)


def test_copies_weigh_for_other_rows_only() -> None:
    # Item 0 has three copies, each expected twice: 1.5 for row 1; for row 0, whose positive it is, one of them: 0.5.
    row_0 = -log(0.5 * exp(2) / (0.5 * exp(2) + exp(0) + exp(1)))
    row_1 = -log(exp(3) / (1.5 * exp(1) + exp(3) + exp(-1)))

    loss = in_batch_softmax(QUERY, CANDIDATES, POSITIVES, tf.math.log([2.0, 1.0]), tf.math.log([1.5, 1.0, 1.0]), 1.0)

    assert loss.numpy() == pytest.approx((row_0 + row_1) / 2, rel=1e-6)


def test_all_rows_with_one_item_cost_nothing() -> None:
    loss = in_batch_softmax(QUERY, CANDIDATES[:1], tf.constant([0, 0]), NO_CORRECTION, tf.math.log([2.0]), 1.0)

    assert loss.numpy() == pytest.approx(0.0)


def test_an_item_without_copies_is_no_negative() -> None:
    row_0 = -log(exp(2) / (exp(2) + exp(0)))
    row_1 = -log(exp(3) / (exp(1) + exp(3)))
    query = tf.Variable(QUERY)

    with tf.GradientTape() as tape:
        loss = in_batch_softmax(query, CANDIDATES, POSITIVES, NO_CORRECTION, tf.math.log([1.0, 1.0, 0.0]), 1.0)

    assert loss.numpy() == pytest.approx((row_0 + row_1) / 2, rel=1e-6)
    assert np.isfinite(tape.gradient(loss, query).numpy()).all()


def test_other_positives_of_the_same_query_are_left_out() -> None:
    # Both rows are of query 5: each sees its own positive and the mixed negative only.
    row_0 = -log(exp(2) / (exp(2) + exp(1)))
    row_1 = -log(exp(3) / (exp(3) + exp(-1)))

    loss = in_batch_softmax(QUERY, CANDIDATES, POSITIVES, NO_CORRECTION, ONCE_EACH, 1.0, tf.constant([5, 5]))

    assert loss.numpy() == pytest.approx((row_0 + row_1) / 2, rel=1e-6)


def test_hard_negatives_are_their_rows_own_and_uncorrected() -> None:
    # Expected twice, once, once among the columns; row 0 has hard negatives that score 1 and 3, of which the second
    # does not count, row 1 one that scores -1 and one that scores 0.
    log_q, log_weights = tf.math.log([2.0, 1.0]), -tf.math.log([2.0, 1.0, 1.0])
    hard = tf.constant([[[1.0, 9.0], [3.0, 9.0]], [[9.0, -1.0], [9.0, 0.0]]])
    mask = tf.constant([[True, False], [True, True]])
    row_0 = -log((exp(2) / 2) / (exp(2) / 2 + exp(0) + exp(1) + exp(1)))
    row_1 = -log(exp(3) / (exp(1) / 2 + exp(3) + exp(-1) + exp(-1) + exp(0)))

    loss = in_batch_softmax(QUERY, CANDIDATES, POSITIVES, log_q, log_weights, 1.0, hard=hard, hard_mask=mask)

    assert loss.numpy() == pytest.approx((row_0 + row_1) / 2, rel=1e-6)


def test_the_querys_positives_are_left_out_wherever_they_stand() -> None:
    # Rows 0 and 1 are of query 5, row 2 of query 6 with row 1's item; item 0 was drawn as a negative too. Rows 0 and 1
    # see their own column only; row 2 sees item 0 (twice) and its own.
    query, candidates = tf.ones([3, 1]), tf.constant([[1.0], [2.0]])
    row_2 = -log(exp(2) / (2 * exp(1) + exp(2)))

    loss = in_batch_softmax(
        query,
        candidates,
        tf.constant([0, 1, 1]),
        tf.zeros([3]),
        tf.math.log([2.0, 2.0]),
        1.0,
        tf.constant([5, 5, 6], tf.int64),
    )

    assert loss.numpy() == pytest.approx(row_2 / 3, rel=1e-6)


@pytest.mark.parametrize(("correction", "optimum"), [(1.0, "log p(v|u)"), (0.0, "PMI")])
def test_the_correction_makes_the_optimum_the_log_probability(correction: float, optimum: str) -> None:
    # Two queries, three items, one of them popular; batches of two rows drawn by p(u, v), every one enumerated. Row u
    # then has its own item v and the other row's w, drawn by p(w): of items a and b, a is the positive with weight
    # p(a|u) p(b), b with p(b|u) p(a), so at the optimum c(u, a) - c(u, b) = log p(a|u) / p(a) - log p(b|u) / p(b): the
    # pointwise mutual information. With c = s - log p(v) the score itself is log p(v|u), up to a constant of u.
    joint = np.array([[0.42, 0.06, 0.12], [0.30, 0.08, 0.02]], np.float32)
    log_p = np.log(joint.sum(axis=0))
    conditional = np.log(joint / joint.sum(axis=1, keepdims=True))
    scores = tf.Variable(tf.zeros([3, 2]))
    rows = [(u, v) for u in range(2) for v in range(3)]

    @tf.function
    def gradient(start: tf.Tensor) -> tf.Tensor:
        scores.assign(start)
        with tf.GradientTape() as tape:
            total = 0.0
            for u, v in rows:
                for other, w in rows:
                    # The columns: v and w, or v alone where they are the same.
                    columns = sorted({v, w})
                    correction_of = log_p * correction
                    copies = np.array([[v, w].count(item) for item in columns])
                    total += (
                        joint[u, v]
                        * joint[other, w]
                        * in_batch_softmax(
                            tf.one_hot([u, other], 2),
                            tf.gather(scores, columns),
                            tf.constant([columns.index(v), columns.index(w)]),
                            tf.constant(correction_of[[v, w]], tf.float32),
                            tf.constant(np.log(copies) - correction_of[columns], tf.float32),
                            1.0,
                        )
                    )
        return tf.convert_to_tensor(tape.gradient(total, scores))

    for name, start in {"log p(v|u)": conditional, "PMI": conditional - log_p}.items():
        # The constant of each query is free.
        found = gradient(tf.constant((start + np.array([[3.0], [-1.0]])).T, tf.float32)).numpy()
        assert (np.abs(found).max() < 1e-6) == (name == optimum)


def test_learnt_from_batches_the_scores_follow_the_popularity() -> None:
    # Batches drawn by popularity: the items' own frequency is both the positives' and the negatives'
    # distribution. Corrected scores must grow with log popularity (slope 1), uncorrected ones stay flat.
    generator = np.random.default_rng(0)
    share = 1 / np.arange(1, 101)
    share /= share.sum()
    slopes = []
    for correction in (1.0, 0.0):
        scores = tf.Variable(tf.zeros([100, 1]))
        optimiser = tf.keras.optimizers.Adam(0.05)
        log_q = tf.constant(np.log(share) * correction, tf.float32)

        @tf.function
        def step(items: tf.Tensor, scores=scores, optimiser=optimiser, log_q=log_q) -> None:
            with tf.GradientTape() as tape:
                distinct, places, copies = tf.unique_with_counts(items)
                log_weights = tf.math.log(tf.cast(copies, tf.float32)) - tf.gather(log_q, distinct)
                loss = in_batch_softmax(
                    tf.ones([64, 1]), tf.gather(scores, distinct), places, tf.gather(log_q, items), log_weights, 1.0
                )
            optimiser.apply_gradients([(tf.convert_to_tensor(tape.gradient(loss, scores)), scores)])

        for _ in range(300):
            step(tf.constant(generator.choice(100, size=64, p=share)))
        # The most frequent items are left out: with them in a batch, most columns are masked.
        slopes.append(np.polyfit(np.log(share[5:50]), scores.numpy()[5:50, 0], 1)[0])

    assert slopes[0] == pytest.approx(1.0, abs=0.3)
    assert abs(slopes[1]) < 0.3


def test_large_scores_stay_finite() -> None:
    query = tf.Variable(QUERY * 1e4)
    with tf.GradientTape() as tape:
        loss = in_batch_softmax(query, -CANDIDATES, POSITIVES, NO_CORRECTION, ONCE_EACH, 0.01)
    gradient = tape.gradient(loss, query)

    # Row 0: scores -2e6, 0, -1e6; row 1: -1e6, -3e6, 1e6. Losses 2e6 and 4e6.
    assert loss.numpy() == pytest.approx(3e6)
    assert np.isfinite(gradient.numpy()).all()


def test_traced_once_for_any_batch_size() -> None:
    vectors, indices, numbers = tf.TensorSpec([None, 2]), tf.TensorSpec([None], tf.int32), tf.TensorSpec([None])
    function = tf.function(
        lambda query, candidates, positives, log_q, log_weights: in_batch_softmax(
            query, candidates, positives, log_q, log_weights, 1.0
        ),
        input_signature=[vectors, vectors, indices, numbers, numbers],
    )

    assert function(QUERY[:1], CANDIDATES[:1], [0], [0.0], [0.0]).numpy() == pytest.approx(0.0)
    assert function(QUERY, CANDIDATES, POSITIVES, NO_CORRECTION, ONCE_EACH).numpy() == pytest.approx(
        in_batch_softmax(QUERY, CANDIDATES, POSITIVES, NO_CORRECTION, ONCE_EACH, 1.0).numpy()
    )
