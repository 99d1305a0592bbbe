"""Tests of the thresholds."""

from typing import Any

import pytest

from components.retrieval_evaluator.blessing import check_thresholds, decide
from components.retrieval_evaluator.config import EvaluationConfig, SliceGate, Threshold


def config(**bounds: Any) -> EvaluationConfig:
    return EvaluationConfig(ks=(50,), thresholds=(Threshold(metric="HR@50", **bounds),))


def split(candidate: float, popular: float = 0.2, blessed: float | None = None, unscorable: int = 0) -> dict[str, Any]:
    models: dict[str, Any] = {
        "candidate": {"overall": {"HR@50": candidate}, "unscorable_rows": unscorable},
        "popular": {"overall": {"HR@50": popular}, "unscorable_rows": 0},
    }
    if blessed is None:
        return {"rows": 10, "repeats_left_out": 0, "models": models}
    models["blessed"] = {"overall": {"HR@50": blessed}, "unscorable_rows": 0}
    ratio = candidate / blessed
    interval = {"value": ratio, "low": ratio - 0.05, "high": ratio + 0.05}
    ratios = {"overall": {"": {"HR@50": interval}}}
    return {"rows": 10, "repeats_left_out": 0, "models": models, "ratio_to_blessed": ratios}


def verdict_of(splits: dict[str, Any], settings: EvaluationConfig) -> tuple[bool, list[str]]:
    checks = decide(splits, settings)
    return all(check.met for check in checks), [check.reason for check in checks]


def test_no_thresholds() -> None:
    assert verdict_of({"eval": split(0.1)}, EvaluationConfig()) == (True, ["No thresholds are set."])


LOOK = ": look at what changed in data and configuration, or lower evaluation.thresholds"


@pytest.mark.parametrize(
    ("value", "blessed", "end"), [(0.3, True, "reaches 0.3."), (0.29, False, f"is below 0.3{LOOK}.min_value.")]
)
def test_a_least_value(value: float, blessed: bool, end: str) -> None:
    assert verdict_of({"eval": split(value)}, config(min_value=0.3)) == (
        blessed,
        [f"HR@50 of eval {value:.4f} {end}"],
    )


@pytest.mark.parametrize(
    ("value", "blessed", "end"), [(0.31, True, "."), (0.29, False, f"{LOOK}.min_ratio_to_popular.")]
)
def test_a_ratio_to_popular(value: float, blessed: bool, end: str) -> None:
    verdict, [reason] = verdict_of({"eval": split(value, popular=0.2)}, config(min_ratio_to_popular=1.5))

    assert verdict is blessed
    assert reason.endswith(f"1.5 times most-popular's 0.2000 = 0.3000{end}")


@pytest.mark.parametrize(
    ("value", "blessed", "end"),
    [
        # Ratios 0.975, 0.925, 0.875 to 0.4, each 0.05 to either side; 0.9 is asked of the lower end.
        (0.39, True, "ratio 0.975, 95 % interval 0.925 to 1.025, reaches 0.9."),
        (
            0.37,
            False,
            "does not surely reach 0.9: 10 rows say too little; evaluate more, or lower "
            "evaluation.thresholds.min_ratio_to_blessed.",
        ),
        (0.35, False, "is below 0.9: the model is worse; look at what changed in data and configuration."),
    ],
)
def test_the_lower_end_of_the_ratio_to_the_blessed_model(value: float, blessed: bool, end: str) -> None:
    verdict, [reason] = verdict_of({"eval": split(value, blessed=0.4)}, config(min_ratio_to_blessed=0.9))

    assert verdict is blessed
    assert reason.endswith(end)


def test_a_ratio_with_no_lower_end_is_met() -> None:
    # None is infinity: the blessed model had no hit in nearly all draws.
    results = split(0.3, blessed=0.1)
    results["ratio_to_blessed"]["overall"][""]["HR@50"] = {"value": None, "low": None, "high": None}

    verdict, [reason] = verdict_of({"eval": results}, config(min_ratio_to_blessed=1.0))

    assert verdict is True
    assert reason.endswith("ratio unbounded, 95 % interval unbounded to unbounded, reaches 1.")


def sliced(**slices: tuple[int, float]) -> dict[str, Any]:
    """Slices of rows and of the upper end of the ratio's interval."""
    results = split(0.4, blessed=0.4)
    results["models"]["candidate"]["category"] = {name: {"rows": rows} for name, (rows, _) in slices.items()}
    results["ratio_to_blessed"]["category"] = {
        name: {"HR@50": {"value": high - 0.1, "low": high - 0.2, "high": high}} for name, (_, high) in slices.items()
    }
    return results


GATE = SliceGate(by="category", metric="HR@50", min_rows=100, min_ratio_to_blessed=0.8)


def test_a_slice_that_surely_lost_too_much_refuses() -> None:
    gated = EvaluationConfig(ks=(50,), slices=(GATE,))

    good = verdict_of({"eval": sliced(drama=(100, 0.8), crime=(99, 0.1))}, gated)
    assert good == (
        True,
        ["HR@50 by category: none of 1 slices is surely below 0.8.", "No thresholds are set."],
    )
    verdict, reasons = verdict_of({"eval": sliced(drama=(100, 0.79), crime=(500, 1.0))}, gated)
    assert verdict is False
    assert reasons[0].startswith(
        "HR@50 of category 'drama' (100 rows) against the blessed model ratio 0.690, 95 % interval 0.590 to 0.790, "
    )
    assert (
        verdict_of({"eval": split(0.4)}, gated)[1][0] == "HR@50 by category: there is no blessed model to compare with."
    )


def test_a_slice_whose_ratio_has_no_upper_end_is_not_surely_worse() -> None:
    results = sliced(drama=(100, 1.0))
    results["ratio_to_blessed"]["category"]["drama"]["HR@50"] = {"value": 1.0, "low": 0.5, "high": None}

    assert verdict_of({"eval": results}, EvaluationConfig(ks=(50,), slices=(GATE,))) == (
        True,
        ["HR@50 by category: none of 1 slices is surely below 0.8.", "No thresholds are set."],
    )


def test_each_slice_gate_counts() -> None:
    # By category nothing was lost; by activity the ratio is at most 0.6, where 0.8 is asked.
    results = sliced(drama=(100, 1.0))
    results["models"]["candidate"]["activity"] = {"0": {"rows": 100}}
    results["ratio_to_blessed"]["activity"] = {"0": {"HR@50": {"value": 0.5, "low": 0.4, "high": 0.6}}}
    gates = (GATE, GATE.model_copy(update={"by": "activity"}))

    verdict, reasons = verdict_of({"eval": results}, EvaluationConfig(ks=(50,), slices=gates))

    assert verdict is False
    assert reasons[0] == "HR@50 by category: none of 1 slices is surely below 0.8."
    assert reasons[1].startswith("HR@50 of activity '0' (100 rows) against the blessed model ratio 0.500, ")


def test_the_first_model_has_no_blessed_one_to_beat() -> None:
    assert verdict_of({"eval": split(0.1)}, config(min_ratio_to_blessed=1.0)) == (
        True,
        ["HR@50: there is no blessed model to compare with."],
    )


def test_one_failed_check_refuses_and_all_are_told() -> None:
    verdict, reasons = verdict_of({"eval": split(0.3)}, config(min_value=0.5, min_ratio_to_popular=1.0))

    assert verdict is False
    assert [r.split(" ")[4] for r in reasons] == ["is", "reaches"]


def test_each_threshold_counts() -> None:
    thresholds = (Threshold(metric="HR@50", min_value=0.1), Threshold(metric="HR@50", min_value=0.5))

    verdict, reasons = verdict_of({"eval": split(0.3)}, EvaluationConfig(ks=(50,), thresholds=thresholds))

    assert verdict is False
    assert [reason.split(" ")[4:6] for reason in reasons] == [["reaches", "0.1."], ["is", "below"]]


def test_eval_decides_and_not_test() -> None:
    verdict, _ = verdict_of({"eval": split(0.4), "test": split(0.1)}, config(min_value=0.3))

    assert verdict is True


def test_without_eval_test_decides_and_that_is_said() -> None:
    verdict, reasons = verdict_of({"test": split(0.1)}, config(min_value=0.3))

    assert verdict is False
    assert reasons == [
        "There is no split eval: the thresholds are checked on test.",
        f"HR@50 of test 0.1000 is below 0.3{LOOK}.min_value.",
    ]


def test_scores_that_are_no_numbers_refuse_the_model() -> None:
    verdict, reasons = verdict_of({"eval": split(0.9, unscorable=3)}, EvaluationConfig())

    assert verdict is False
    assert reasons[0] == (
        "3 of 10 rows of eval got a score that is not a number: look for values out of all bounds in the data, or "
        "lower train.learning_rate."
    )


def test_scores_that_are_no_numbers_refuse_the_model_on_any_split() -> None:
    verdict, reasons = verdict_of({"eval": split(0.9), "test": split(0.9, unscorable=3)}, EvaluationConfig())

    assert verdict is False
    assert reasons[0].startswith("3 of 10 rows of test got a score that is not a number: ")


def test_a_threshold_on_an_unknown_metric_is_refused() -> None:
    wrong = EvaluationConfig(ks=(10,), thresholds=(Threshold(metric="HR@50", min_value=0.1),))

    with pytest.raises(ValueError, match="threshold on HR@50, which is not computed"):
        check_thresholds(wrong)
    check_thresholds(config(min_value=0.1))
