"""Ratios of sums over users, their difference between two labels, and what a difference could be seen.

Users are what was randomised, so users are the sample; the impressions of one user are not independent of each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

CONFIDENCE = 0.95
POWER = 0.8
SIGNIFICANT = float(stats.norm.isf((1 - CONFIDENCE) / 2))  # 1.96 standard errors
ROUNDING = 1e-12  # of a ratio: what floating point leaves of a standard error where nothing varies
SKEW_RULE = 355  # see Estimate.users_for_normality


@dataclass(frozen=True)
class Estimate:
    """A ratio of sums over the users of one label.

    Attributes:
      value: the ratio.
      variance: of the ratio, not of one user's part in it.
      users: how many.
      skewness: of the users' parts in it.
    """

    value: float
    variance: float
    users: int
    skewness: float

    @property
    def users_for_normality(self) -> float:
        """So many users make the normal interval one to rely on: 355 skewness^2.

        Kohavi, Deng, Longbotham, Xu, "Seven Rules of Thumb for Web Site Experimenters", KDD 2014, rule 7.
        """
        return SKEW_RULE * self.skewness**2


def ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> Estimate:
    """sum(numerator) / sum(denominator), with its variance by the delta method.

    With R the ratio, n users and y' the mean denominator, a user's part in the error of R is e = (x - R y) / y', and
    var(R) = var(e) / n, var(e) with n - 1. With a denominator of ones it is the mean and its usual variance.
    Deng, Knoblich, Lu, "Applying the Delta Method in Metric Analytics", KDD 2018, section 3.1.

    Args:
      numerator: float64 [users], at least two.
      denominator: float64 [users], positive.
    """
    value = float(numerator.sum() / denominator.sum())
    part = (numerator - value * denominator) / denominator.mean()
    variance = float(part.var(ddof=1) / len(part))
    skewness = float(stats.skew(part)) if variance > 0 else 0.0
    return Estimate(value, variance, len(part), skewness)


@dataclass(frozen=True)
class Comparison:
    """Treatment against control in one metric. Intervals are of 95 %.

    Attributes:
      control, treatment: the two estimates.
      difference, low, high: treatment - control.
      relative, relative_low, relative_high: treatment / control - 1; None where control is not surely above 0.
      p_value: two-sided, of no difference.
      standard_error: of the difference.
    """

    control: Estimate
    treatment: Estimate
    difference: float
    low: float
    high: float
    relative: float | None
    relative_low: float | None
    relative_high: float | None
    p_value: float
    standard_error: float

    @property
    def detectable(self) -> float | None:
        """The smallest relative effect that is found significant with a power of 80 %; None where control is 0."""
        if self.control.value == 0:
            return None
        return (SIGNIFICANT + float(stats.norm.ppf(POWER))) * self.standard_error / self.control.value

    def power(self, relative_effect: float) -> float | None:
        """How surely a true relative effect is found significant; None where nothing varies, or control is 0."""
        if self.standard_error == 0 or self.control.value == 0:
            return None
        errors = abs(relative_effect) * self.control.value / self.standard_error
        return float(stats.norm.sf(SIGNIFICANT - errors) + stats.norm.cdf(-SIGNIFICANT - errors))

    def users_needed(self, relative_effect: float) -> int | None:
        """Users of both labels together, in the proportion they have now, for a power of 80 % to find an effect.

        None where nothing varies, or control is 0.
        """
        if self.detectable is None or self.standard_error == 0:
            return None
        return math.ceil((self.control.users + self.treatment.users) * (self.detectable / relative_effect) ** 2)


def compare(control: Estimate, treatment: Estimate) -> Comparison:
    """The difference of two independent estimates, both normal about the truth.

    The relative interval is Fieller's ("Some Problems in Interval Estimation", JRSS B 16, 1954): all rho for which
    (T - rho C)^2 <= z^2 (var T + rho^2 var C). It has 1 just where the p-value is above 5 %.
    """
    c, t = control.value, treatment.value
    error = math.sqrt(control.variance + treatment.variance)
    difference = t - c
    varies = error > ROUNDING * max(c, t)
    p_value = float(2 * stats.norm.sf(abs(difference) / error)) if varies else float(math.isclose(c, t))
    relative = low = high = None
    squared = SIGNIFICANT**2
    rest = c**2 - squared * control.variance
    if c > 0 and rest > 0:
        relative = t / c - 1
        middle = t * c / rest
        # (t c)^2 - rest (t^2 - z^2 var T), in which rounding would leave less than 0 where nothing varies.
        half = math.sqrt(squared * (t**2 * control.variance + rest * treatment.variance)) / rest
        low, high = middle - half - 1, middle + half - 1
    half_width = SIGNIFICANT * error
    return Comparison(
        control,
        treatment,
        difference,
        difference - half_width,
        difference + half_width,
        relative,
        low,
        high,
        p_value,
        error,
    )
