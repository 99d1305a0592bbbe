"""Scores by hand, and how much of them is in memory."""

from __future__ import annotations

import numpy as np

from components.embedding.scores import SCORES_AT_ONCE, queries_at_once, score_catalogue


def test_of_several_vectors_the_largest_score_counts() -> None:
    queries = np.array([[[1.0, 0], [0, 2]], [[-1, 0], [0, -1]]])
    items = np.array([[3.0, 1], [1, 2], [-1, -4]])
    # First query: 3 or 2, 1 or 4, -1 or -8. Second: -3 or -1, -1 or -2, 1 or 4.
    assert score_catalogue(queries, items).tolist() == [[3, 4, -1], [-1, -1, 4]]
    assert score_catalogue(queries[:, 1], items).tolist() == [[2, 4, -8], [-1, -2, 4]]
    assert np.isnan(score_catalogue(np.array([[[1.0, 0], [np.nan, 0]]]), items)).all()


def test_scores_that_differ_by_less_than_a_float32_holds_are_equal() -> None:
    # 1 and 1 + 10^-12 in float64; the next float32 after 1 is 1 + 1.2 * 10^-7.
    scores = score_catalogue(np.array([[1.0, 1e-12]]), np.array([[1.0, 0.0], [1.0, 1.0]]))
    assert scores.dtype == np.float32
    assert scores.tolist() == [[1, 1]]


def test_several_vectors_a_query_take_their_share_of_the_memory() -> None:
    assert queries_at_once(2**10) == SCORES_AT_ONCE // 2**10 == 4096
    assert queries_at_once(2**10, 256) == 16
    assert queries_at_once(2 * SCORES_AT_ONCE, 4) == 1
