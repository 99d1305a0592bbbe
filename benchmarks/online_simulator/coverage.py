"""How often the intervals have the truth, over many weeks. NumPy and SciPy only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from scipy import stats

from pipeline.online_comparison.comparison import SRM_P_VALUE, compare_labels, sample_ratio_p_value
from pipeline.online_comparison.estimates import SIGNIFICANT, Comparison
from pipeline.online_comparison.logs import Arm, Logs

LOST = 0.15  # of the treatment's users, in weeks that must be seen to be broken


def share(hits: int, of: int) -> list[float]:
    """(share, low, high), Wilson's 95 % interval."""
    interval = stats.binomtest(hits, of).proportion_ci(method="wilson")
    return [hits / of, float(interval.low), float(interval.high)]


class Tally:
    """Counts over the weeks of one case.

    Args:
      truth: by metric (control, treatment), the expected values.
      shares: of the traffic, control's first.
    """

    def __init__(self, truth: Mapping[str, tuple[float, float]], shares: tuple[int, int]) -> None:
        self._truth, self._shares = truth, shares
        self._by_metric: dict[str, list[list[float]]] = {name: [] for name in truth}
        self._by_week: list[list[bool]] = []
        self._users: list[int] = []

    def add(self, week: Logs) -> None:
        """Takes a week."""
        result = compare_labels(week, self._shares)
        for name, (control, treatment) in self._truth.items():
            metric = result.metrics[name]
            relative = treatment / control - 1
            power = metric.power(relative)
            assert metric.relative_low is not None
            assert metric.relative_high is not None
            assert power is not None
            self._by_metric[name].append(
                [
                    metric.low <= treatment - control <= metric.high,
                    metric.relative_low <= relative <= metric.relative_high,
                    metric.p_value < 0.05,
                    power,
                    metric.difference,
                    metric.standard_error,
                ]
            )
        users = (result.control.users, result.treatment.users)
        lossy = (users[0], round(users[1] * (1 - LOST)))
        self._by_week.append(
            [
                _naive_covers(result.control, result.treatment, self._truth["CTR"], result.metrics["CTR"]),
                result.sample_ratio_p < 0.05,
                result.sample_ratio_p < SRM_P_VALUE,
                sample_ratio_p_value(lossy, self._shares) < SRM_P_VALUE,
            ]
        )
        self._users.append(sum(users))

    def result(self) -> dict[str, Any]:
        """All shares, with the intervals of so many weeks."""
        weeks = len(self._by_week)
        metrics = {}
        for name, rows in self._by_metric.items():
            control, treatment = self._truth[name]
            covered, relative, significant, power, difference, error = zip(*rows, strict=True)
            metrics[name] = {
                "truth": [control, treatment],
                "relative_effect": treatment / control - 1,
                "coverage": share(sum(covered), weeks),
                "coverage_relative": share(sum(relative), weeks),
                "significant": share(sum(significant), weeks),
                "power_predicted": float(np.mean(power)),
                "mean_difference": float(np.mean(difference)),
                "sd_of_difference": float(np.std(difference, ddof=1)),
                "mean_standard_error": float(np.mean(error)),
            }
        naive, at_5_percent, mismatch, lossy = (
            share(sum(column), weeks) for column in zip(*self._by_week, strict=True)
        )
        return {
            "weeks": weeks,
            "users_a_week": float(np.mean(self._users)),
            "metrics": metrics,
            "naive_ctr_coverage": naive,
            "sample_ratio": {"below_0.05": at_5_percent, "mismatch": mismatch, "mismatch_with_loss": lossy},
        }


def _naive_covers(control: Arm, treatment: Arm, truth: tuple[float, float], metric: Comparison) -> bool:
    """Whether an interval that takes impressions for independent has the difference in CTR."""
    variance = sum(
        estimate.value * (1 - estimate.value) / arm.impressions.sum()
        for arm, estimate in ((control, metric.control), (treatment, metric.treatment))
    )
    return bool(abs(metric.difference - (truth[1] - truth[0])) <= SIGNIFICANT * np.sqrt(variance))


def table(cases: Mapping[str, dict[str, Any]]) -> Iterable[str]:
    """Lines of Markdown."""
    yield "| case | metric | true effect | covered | relative covered | significant | power predicted |"
    yield "|---|---|---|---|---|---|---|"
    for name, case in cases.items():
        for metric, found in case["metrics"].items():
            shares = (_percent(found[key]) for key in ("coverage", "coverage_relative", "significant"))
            power = f"{found['power_predicted']:.1%}" if found["relative_effect"] else ""
            yield f"| {name} | {metric} | {found['relative_effect']:+.2%} | {' | '.join(shares)} | {power} |"
    yield ""
    yield "| case | weeks | users a week | naive CTR interval covers | SRM p < 0.05 | p < 0.001 | with 15 % lost |"
    yield "|---|---|---|---|---|---|---|"
    for name, case in cases.items():
        shares = (case["naive_ctr_coverage"], *case["sample_ratio"].values())
        figures = " | ".join(map(_percent, shares))
        yield f"| {name} | {case['weeks']:,} | {case['users_a_week']:,.0f} | {figures} |"


def _percent(found: list[float]) -> str:
    return f"{found[0]:.1%} [{found[1]:.1%}, {found[2]:.1%}]"
