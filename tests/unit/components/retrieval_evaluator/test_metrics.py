"""Tests of ranks and metrics, worked out by hand."""

from math import log2

import numpy as np
import pytest

from components.retrieval_evaluator.metrics import UNIT, activity_bucket, head_items, metric_names, metric_sums, ranks

NONE = np.empty(0, np.int64)
NAN = float("nan")


def rank_of(scores: list[float], target: int, excluded: list[int] | None = None) -> int:
    return ranks(np.array([scores]), np.array([target]), [np.array(excluded or [], np.int64)]).item()


def test_the_best_and_the_worst() -> None:
    assert rank_of([0.1, 0.9, 0.5], 1) == 1
    assert rank_of([0.1, 0.9, 0.5], 2) == 2
    assert rank_of([0.1, 0.9, 0.5], 0) == 3


def test_equal_scores_count_against_the_target() -> None:
    # One above, two others equal: 1 + 1 + 2.
    assert rank_of([0.5, 0.9, 0.5, 0.5, 0.1], 0) == 4


def test_a_collapsed_model_gets_the_last_place() -> None:
    assert rank_of([0.7] * 100, 3) == 100


def test_a_model_collapsed_but_for_noise_hits_by_luck_only() -> None:
    # Each target is anywhere among 1000 items with equal chance: HR@50 is 50 / 1000, and over 4000 rows its standard
    # deviation is sqrt(.05 * .95 / 4000) = .0034.
    generator = np.random.default_rng(0)
    scores = 0.7 + 1e-6 * generator.standard_normal((4000, 1000))

    rank = ranks(scores, np.zeros(4000, np.int64), [NONE] * 4000)

    assert (rank <= 50).mean() == pytest.approx(0.05, abs=4 * 0.0034)


def test_nan_is_the_worst() -> None:
    assert rank_of([0.5, NAN, 0.1], 0) == 1
    # Two are above, one other NaN is equal.
    assert rank_of([0.5, NAN, 0.1, NAN], 1) == 4
    assert rank_of([NAN, NAN, NAN], 1) == 3


def test_minus_infinity_is_as_bad_as_nan() -> None:
    assert rank_of([-np.inf, NAN, 0.0], 0) == 3


def test_excluded_items_are_not_ranked() -> None:
    assert rank_of([0.5, 0.9, 0.5, 0.7], 0, excluded=[1, 2]) == 2
    assert rank_of([0.5, 0.9, 0.5, 0.7], 0, excluded=[1, 2, 3]) == 1


def test_each_row_has_its_own_target_and_exclusions() -> None:
    scores = np.array([[3, 2, 1], [3, 2, 1], [3, 2, 1]])

    result = ranks(scores, np.array([2, 2, 1]), [NONE, np.array([0]), np.array([0, 2])])

    assert result.tolist() == [3, 2, 1]


def test_the_scores_are_left_as_they_were() -> None:
    scores = np.array([[NAN, 1.0]])
    ranks(scores, np.array([1]), [np.array([0])])

    assert np.isnan(scores[0, 0])
    assert scores[0, 1] == 1.0


def test_sums_of_metrics_by_hand() -> None:
    ks = (1, 3, 100)
    # Ranks 1, 3, 4.
    expected = {
        "HR@1": 1,
        "NDCG@1": 1.0,
        "HR@3": 2,
        "NDCG@3": 1.0 + 1 / log2(4),
        "HR@100": 3,
        "NDCG@100": 1.0 + 1 / log2(4) + 1 / log2(5),
        "MRR": 1 + 1 / 3 + 1 / 4,
    }

    assert metric_names(ks) == list(expected)
    assert (metric_sums(np.array([1, 3, 4]), ks)[0] * UNIT).tolist() == pytest.approx(list(expected.values()))


def test_sums_do_not_depend_on_the_order() -> None:
    rank = np.arange(1, 1000)

    parts = sum(metric_sums(part, (10,)) for part in np.array_split(rank[::-1], 7))
    assert (parts == metric_sums(rank, (10,))).all()


def test_sums_in_each_draw_by_hand() -> None:
    # Three rows of ranks 1, 2, 4. The first draw takes the second row twice, the other one the third.
    weights = np.array([[0, 0], [2, 0], [0, 1]])

    sums = metric_sums(np.array([1, 2, 4]), (2,), weights) * UNIT

    # HR@2, NDCG@2, MRR
    gain = 1 / log2(3)
    assert sums.tolist() == [
        pytest.approx([2, 1 + gain, 1.75]),
        pytest.approx([2, 2 * gain, 1.0]),
        pytest.approx([0, 0, 0.25]),
    ]


def test_the_head_is_the_upper_fifth_rounded_up() -> None:
    # Six items: 1.2, so two. The largest is item 4; items 1 and 3 are equal, the first of them counts.
    assert head_items(np.array([0, 5, 1, 5, 9, 2])).tolist() == [False, True, False, False, True, False]


@pytest.mark.parametrize(
    ("rows", "name"),
    [(0, "0"), (1, "1-2"), (2, "1-2"), (3, "3-5"), (5, "3-5"), (6, "6-20"), (20, "6-20"), (21, ">20")],
)
def test_activity(rows: int, name: str) -> None:
    assert activity_bucket(rows) == name
