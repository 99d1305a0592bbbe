from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.experiments import stats
from pipeline.experiments.stats import gains, relative_gains, t_interval


def test_what_a_rank_is_worth() -> None:
    # HR@50, HR@100, 10 / rank, 1 / log2(rank + 1); log2(64) = 6, log2(128) = 7 but rank 127 is beyond 100.
    expected = [[1, 1, 10, 1], [1, 1, 10 / 3, 0.5], [0, 1, 10 / 63, 1 / 6], [0, 0, 10 / 127, 0]]
    np.testing.assert_allclose(gains(np.array([1, 3, 63, 127])), expected)
    assert gains(np.array([50, 51]))[:, 0].tolist() == [1, 0]
    assert gains(np.array([100, 101]))[:, 1].tolist() == [1, 0]


def test_t_interval() -> None:
    # Mean 2, s = 1, t(0.975, 2) = 4.302653: half = 4.302653 / sqrt(3).
    mean, half = t_interval([1.0, 2.0, 3.0])
    assert mean == 2
    assert half == pytest.approx(2.484138, abs=1e-6)
    # Five values, s^2 = 2.5, t(0.975, 4) = 2.776445.
    assert t_interval([1.0, 2.0, 3.0, 4.0, 5.0])[1] == pytest.approx(2.776445 * math.sqrt(2.5 / 5), abs=1e-6)
    assert t_interval([0.3]) == (0.3, None)
    assert t_interval([0.3, 0.3]) == (0.3, 0.0)


def _column(*values: float) -> np.ndarray:
    return np.array(values, np.float64)[:, np.newaxis]


def test_a_gain_that_is_the_same_in_every_row_has_no_width() -> None:
    other = _column(0.5, 1.0, 2.0, 4.0)
    result = relative_gains(1.5 * other, other[np.newaxis], np.arange(4))
    np.testing.assert_allclose(result, [[[0.5, 0.5, 0.5]]])


@pytest.mark.parametrize("at_once", [stats._NUMBERS_AT_ONCE, 1])
def test_the_interval_is_that_of_the_paired_bootstrap(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows, (3, 1) and (1, 1). A draw of two has the first 0, 1 or 2 times, at 1/4, 1/2, 1/4.

    Gains are then 0, 1 and 2, so both tails of 2.5 % lie inside the outer quarters, whether all draws are made at once
    or each by itself.
    """
    monkeypatch.setattr(stats, "_NUMBERS_AT_ONCE", at_once)
    result = relative_gains(_column(3, 1), _column(1, 1)[np.newaxis], np.arange(2))
    np.testing.assert_allclose(result, [[[1.0, 0.0, 2.0]]])


def test_rows_of_one_query_are_drawn_together() -> None:
    # Two queries of two rows, sums (4, 2) and (2, 2): gains 1, 1/2 and 0 at 1/4, 1/2, 1/4. Of four rows that are drawn
    # one by one the first stands three times or more in 5 % of the draws: the interval would end at 1.5.
    result = relative_gains(_column(3, 1, 1, 1), _column(1, 1, 1, 1)[np.newaxis], np.array([0, 0, 1, 1]))
    np.testing.assert_allclose(result, [[[0.5, 0.0, 1.0]]])


def test_a_single_query_has_no_interval() -> None:
    result = relative_gains(_column(3, 1), _column(1, 1)[np.newaxis], np.zeros(2, np.int64))
    np.testing.assert_array_equal(result, [[[1.0, np.nan, np.nan]]])


def test_pairing_is_what_makes_it_narrow() -> None:
    random = np.random.default_rng(1)
    other = random.uniform(0, 1, (400, 1))
    better = other * 1.1
    shuffled = random.permutation(better)
    paired = relative_gains(better, other[np.newaxis], np.arange(400))[0, 0]
    unpaired = relative_gains(shuffled, other[np.newaxis], np.arange(400))[0, 0]
    assert paired[2] - paired[1] < 1e-9
    # Both means have a relative standard error of 0.289 / 0.5 / 20 = 2.9 %, the ratio about 1.1 * 4.1 %: 1.96 times
    # that to both sides.
    assert unpaired[2] - unpaired[1] == pytest.approx(2 * 1.96 * 1.1 * 0.041, rel=0.15)


def test_degenerate_rows() -> None:
    others = np.stack([_column(0, 0), _column(1, 1)])
    nothing, lost = relative_gains(_column(0, 0), others, np.arange(2))[:, 0]
    assert nothing.tolist() == [0, 0, 0]
    assert lost.tolist() == [-1, -1, -1]
    assert np.isinf(relative_gains(_column(1, 1), _column(0, 0)[np.newaxis], np.arange(2))[0, 0, 0])


def test_several_rows_and_metrics_at_once_equal_one_at_a_time() -> None:
    random = np.random.default_rng(2)
    reference, others = random.uniform(1, 2, (30, 2)), random.uniform(1, 2, (3, 30, 2))
    together = relative_gains(reference, others, np.arange(30))
    for row in range(3):
        for metric in range(2):
            alone = relative_gains(reference[:, [metric]], others[[row]][:, :, [metric]], np.arange(30))
            np.testing.assert_allclose(together[row, metric], alone[0, 0])
