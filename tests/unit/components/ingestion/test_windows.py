from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.ingestion.config import SplitBySpan
from components.ingestion.ordering import Interaction, in_order, last_items
from components.ingestion.windows import count_once, place_by_span

DAY = 86_400
BY_SPAN = SplitBySpan(by="span", window=3)
BY_DAY = SplitBySpan(by="span", window=3, first_day=date(1970, 1, 1))  # span n is the n-th day since 1970


def row(item: str, moment: int, span: int, content: bytes = b"") -> Interaction:
    return Interaction(item.encode(), moment, content, span)


def placed(rows: list[Interaction], split: SplitBySpan, span: int) -> dict[str, tuple[str, str]]:
    """By item: its split and the items of its history."""
    ordered = in_order(b"q", rows, 0, False)
    return {
        p.interaction.item_id.decode(): (p.split, b" ".join(last_items(p.known, p.end, 9)).decode())
        for p in place_by_span(ordered, split, span)
    }


def test_train_is_what_came_before_the_span_and_eval_what_came_with_it() -> None:
    rows = [row("a", 10, 1), row("b", 20, 2), row("c", 30, 3), row("d", 31, 3)]
    assert placed(rows, BY_SPAN, 3) == {
        "a": ("train", ""),
        "b": ("train", "a"),
        "c": ("eval", "a b"),
        "d": ("eval", "a b c"),
    }


def test_a_late_row_is_no_history_of_a_train_row_but_one_of_an_eval_row() -> None:
    # late happened before b and came after it: a model that was trained in time did not know of it.
    rows = [row("a", 10, 1), row("late", 15, 3), row("b", 20, 2), row("c", 30, 3)]
    assert placed(rows, BY_SPAN, 3) == {
        "a": ("train", ""),
        "b": ("train", "a"),
        "late": ("eval", "a"),
        "c": ("eval", "a late b"),
    }
    # The next run trains on it, in its place.
    assert placed([*rows, row("d", 40, 4)], BY_SPAN, 4)["b"] == ("train", "a late")


def test_with_days_a_late_row_is_not_evaluated_and_one_of_the_future_not_trained_on() -> None:
    rows = [row("a", DAY, 1), row("late", 2 * DAY, 3), row("ahead", 3 * DAY, 2), row("c", 3 * DAY + 1, 3)]
    assert placed(rows, BY_DAY, 3) == {
        "a": ("train", ""),
        "ahead": ("early", "a"),
        "late": ("late", "a"),
        "c": ("eval", "a late ahead"),
    }


def test_a_span_of_days_begins_with_its_first_second() -> None:
    rows = [row("a", DAY, 1), row("last", 3 * DAY - 1, 3), row("first", 3 * DAY, 3)]
    assert {item: split for item, (split, _) in placed(rows, BY_DAY, 3).items()} == {
        "a": "train",
        "last": "late",
        "first": "eval",
    }


def test_rows_of_one_second_are_not_each_others_history() -> None:
    rows = [row("a", 10, 1), row("b", 10, 1), row("c", 30, 3), row("d", 30, 3)]
    histories = {item: sorted(history.split()) for item, (_, history) in placed(rows, BY_SPAN, 3).items()}
    assert histories == {"a": [], "b": [], "c": ["a", "b"], "d": ["a", "b"]}


def test_equal_rows_count_once_with_the_span_they_came_with_first() -> None:
    rows = [row("a", 10, 1), row("a", 10, 1), row("a", 10, 3), row("a", 10, 3, b"tv"), row("b", 20, 2), row("a", 30, 3)]
    once = count_once(in_order(b"q", rows, 0, False), deduplicate=False)
    assert sorted(once) == sorted([row("a", 10, 1), row("a", 10, 3, b"tv"), row("b", 20, 2), row("a", 30, 3)])
    assert [i.timestamp for i in once] == [10, 10, 20, 30]


def test_deduplication_keeps_what_the_model_could_have_known() -> None:
    # By time alone the late row of span 3 would take the train row's place.
    rows = [row("a", 20, 1), row("a", 10, 3), row("b", 30, 3)]
    assert count_once(in_order(b"q", rows, 0, False), deduplicate=True) == [row("a", 20, 1), row("b", 30, 3)]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.integers(1, 4)), max_size=20),
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5)), max_size=5),
)
def test_what_comes_with_the_span_changes_no_train_row(
    rows: list[tuple[str, int, int]], delivered: list[tuple[str, int]]
) -> None:
    def train(all_rows: list[Interaction]) -> list[tuple]:
        ordered = count_once(in_order(b"q", all_rows, 0, False), deduplicate=False)
        return [
            (p.interaction, last_items(p.known, p.end, 9))
            for p in place_by_span(ordered, BY_SPAN, 5)
            if p.split == "train"
        ]

    before = [row(*r) for r in rows]
    assert train([*before, *(row(item, moment, 5) for item, moment in delivered)]) == train(before)


@pytest.mark.parametrize("again", [4, 3])
def test_a_span_that_is_delivered_twice_changes_nothing(again: int) -> None:
    rows = [row("a", 10, 3), row("b", 20, 4), row("c", 30, 5)]
    twice = [*rows, *(i._replace(span=5) for i in rows if i.span == again)]
    assert placed(count_once(in_order(b"q", twice, 0, False), False), BY_SPAN, 5) == placed(rows, BY_SPAN, 5)
