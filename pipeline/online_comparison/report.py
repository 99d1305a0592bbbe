"""A comparison as text and as JSON."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from pipeline.online_comparison.comparison import SRM_P_VALUE, Result, top_share
from pipeline.online_comparison.estimates import Comparison
from pipeline.online_comparison.logs import Arm
from pipeline.terminal import plain_console

DASH = "-"


def print_result(result: Result, detect: float | None) -> None:
    """Both labels, the differences, the checks.

    Args:
      result: of compare_labels.
      detect: a relative effect to plan for; None for none.
    """
    console = plain_console()
    for problem in result.problems:
        console.print(f"NOT TO BE TRUSTED: {problem}", soft_wrap=True)
    console.print(_arms(result))
    console.print(_metrics(result))
    verdict = "as set" if result.sample_ratio_p >= SRM_P_VALUE else "MISMATCH"
    console.print(f"Sample ratio: {verdict}, p = {result.sample_ratio_p:.4f} (mismatch below {SRM_P_VALUE})")
    if detect is not None:
        for name, metric in result.metrics.items():
            console.print(f"{name}: {_plan(metric, detect, result.days)}", soft_wrap=True)
    for note in result.notes:
        console.print(f"Note: {note}", soft_wrap=True)


def as_json(result: Result, detect: float | None) -> dict[str, Any]:
    """The same as JSON has it; None where there is no number."""
    labels = {"control": result.control, "treatment": result.treatment}
    return {
        "trusted": not result.problems,
        "problems": result.problems,
        "notes": result.notes,
        "days": result.days,
        "labels": {
            name: {"label": arm.label, "share": share, **_sums(arm)}
            for (name, arm), share in zip(labels.items(), result.shares, strict=True)
        },
        "sample_ratio_p": result.sample_ratio_p,
        "metrics": {name: _metric(metric, detect) for name, metric in result.metrics.items()},
        "left_out": vars(result.left_out),
    }


def _sums(arm: Arm) -> dict[str, Any]:
    return {
        "users": arm.users,
        "impressions": int(arm.impressions.sum()),
        "clicks": int(arm.clicks.sum()),
        "orders": int(arm.orders.sum()),
        "gmv": float(arm.value.sum()),
        "mean_click_position": arm.click_position,
        "top_buyers_share": top_share(arm),
    }


def _metric(metric: Comparison, detect: float | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "control": metric.control.value,
        "treatment": metric.treatment.value,
        "difference": [metric.difference, metric.low, metric.high],
        "relative": [metric.relative, metric.relative_low, metric.relative_high],
        "p_value": metric.p_value,
        "standard_error": metric.standard_error,
        "detectable": metric.detectable,
    }
    if detect is not None:
        found["planned"] = {
            "effect": detect,
            "power": metric.power(detect),
            "users_needed": metric.users_needed(detect),
        }
    return found


def _arms(result: Result) -> Table:
    arms = (result.control, result.treatment)
    table = Table("", title=f"{result.days:.1f} days", title_justify="left")
    for arm in arms:
        table.add_column(arm.label, justify="right")
    table.add_row("share set", *(f"{share} %" for share in result.shares))
    sums = [_sums(arm) for arm in arms]
    for name in ("users", "impressions", "clicks", "orders"):
        table.add_row(name, *(f"{of[name]:,}" for of in sums))
    table.add_row("GMV", *(f"{of['gmv']:,.2f}" for of in sums))
    positions = (of["mean_click_position"] for of in sums)
    table.add_row("mean position of a click", *(DASH if mean is None else f"{mean:.2f}" for mean in positions))
    for name, metric in result.metrics.items():
        table.add_row(name, *(f"{estimate.value:,.4f}" for estimate in (metric.control, metric.treatment)))
    return table


def _metrics(result: Result) -> Table:
    title = f"{result.treatment.label} against {result.control.label}, 95 % intervals"
    table = Table(title=title, title_justify="left")
    for column in ("metric", "difference", "relative", "p", "detects"):
        table.add_column(column, justify="left" if column == "metric" else "right", no_wrap=True)
    for name, metric in result.metrics.items():
        difference = f"{_number(metric.difference, '+')}\n[{_number(metric.low, '+')}, {_number(metric.high, '+')}]"
        relative = DASH
        if metric.relative is not None:
            relative = f"{metric.relative:+.2%}\n[{metric.relative_low:+.2%}, {metric.relative_high:+.2%}]"
        detectable = DASH if metric.detectable is None else f"{metric.detectable:.2%}"
        table.add_row(name, difference, relative, f"{metric.p_value:.4f}", detectable)
    return table


def _number(value: float, sign: str = "") -> str:
    return f"{value:{sign},.0f}" if abs(value) >= 100 else f"{value:{sign}#.3g}"


def _plan(metric: Comparison, effect: float, days: float) -> str:
    power, needed = metric.power(effect), metric.users_needed(effect)
    if power is None or needed is None:
        return "nothing to plan from: control is 0 or nothing varies"
    times = needed / (metric.control.users + metric.treatment.users)
    return (
        f"an effect of {effect:.2%} is found with a power of {power:.0%}; for 80 % it takes {needed:,} users, "
        f"{days * times:,.1f} days if new ones keep coming as in this log"
    )
