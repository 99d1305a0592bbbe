"""The whole comparison of two labels, and whether it may be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from pipeline.online_comparison.estimates import Comparison, Estimate, compare, ratio
from pipeline.online_comparison.logs import Arm, LeftOut, Logs

SRM_P_VALUE = 0.001
MAX_SHARE_LEFT_OUT = 0.01
TOP_BUYERS = 0.01


@dataclass(frozen=True)
class Result:
    """What the command reports.

    Attributes:
      control, treatment: the two labels' users.
      shares: the labels' shares of the traffic as the split was set, control's first.
      metrics: by name.
      sample_ratio_p: of the numbers of users, if the split is as set.
      days: of the log.
      left_out: what the figures do not have.
      problems: why the figures are not to be trusted; empty if they are.
      notes: what to mind in reading them.
    """

    control: Arm
    treatment: Arm
    shares: tuple[int, int]
    metrics: dict[str, Comparison]
    sample_ratio_p: float
    days: float
    left_out: LeftOut
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def estimates(arm: Arm) -> dict[str, Estimate]:
    """Each metric of one label."""
    return {
        "CTR": ratio(arm.clicks, arm.impressions),
        "GMV/user": ratio(arm.value, np.ones(arm.users)),
        "GMV/impression": ratio(arm.value, arm.impressions),
    }


def sample_ratio_p_value(users: Sequence[int], shares: Sequence[int]) -> float:
    """Pearson's chi-square test of the numbers of users against the shares of the traffic.

    Fabijan et al., "Diagnosing Sample Ratio Mismatch in Online Controlled Experiments", KDD 2019.
    """
    expected = sum(users) * np.array(shares) / sum(shares)
    return float(stats.chisquare(users, expected).pvalue)


def top_share(arm: Arm) -> float | None:
    """The share of the money that the 1 % of the buyers with most of it spend, one buyer at least; None without any."""
    spent = np.sort(arm.value[arm.value > 0])
    if not len(spent):
        return None
    return float(spent[-max(1, round(TOP_BUYERS * len(spent))) :].sum() / spent.sum())


def compare_labels(logs: Logs, shares: tuple[int, int]) -> Result:
    """Compares the two labels of the logs.

    Args:
      logs: both logs, summed.
      shares: percent of the traffic that control and treatment were set to have.
    """
    control, treatment = estimates(logs.control), estimates(logs.treatment)
    p_value = sample_ratio_p_value((logs.control.users, logs.treatment.users), shares)
    return Result(
        control=logs.control,
        treatment=logs.treatment,
        shares=shares,
        metrics={name: compare(control[name], treatment[name]) for name in control},
        sample_ratio_p=p_value,
        days=logs.days,
        left_out=logs.left_out,
        problems=tuple(_problems(logs, shares, p_value)),
        notes=tuple(_notes(logs, {logs.control.label: control, logs.treatment.label: treatment})),
    )


def _problems(logs: Logs, shares: tuple[int, int], p_value: float) -> list[str]:
    found, left_out = [], logs.left_out
    if p_value < SRM_P_VALUE:
        users = logs.control.users + logs.treatment.users
        found.append(
            f"sample ratio mismatch: {logs.treatment.label} has {logs.treatment.users / users:.2%} of the users where "
            f"{shares[1] / sum(shares):.2%} were set (p = {p_value:.1e}): users or rows of one label are missing, or "
            "the shares were others"
        )
    if left_out.changed_label_share > MAX_SHARE_LEFT_OUT:
        found.append(
            f"{left_out.changed_label_share:.1%} of the users were answered by more than one label: were the shares "
            "changed, or does the log have requests that named a label?"
        )
    if left_out.without_impression_share > MAX_SHARE_LEFT_OUT:
        found.append(
            f"{left_out.without_impression_share:.1%} of the outcomes have no impression, such as "
            f"{left_out.without_impression_rows[0]}: impressions are missing, or were logged under other ids"
        )
    return found


def _notes(logs: Logs, by_label: dict[str, dict[str, Estimate]]) -> list[str]:
    found, left_out = [], logs.left_out
    for name in by_label[logs.control.label]:
        label, estimate = max(
            ((label, metrics[name]) for label, metrics in by_label.items()),
            key=lambda pair: pair[1].users_for_normality / pair[1].users,
        )
        if estimate.users < estimate.users_for_normality:
            found.append(
                f"{name} of {label} is so skewed ({estimate.skewness:.1f}) that its interval may be relied on from "
                f"about {estimate.users_for_normality:,.0f} users of a label on"
            )
    for arm in (logs.control, logs.treatment):
        share = top_share(arm)
        if share is not None:
            buyers = int((arm.value > 0).sum())
            who = "1 % of the buyers" if TOP_BUYERS * buyers >= 1 else f"one buyer of {buyers}"
            found.append(f"{who} under {arm.label} spent {share:.1%} of its GMV")
    if left_out.changed_label:
        found.append(
            f"left out: {left_out.changed_label:,} users whom more than one label answered, "
            f"such as {', '.join(left_out.changed_label_names)}"
        )
    if left_out.without_impression:
        found.append(
            f"left out: {left_out.without_impression:,} outcomes without an impression, "
            f"such as {', '.join(left_out.without_impression_rows)}"
        )
    if left_out.other_labels:
        found.append(f"left out: {left_out.other_labels:,} impressions under other labels")
    if left_out.repeated_impressions or left_out.repeated_outcomes:
        found.append(
            f"counted once: {left_out.repeated_impressions:,} repeated impressions, "
            f"{left_out.repeated_outcomes:,} repeated outcomes"
        )
    return found
