"""Order, histories and splits of one query."""

from __future__ import annotations

import random
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.ingestion.config import SplitByLast, SplitByTime
from components.ingestion.ordering import (
    Interaction,
    held_out_splits,
    history_ends,
    in_order,
    last_items,
    split_names,
    split_seed,
)

BY_TIME = SplitByTime(by="time", eval_from=datetime(2020, 1, 1, tzinfo=timezone.utc))
BY_LAST = SplitByLast(by="last", eval=0, test=1)


def at(*moments: int) -> list[Interaction]:
    return [Interaction(b"i%d" % place, moment, b"") for place, moment in enumerate(moments)]


def test_a_history_stops_before_the_moment_and_before_its_ties() -> None:
    ordered = at(10, 20, 20, 20, 30)
    assert list(history_ends(ordered, BY_TIME)) == [0, 1, 1, 1, 4]


def test_where_the_last_is_held_out_the_drawn_order_is_the_order_of_events() -> None:
    assert list(history_ends(at(10, 20, 20, 20, 30), BY_LAST)) == [0, 1, 2, 3, 4]


def test_the_last_items_oldest_first() -> None:
    ordered = at(10, 20, 30, 40)
    assert last_items(ordered, 3, 2) == [b"i1", b"i2"]
    assert last_items(ordered, 1, 2) == [b"i0"]
    assert last_items(ordered, 0, 2) == []


def test_order_is_by_time_whatever_the_order_of_the_rows() -> None:
    interactions = at(5, 5, 5, 5, 1, 9)
    shuffled = random.Random(1).sample(interactions, len(interactions))
    ordered = in_order(b"q", interactions, 7, False)
    assert [i.timestamp for i in ordered] == [1, 5, 5, 5, 5, 9]
    assert in_order(b"q", shuffled, 7, False) == ordered


def test_ties_are_broken_by_seed_and_query_not_by_item_id() -> None:
    ties = at(*[5] * 20)
    orders = {tuple(in_order(query, ties, seed, False)) for query in (b"q", b"r") for seed in (1, 2)}
    assert len(orders) == 4
    assert tuple(ties) not in orders


def test_ties_are_broken_by_the_seed_of_a_split_by_last() -> None:
    assert split_seed(SplitByLast(by="last", seed=3)) == 3
    assert split_seed(BY_TIME) == 0  # it has none


def test_deduplication_keeps_the_first_of_each_item() -> None:
    rows = [Interaction(b"a", 3, b""), Interaction(b"b", 2, b""), Interaction(b"a", 1, b"x"), Interaction(b"b", 4, b"")]
    assert in_order(b"q", rows, 7, True) == [Interaction(b"a", 1, b"x"), Interaction(b"b", 2, b"")]
    assert len(in_order(b"q", rows, 7, False)) == 4


def utc(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


def test_split_by_time_includes_its_beginnings() -> None:
    split = SplitByTime(by="time", eval_from=utc(20), test_from=utc(30))
    assert split_names(at(10, 19, 20, 29, 30, 40), split) == ["train", "train", "eval", "eval", "test", "test"]
    assert held_out_splits(split) == ("eval", "test")


def test_split_by_time_without_test() -> None:
    split = SplitByTime(by="time", eval_from=utc(20))
    assert split_names(at(10, 20, 99), split) == ["train", "eval", "eval"]
    assert held_out_splits(split) == ("eval",)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (0, ""),
        (1, "train"),
        (2, "train test"),
        (3, "train test test"),
        (4, "train eval test test"),
        (6, "train train train eval test test"),
    ],
)
def test_the_last_ones_are_held_out_and_one_stays_in_train(rows: int, expected: str) -> None:
    assert split_names(at(*range(rows)), SplitByLast(by="last", eval=1, test=2)) == expected.split()


def test_splits_of_no_rows_are_not_there() -> None:
    assert held_out_splits(SplitByLast(by="last", eval=0, test=1)) == ("test",)
    assert held_out_splits(SplitByLast(by="last", eval=1)) == ("eval",)


@given(
    st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.integers(0, 5)), max_size=30),
    st.integers(1, 5),
    st.booleans(),
)
def test_no_history_has_an_item_of_the_same_or_a_later_moment(
    rows: list[tuple[bytes, int]], max_values: int, deduplicate: bool
) -> None:
    ordered = in_order(b"q", [Interaction(item, moment, b"") for item, moment in rows], 7, deduplicate)
    for interaction, end in zip(ordered, history_ends(ordered, BY_TIME), strict=True):
        earlier = [other for other in ordered if other.timestamp < interaction.timestamp]
        assert last_items(ordered, end, max_values) == [other.item_id for other in earlier][-max_values:]
