from __future__ import annotations

import numpy as np
import pytest

from components.retrieval_evaluator.bootstrap import DRAWS, poisson_weights, ratio


def test_a_query_weighs_the_same_in_every_row_and_run() -> None:
    weights = poisson_weights([b"u", b"v", b"u"])
    assert weights.shape == (3, DRAWS)
    assert (weights[0] == weights[2]).all()
    assert (weights[0] != weights[1]).any()
    assert (poisson_weights([b"v"])[0] == weights[1]).all()
    # Mean and variance of Poisson(1) are 1; over 1,000 draws the mean is off by 0.03 or so.
    assert weights.mean() == pytest.approx(1, abs=0.15)


def test_the_interval_by_hand() -> None:
    # Draws 1..1000 of the candidate against 1000 each of the other: ratios 0.001 .. 1.000. The 2.5th percentile of the
    # sorted ones stands at place 0.025 * 999 = 24.975, rounded down 24: 0.025; the 97.5th at 974.025, up: 975: 0.976.
    candidate = np.array([600, *range(1, DRAWS + 1)])
    other = np.full(1 + DRAWS, 1000)
    assert ratio(candidate, other) == pytest.approx((0.6, 0.025, 0.976))


def test_the_same_model_has_no_width() -> None:
    sums = np.array([5, *np.arange(DRAWS)])
    assert ratio(sums, sums) == (1.0, 1.0, 1.0)


def test_a_model_that_never_hit_gives_no_upper_end() -> None:
    candidate, other = np.ones(1 + DRAWS), np.zeros(1 + DRAWS)
    assert ratio(candidate, other) == (None, None, None)
    half = np.array([1, *([0, 1] * (DRAWS // 2))])
    assert ratio(half, other) == (None, 1.0, None)


def test_the_interval_is_about_as_wide_as_the_normal_one() -> None:
    # 2,000 queries with one row each; the models agree but for 5 % of the queries, half of them won by each.
    random = np.random.default_rng(3)
    hits = random.random(2000) < 0.5
    flipped = random.random(2000) < 0.05
    candidate, other = hits ^ flipped, hits
    weights = poisson_weights([b"q%d" % i for i in range(2000)])
    sums = [np.concatenate([[h.sum()], h.astype(int) @ weights]) for h in (candidate, other)]
    value, low, high = ratio(*sums)
    assert value is not None
    assert low is not None
    assert high is not None
    # sd of the difference of the sums: sqrt(2000 * 0.05) = 10, of the ratio 10 / 1000; 1.96 times to either side.
    assert high - low == pytest.approx(2 * 1.96 * 0.01, rel=0.25)
