"""Whether a model may be released."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from components.retrieval_evaluator.config import EvaluationConfig, SliceGate, Threshold
from components.retrieval_evaluator.metrics import metric_names


class Check(NamedTuple):
    """One thing that was looked at, and what was found, as a sentence."""

    met: bool
    reason: str


def check_thresholds(config: EvaluationConfig) -> None:
    """Refuses a threshold on a metric that is not computed.

    Raises:
      ValueError: names the threshold's metric and those there are.
    """
    names = metric_names(config.ks)
    for metric in [*(t.metric for t in config.thresholds), *(gate.metric for gate in config.slices)]:
        if metric not in names:
            raise ValueError(f"threshold on {metric}, which is not computed: expected one of {names}")


def decide(splits: dict[str, Any], config: EvaluationConfig, left_out: str | None = None) -> list[Check]:
    """Holds the candidate against the thresholds; it is blessed if all are met.

    They are checked on split eval, or on test if there is no eval. A ratio to the blessed model is not
    checked while there is none, or none that can be compared with. A candidate that could
    not score a row (NaN) is refused always.

    Args:
      splits: "splits" of metrics.json.
      config: with the thresholds.
      left_out: why the blessed model is not among the results; None if there is none.
    """
    uncompared = left_out or "there is no blessed model to compare with"
    split = "eval" if "eval" in splits else "test"
    checks = [] if split == "eval" else [Check(True, "There is no split eval: the thresholds are checked on test.")]
    for name, results in splits.items():
        if unscored := results["models"]["candidate"]["unscorable_rows"]:
            checks.append(
                Check(
                    False,
                    f"{unscored} of {results['rows']} rows of {name} got a score that is not a number: look for values "
                    "out of all bounds in the data, or lower train.learning_rate.",
                )
            )
    for threshold in config.thresholds:
        checks += _overall(threshold, split, splits[split], uncompared)
    for gate in config.slices:
        checks += _slices(gate, splits[split], uncompared)
    if not config.thresholds:
        checks.append(Check(True, "No thresholds are set."))
    return checks


def _overall(threshold: Threshold, split: str, results: dict[str, Any], uncompared: str) -> Iterator[Check]:
    metric, models = threshold.metric, results["models"]
    value = models["candidate"]["overall"][metric]

    def check(key: str, bound: float, described: str) -> Check:
        if value >= bound:
            return Check(True, f"{metric} of {split} {value:.4f} reaches {described}.")
        return Check(
            False,
            f"{metric} of {split} {value:.4f} is below {described}: look at what changed in data and configuration, or "
            f"lower evaluation.thresholds.{key}.",
        )

    if threshold.min_value is not None:
        yield check("min_value", threshold.min_value, f"{threshold.min_value:g}")
    if (least := threshold.min_ratio_to_popular) is not None:
        other = models["popular"]["overall"][metric]
        described = f"{least:g} times most-popular's {other:.4f} = {least * other:.4f}"
        yield check("min_ratio_to_popular", least * other, described)
    if threshold.min_ratio_to_blessed is not None:
        if "blessed" in models:
            yield _against_blessed(threshold.min_ratio_to_blessed, metric, split, results)
        else:
            yield Check(True, f"{metric}: {uncompared}.")


def _against_blessed(least: float, metric: str, split: str, results: dict[str, Any]) -> Check:
    value, other = (results["models"][model]["overall"][metric] for model in ("candidate", "blessed"))
    ratio = results["ratio_to_blessed"]["overall"][""][metric]
    met = ratio["low"] is None or ratio["low"] >= least
    if met:
        verdict = f"reaches {least:g}"
    elif ratio["value"] is not None and ratio["value"] < least:
        verdict = f"is below {least:g}: the model is worse; look at what changed in data and configuration"
    else:
        verdict = (
            f"does not surely reach {least:g}: {results['rows']} rows say too little; evaluate more, or lower "
            "evaluation.thresholds.min_ratio_to_blessed"
        )
    return Check(
        met, f"{metric} of {split} {value:.4f}, against the blessed model's {other:.4f} {_interval(ratio)}, {verdict}."
    )


def _slices(gate: SliceGate, results: dict[str, Any], uncompared: str) -> Iterator[Check]:
    if "ratio_to_blessed" not in results:
        yield Check(True, f"{gate.metric} by {gate.by}: {uncompared}.")
        return
    looked_at = 0
    worse = []
    for name, ratios in results["ratio_to_blessed"].get(gate.by, {}).items():
        rows = results["models"]["candidate"][gate.by][name]["rows"]
        if rows < gate.min_rows:
            continue
        looked_at += 1
        ratio = ratios[gate.metric]
        if ratio["high"] is not None and ratio["high"] < gate.min_ratio_to_blessed:
            worse.append(
                f"{gate.metric} of {gate.by} {name!r} ({rows} rows) against the blessed model {_interval(ratio)}, "
                f"surely below {gate.min_ratio_to_blessed:g}: look at the slice's data, or allow more loss in "
                "evaluation.slices."
            )
    yield from (Check(False, reason) for reason in worse)
    if not worse:
        least = gate.min_ratio_to_blessed
        yield Check(True, f"{gate.metric} by {gate.by}: none of {looked_at} slices is surely below {least:g}.")


def _interval(ratio: dict[str, float | None]) -> str:
    def shown(end: float | None) -> str:
        return "unbounded" if end is None else f"{end:.3f}"

    return f"ratio {shown(ratio['value'])}, 95 % interval {shown(ratio['low'])} to {shown(ratio['high'])}"
