"""Tests of the thresholds."""

from typing import Any

import pytest

from components.retrieval_evaluator.blessing import check_thresholds, decide
from components.retrieval_evaluator.config import EvaluationConfig, Threshold


def config(**bounds: Any) -> EvaluationConfig:
    return EvaluationConfig(ks=(50,), thresholds=(Threshold(metric="HR@50", **bounds),))


def split(candidate: float, popular: float = 0.2, blessed: float | None = None, unscorable: int = 0) -> dict[str, Any]:
    models: dict[str, Any] = {
        "candidate": {"overall": {"HR@50": candidate}, "unscorable_rows": unscorable},
        "popular": {"overall": {"HR@50": popular}, "unscorable_rows": 0},
    }
    if blessed is not None:
        models["blessed"] = {"overall": {"HR@50": blessed}, "unscorable_rows": 0}
    return {"rows": 10, "repeats_left_out": 0, "models": models}


def test_no_thresholds() -> None:
    assert decide({"eval": split(0.1)}, EvaluationConfig()) == (True, ["No thresholds are set."])


@pytest.mark.parametrize(("value", "blessed", "verb"), [(0.3, True, "reaches"), (0.29, False, "is below")])
def test_a_least_value(value: float, blessed: bool, verb: str) -> None:
    assert decide({"eval": split(value)}, config(min_value=0.3)) == (
        blessed,
        [f"HR@50 of eval {value:.4f} {verb} 0.3."],
    )


@pytest.mark.parametrize(("value", "blessed"), [(0.31, True), (0.29, False)])
def test_a_ratio_to_popular(value: float, blessed: bool) -> None:
    verdict, [reason] = decide({"eval": split(value, popular=0.2)}, config(min_ratio_to_popular=1.5))

    assert verdict is blessed
    assert reason.endswith("1.5 times most-popular's 0.2000 = 0.3000.")


@pytest.mark.parametrize(("value", "blessed"), [(0.37, True), (0.35, False)])
def test_a_ratio_to_the_blessed_model(value: float, blessed: bool) -> None:
    verdict, [reason] = decide({"eval": split(value, blessed=0.4)}, config(min_ratio_to_blessed=0.9))

    assert verdict is blessed
    assert reason.endswith("0.9 times the blessed model's 0.4000 = 0.3600.")


def test_the_first_model_has_no_blessed_one_to_beat() -> None:
    assert decide({"eval": split(0.1)}, config(min_ratio_to_blessed=1.0)) == (
        True,
        ["HR@50: there is no blessed model to compare with."],
    )


def test_one_failed_check_refuses_and_all_are_told() -> None:
    verdict, reasons = decide({"eval": split(0.3)}, config(min_value=0.5, min_ratio_to_popular=1.0))

    assert verdict is False
    assert [r.split(" ")[4] for r in reasons] == ["is", "reaches"]


def test_eval_decides_and_not_test() -> None:
    verdict, _ = decide({"eval": split(0.4), "test": split(0.1)}, config(min_value=0.3))

    assert verdict is True


def test_without_eval_test_decides_and_that_is_said() -> None:
    verdict, reasons = decide({"test": split(0.1)}, config(min_value=0.3))

    assert verdict is False
    assert reasons == [
        "There is no split eval: the thresholds are checked on test.",
        "HR@50 of test 0.1000 is below 0.3.",
    ]


def test_scores_that_are_no_numbers_refuse_the_model() -> None:
    verdict, reasons = decide({"eval": split(0.9, unscorable=3)}, EvaluationConfig())

    assert verdict is False
    assert reasons[0] == "3 of 10 rows of eval got a score that is not a number."


def test_a_threshold_on_an_unknown_metric_is_refused() -> None:
    wrong = EvaluationConfig(ks=(10,), thresholds=(Threshold(metric="HR@50", min_value=0.1),))

    with pytest.raises(ValueError, match="threshold on HR@50, which is not computed"):
        check_thresholds(wrong)
    check_thresholds(config(min_value=0.1))
