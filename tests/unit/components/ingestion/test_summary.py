"""Counts, and what is made of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.ingestion.config import IngestionConfig
from components.ingestion.layout import Source
from components.ingestion.summary import Summary, bad_row_problem, split_problems
from tests.unit.components.ingestion.helpers import make_config

COUNTS = {
    "interactions/0/rows": [60, 20, 40],
    "interactions/0/unknown_item": [6, 2, 4],
    "interactions/0/bad_date": [3, 1, 2],
    "items/0/rows": [10, 10, 10],
    "items/0/duplicate_item": [1, 1, 1],
    "split/train": [40, 1, 9],
    "split/items": [9, 1, 1],
    "timestamps": [500, 0, 86_400],
}


def summary(**counts: int) -> Summary:
    changed = {key.replace("__", "/"): [n, n, n] for key, n in counts.items()}
    return Summary.from_json(json.dumps({k: v for k, v in (COUNTS | changed).items() if v[0]}))


def test_sums_and_bounds_are_read() -> None:
    found = summary()
    assert found.rows == {Source.INTERACTIONS: {0: 60}, Source.ITEMS: {0: 10}, Source.QUERIES: {}}
    assert found.bad == {
        Source.INTERACTIONS: {0: {"bad_date": 3, "unknown_item": 6}},
        Source.ITEMS: {0: {"duplicate_item": 1}},
        Source.QUERIES: {},
    }
    assert found.splits == {"train": 40, "items": 9}
    assert (found.first, found.last) == (0, 86_400)
    assert found.failures == ()


def test_properties() -> None:
    more = {"items__0__bad_date": 2, "interactions__1__rows": 5, "interactions__1__unknown_item": 1}
    assert summary(**more).properties() == {
        "rows": 75,
        "bad_rows": 13,
        "interactions_rows": 65,
        "interactions_bad_rows": 10,
        "items_rows": 10,
        "items_bad_rows": 3,
        "queries_rows": 0,
        "queries_bad_rows": 0,
        "unknown_item": 7,
        "bad_date": 5,
        "duplicate_item": 1,
    }


def test_too_many_bad_rows_of_one_kind_of_file(tmp_path: Path) -> None:
    # 9 of 60 are 15 %, 1 of 10 is 10 %.
    assert summary().too_bad(0.15) == []
    assert summary().too_bad(0.1) == [(Source.INTERACTIONS, 0)]
    assert summary().too_bad(0.09) == [(Source.INTERACTIONS, 0), (Source.ITEMS, 0)]
    config = make_config(tmp_path, max_bad_share=0.1)
    assert bad_row_problem(summary(), Source.INTERACTIONS, 0, config, "/q", ['{"line": 3}', '{"line": 4}']) == (
        "data.interactions: 9 of 60 rows are bad (15.00%), more than data.max_bad_share allows (10.00%): "
        'unknown_item 6, bad_date 3; mend the files; all bad rows are in /q; the first: {"line": 3} {"line": 4}'
    )


def test_each_span_has_a_share_of_its_own(tmp_path: Path) -> None:
    # 4 of 100 rows of span 11, and 4 of 400 of all: a window does not thin them out. 2 of 200 are just allowed.
    counts = {"interactions__9__rows": 200, "interactions__9__bad_date": 2, "interactions__10__rows": 100}
    found = summary(**counts, interactions__11__rows=100, interactions__11__bad_date=4, interactions__0__bad_date=0,
                    interactions__0__unknown_item=0, items__0__duplicate_item=0)  # fmt: skip
    assert found.too_bad(0.01) == [(Source.INTERACTIONS, 11)]
    split = {"by": "span", "window": 3}
    files = {"files": "{SPAN}/*.csv", "query_id": "user_id", "item_id": "item_id", "timestamp": "time"}
    config = make_config(tmp_path, split=split, interactions=files, max_bad_share=0.01)
    assert bad_row_problem(found, Source.INTERACTIONS, 11, config, "/q", ['{"line": 3}']) == (
        "data.interactions: 4 of 100 rows of span 11 are bad (4.00%), more than data.max_bad_share allows (1.00%): "
        "bad_date 4; deliver span 11 again, or name it in data.split.skip; all bad rows are in /q; the first: "
        '{"line": 3}'
    )


def by_time(folder: Path, test_from: str | None = None) -> IngestionConfig:
    return make_config(folder, split={"by": "time", "eval_from": "2020-01-01", "test_from": test_from})


def test_an_empty_eval_split_by_time(tmp_path: Path) -> None:
    assert split_problems(summary(), by_time(tmp_path)) == [
        "data.split: the eval split is empty: the interactions are from 1970-01-01T00:00:00+00:00 to "
        "1970-01-02T00:00:00+00:00, none from eval_from = 2020-01-01T00:00:00+00:00 on; "
        "choose another date, or split by last"
    ]


def test_an_empty_train_and_test_split_by_time(tmp_path: Path) -> None:
    train, test = split_problems(summary(split__train=0, split__eval=1), by_time(tmp_path, "2020-01-02"))
    assert train.startswith("data.split: the train split is empty: the interactions are from 1970-01-01")
    assert train.endswith(
        "none before eval_from = 2020-01-01T00:00:00+00:00; choose a later eval_from, or split by last"
    )
    assert test.startswith("data.split: the test split is empty: the interactions are from 1970-01-01")
    assert test.endswith(
        "none from test_from = 2020-01-02T00:00:00+00:00 on; choose an earlier test_from, or leave it out"
    )


@pytest.mark.parametrize(("held_out", "rows"), [({"eval": 1, "test": 2}, 4), ({"eval": 1}, 2)])
def test_an_empty_eval_split_by_last(tmp_path: Path, held_out: dict[str, int], rows: int) -> None:
    config = make_config(tmp_path, split={"by": "last"} | held_out)
    assert split_problems(summary(split__test=1), config) == [
        f"data.split: the eval split is empty, for no query has {rows} interactions or more; "
        "set data.split.eval to 0, split by time, or give more interactions"
    ]


def test_no_item_and_no_interaction(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    assert split_problems(summary(split__items=0), config) == [
        "data.items: no valid item was found, so there is nothing to recommend"
    ]
    nothing = Summary.from_json(json.dumps({"split/items": [1, 1, 1]}))
    assert split_problems(nothing, config) == ["data.interactions: no valid interaction was found"]


def test_failures_are_listed() -> None:
    found = Summary.from_json(json.dumps({"failure/f.csv.gz: damaged": [1, 1, 1]}))
    assert found.failures == ("f.csv.gz: damaged",)
