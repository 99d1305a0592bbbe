import math

import numpy as np
import pytest

from pipeline.online_comparison.comparison import sample_ratio_p_value, top_share
from pipeline.online_comparison.estimates import SIGNIFICANT, Estimate, compare, ratio
from pipeline.online_comparison.logs import Arm


def numbers(*values: float) -> np.ndarray:
    return np.array(values, np.float64)


def estimate(value: float, variance: float, users: int = 100, skewness: float = 0.0) -> Estimate:
    return Estimate(value, variance, users, skewness)


def test_ratio_has_the_variance_of_the_delta_method() -> None:
    # R = 3 / 8; x - R y = 1/4, -3/4, 1/2, squares 0.875 in all; mean y = 8/3.
    # var = 0.875 / (3 - 1) / (8/3)^2 / 3 = 0.0205078125. Eight independent impressions would have 0.375 * 0.625 / 8.
    found = ratio(numbers(1, 0, 2), numbers(2, 2, 4))
    assert found.value == 0.375
    assert found.variance == pytest.approx(0.0205078125, rel=1e-12)
    # Third central moment (1/64 - 27/64 + 8/64) / 3 = -0.09375, second 0.875 / 3: skewness -0.09375 / 0.2917^1.5.
    assert found.skewness == pytest.approx(-0.09375 / (0.875 / 3) ** 1.5)
    assert found.users_for_normality == pytest.approx(355 * 0.09375**2 / (0.875 / 3) ** 3)


def test_mean_is_the_ratio_to_ones() -> None:
    found = ratio(numbers(0, 3, 6), np.ones(3))
    assert (found.value, found.variance) == (3.0, pytest.approx(9 / 3))


def test_difference() -> None:
    found = compare(estimate(10, 0.09), estimate(11, 0.16))
    assert found.standard_error == pytest.approx(0.5)
    assert (found.difference, found.low, found.high) == pytest.approx((1, 1 - 0.979982, 1 + 0.979982), abs=1e-6)
    assert found.p_value == pytest.approx(0.0455003, abs=1e-7)  # two standard errors


def test_relative_interval_is_fiellers() -> None:
    found = compare(estimate(10, 0.09), estimate(11, 0.16))
    assert found.relative == pytest.approx(0.1)
    assert found.relative_low is not None
    assert found.relative_high is not None
    for end in (1 + found.relative_low, 1 + found.relative_high):
        assert (11 - 10 * end) ** 2 == pytest.approx(SIGNIFICANT**2 * (0.16 + end**2 * 0.09))
    assert found.relative_low < 0.1 < found.relative_high
    # It agrees with the test: z = 1.95 and 1.97 about 1.96.
    for z, significant in ((1.95, False), (1.97, True)):
        other = compare(estimate(10, 0.09), estimate(10 + z / 2, 0.16))
        assert other.relative_low is not None
        assert (other.relative_low > 0, other.p_value < 0.05) == (significant, significant)


def test_where_nothing_varies_the_interval_is_a_point() -> None:
    # Everybody under control clicks one of three, under treatment one of five: 3 / 5 - 1.
    found = compare(ratio(np.ones(5), np.full(5, 3.0)), ratio(np.ones(5), np.full(5, 5.0)))
    assert found.standard_error == 0
    assert (found.relative, found.relative_low, found.relative_high) == pytest.approx((-0.4, -0.4, -0.4))


def test_rounding_is_no_difference() -> None:
    # Everybody spends 0.1 under both labels; as floats the means of 2 and of 7 are two numbers.
    control, treatment = ratio(np.full(2, 0.1), np.ones(2)), ratio(np.full(7, 0.1), np.ones(7))
    assert control.value != treatment.value
    assert compare(control, treatment).p_value == 1.0


def test_no_relative_interval_where_control_may_be_zero() -> None:
    # 1.9 standard errors above 0; 2 are.
    assert compare(estimate(1.9, 1), estimate(3, 1)).relative is None
    assert compare(estimate(2, 1), estimate(3, 1)).relative == 0.5
    nothing = compare(estimate(0, 0), estimate(0, 0))
    assert (nothing.p_value, nothing.relative, nothing.detectable, nothing.power(0.1)) == (1.0, None, None, None)
    assert nothing.users_needed(0.1) is None
    assert compare(estimate(0, 0), estimate(1, 0)).p_value == 0.0
    # Where control is 0 no relative effect says anything; where nothing varies no number of users is enough.
    for found in (compare(estimate(0, 1), estimate(1, 1)), compare(estimate(1, 0), estimate(1, 0))):
        assert (found.power(0.1), found.users_needed(0.1)) == (None, None)


def test_power() -> None:
    found = compare(estimate(10, 0.09, users=300), estimate(11, 0.16, users=100))
    # (1.959964 + 0.841621) * 0.5 / 10
    assert found.detectable == pytest.approx(0.1400793, abs=1e-7)
    assert found.power(0.1400793) == pytest.approx(0.8, abs=1e-5)
    assert found.power(-0.1400793) == found.power(0.1400793)
    assert found.power(0.0) == pytest.approx(0.05)
    # Half the effect takes four times the 400 users.
    assert found.users_needed(0.1400793 / 2) == pytest.approx(1600, abs=1)
    assert found.users_needed(-0.1400793 / 2) == found.users_needed(0.1400793 / 2)


def test_sample_ratio() -> None:
    # 20^2 / 500 twice = 1.6; (-30)^2 / 900 + 30^2 / 100 = 10.
    assert sample_ratio_p_value((520, 480), (50, 50)) == pytest.approx(math.erfc(math.sqrt(1.6 / 2)))
    assert sample_ratio_p_value((870, 130), (90, 10)) == pytest.approx(math.erfc(math.sqrt(10 / 2)))
    # Of three labels two may be compared: 45 and 5 of 50 are 90 and 10 of 100.
    assert sample_ratio_p_value((870, 130), (45, 5)) == pytest.approx(math.erfc(math.sqrt(10 / 2)))


def test_share_of_the_largest_buyers() -> None:
    value = np.concatenate([np.zeros(50), np.ones(199), [101.0]])  # 1 % of 200 buyers are two: 101 and 1 of 300
    arm = Arm("a", np.ones(250), np.zeros(250), np.zeros(250), value)
    assert top_share(arm) == pytest.approx(102 / 300)
    assert top_share(Arm("a", np.ones(2), np.zeros(2), np.zeros(2), np.zeros(2))) is None


WEEKS, USERS = 400, 400


def test_interval_covers_where_that_of_independent_impressions_does_not() -> None:
    """Users differ in how much they click, and those who click more see more."""
    random = np.random.default_rng(5)
    covered = naive = 0
    # Of 1 + Poisson(20 t) items, each is clicked with 0.9 t, t uniform in 0..1: E[clicks] = 0.9 (1/2 + 20/3) = 6.45, of
    # E[impressions] = 11. Both arms are alike: the true difference is 0.
    for _ in range(WEEKS):
        arms = []
        for _ in range(2):
            taste = random.random(USERS)
            shown = 1.0 + random.poisson(20 * taste)
            clicks = random.binomial(shown.astype(int), 0.9 * taste).astype(np.float64)
            arms.append((clicks, shown))
        found = compare(*(ratio(*arm) for arm in arms))
        covered += found.low <= 0 <= found.high
        error = math.sqrt(sum(r * (1 - r) / shown.sum() for (_, shown), r in zip(arms, _rates(arms), strict=True)))
        naive += abs(found.difference) <= SIGNIFICANT * error
    # 0.95 +- 4 standard errors of sqrt(0.95 * 0.05 / 400) = 0.011
    assert 0.906 <= covered / WEEKS <= 0.994
    assert naive / WEEKS < 0.9


def _rates(arms: list[tuple[np.ndarray, np.ndarray]]) -> list[float]:
    return [float(clicks.sum() / shown.sum()) for clicks, shown in arms]
