"""Tests of scores, and of the losses of queries with several vectors."""

from math import exp, log

import numpy as np
import pytest
import tensorflow as tf

from models.losses import in_batch_softmax, sampled_bce, sampled_softmax, scores, scores_of_all

TWO_VECTORS = tf.constant([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 1.0], [0.0, -1.0]]])
ITEMS = tf.constant([[2.0, 1.0], [0.0, 3.0], [-1.0, -5.0]])


def test_of_several_vectors_the_largest_score_counts() -> None:
    # First query: (2, 1), (0, 3), (-1, -5). Second: (3, -1), (3, -3), (-6, 5).
    expected = [[2, 3, -1], [3, 3, 5]]
    np.testing.assert_allclose(scores(TWO_VECTORS, tf.stack([ITEMS, ITEMS])), expected)
    np.testing.assert_allclose(scores_of_all(TWO_VECTORS, ITEMS), expected)


def test_of_one_vector() -> None:
    query = TWO_VECTORS[:, 0]
    expected = [[2, 0, -1], [3, 3, -6]]
    np.testing.assert_allclose(scores(query, tf.stack([ITEMS, ITEMS])), expected)
    np.testing.assert_allclose(scores_of_all(query, ITEMS), expected)


def test_each_loss_of_two_vectors_is_that_of_the_largest_scores() -> None:
    query, positive, negatives = TWO_VECTORS[:1], ITEMS[:1], ITEMS[tf.newaxis, 1:]
    # Over the temperature of 0.5: positive 4, negatives 6 and -2.
    entropy = log(1 + exp(-4)) + log(1 + exp(6)) + log(1 + exp(-2))
    assert float(sampled_bce(query, positive, negatives, 0.5)) == pytest.approx(entropy / 3, rel=1e-6)
    softmax = -log(exp(4) / (exp(4) + exp(6) + exp(-2)))
    none = tf.zeros([1])
    loss = sampled_softmax(query, positive, negatives, none, tf.zeros([1, 2]), 0.5)
    assert float(loss) == pytest.approx(softmax, rel=1e-6)
    loss = in_batch_softmax(query, ITEMS, tf.constant([0]), none, tf.zeros([3]), 0.5)
    assert float(loss) == pytest.approx(softmax, rel=1e-6)
    # The second and third item as columns of this row alone; the batch's own only its positive.
    weights = tf.constant([0.0, -np.inf, -np.inf])
    loss = in_batch_softmax(query, ITEMS, tf.constant([0]), none, weights, 0.5, hard=negatives)
    assert float(loss) == pytest.approx(softmax, rel=1e-6)
