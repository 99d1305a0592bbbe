"""Whether a model may be released."""

from __future__ import annotations

from typing import Any

from components.retrieval_evaluator.config import EvaluationConfig, Threshold
from components.retrieval_evaluator.metrics import metric_names


def check_thresholds(config: EvaluationConfig) -> None:
    """Refuses a threshold on a metric that is not computed.

    Raises:
      ValueError: names the threshold's metric and those there are.
    """
    names = metric_names(config.ks)
    for threshold in config.thresholds:
        if threshold.metric not in names:
            raise ValueError(f"threshold on {threshold.metric}, which is not computed: expected one of {names}")


def decide(splits: dict[str, Any], config: EvaluationConfig) -> tuple[bool, list[str]]:
    """Holds the candidate against the thresholds.

    They are checked on split eval, or on test if there is no eval. A ratio to the blessed model is not
    checked while there is none. A candidate that could not score a row (NaN) is refused always.

    Args:
      splits: "splits" of metrics.json.
      config: with the thresholds.

    Returns:
      Whether the candidate is blessed, and a sentence for each check.
    """
    split = "eval" if "eval" in splits else "test"
    models = splits[split]["models"]
    reasons = [] if split == "eval" else ["There is no split eval: the thresholds are checked on test."]
    blessed = True
    for name, results in splits.items():
        if unscored := results["models"]["candidate"]["unscorable_rows"]:
            blessed = False
            reasons.append(f"{unscored} of {results['rows']} rows of {name} got a score that is not a number.")
    for threshold in config.thresholds:
        for met, reason in _checks(threshold, split, models):
            blessed = blessed and met
            reasons.append(reason)
    if not config.thresholds:
        reasons.append("No thresholds are set.")
    return blessed, reasons


def _checks(threshold: Threshold, split: str, models: dict[str, Any]) -> list[tuple[bool, str]]:
    metric = threshold.metric
    value = models["candidate"]["overall"][metric]
    checks = []

    def check(bound: float, described: str) -> None:
        met = value >= bound
        verb = "reaches" if met else "is below"
        checks.append((met, f"{metric} of {split} {value:.4f} {verb} {described}."))

    if threshold.min_value is not None:
        check(threshold.min_value, f"{threshold.min_value:g}")
    for ratio, model, called in (
        (threshold.min_ratio_to_popular, "popular", "most-popular's"),
        (threshold.min_ratio_to_blessed, "blessed", "the blessed model's"),
    ):
        if ratio is None:
            continue
        if model not in models:
            checks.append((True, f"{metric}: there is no blessed model to compare with."))
            continue
        other = models[model]["overall"][metric]
        check(ratio * other, f"{ratio:g} times {called} {other:.4f} = {ratio * other:.4f}")
    return checks
