from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from components.ingestion.config import IngestionConfig
from components.ingestion.errors import IngestionError
from components.ingestion.inputs import check_inputs, input_fingerprint
from components.ingestion.spans import interaction_patterns, missing
from tests.unit.components.ingestion.helpers import ITEMS, QUERIES, make_config, rows, run, write

HEADER = "user_id,item_id,time,device\n"


def by_span(
    folder: Path, span: int, *, files: str = "{SPAN}/*.csv", ready: str | None = None, **split: Any
) -> IngestionConfig:
    config = make_config(folder)
    tree = config.model_dump(mode="json")
    tree["span"] = span
    tree["data"]["split"] = {"by": "span", "window": 2, **split}
    tree["data"]["interactions"] |= {"files": f"{folder}/{files}", "ready": ready and f"{folder}/{ready}"}
    return IngestionConfig.model_validate(tree)


def deliver(folder: Path, span: int, text: str, name: str = "part.csv") -> None:
    (folder / str(span)).mkdir(exist_ok=True)
    write(folder / str(span) / name, HEADER + text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "items.csv", ITEMS)
    write(tmp_path / "queries.csv", QUERIES)
    for span in range(4):
        deliver(tmp_path, span, f"u1,i{span % 3 + 1},{span * 100},phone\nu2,i1,{span * 100 + 1},tv\n")
    return tmp_path


def test_the_window_and_the_run_itself(folder: Path) -> None:
    assert interaction_patterns(by_span(folder, 3).data, 3) == {s: f"{folder}/{s}/*.csv" for s in (1, 2, 3)}
    assert list(interaction_patterns(by_span(folder, 1).data, 1)) == [0, 1]  # the first span there is
    assert list(interaction_patterns(by_span(folder, 6, first_span=5).data, 6)) == [5, 6]


def test_a_span_may_be_a_day(folder: Path) -> None:
    config = by_span(folder, 2, files="{YYYY}-{MM}-{DD}/*.csv", first_day="2026-12-30")
    assert [Path(p).parent.name for p in interaction_patterns(config.data, 2).values()] == [
        "2026-12-30",
        "2026-12-31",
        "2027-01-01",
    ]
    with pytest.raises(ValidationError, match=r"need split: \{by: span, first_day"):
        by_span(folder, 2, files="{YYYY}-{MM}-{DD}/*.csv")


@pytest.mark.parametrize("files", ["day{SPAN}*.csv", "*{SPAN}.csv", "1{SPAN}/x.csv", "{SPAN}?.csv"])
def test_a_pattern_that_matches_other_spans_too_is_refused(folder: Path, files: str) -> None:
    with pytest.raises(ValidationError, match="span 1 would match the files of span 10 too"):
        by_span(folder, 3, files=files)


def test_a_split_by_span_needs_a_file_for_each(folder: Path) -> None:
    with pytest.raises(ValidationError, match=r"split by span needs \{SPAN\} or"):
        by_span(folder, 3, files="all.csv")


def test_a_gap_in_the_window_is_named(folder: Path) -> None:
    (folder / "2" / "part.csv").unlink()
    with pytest.raises(IngestionError) as error:
        check_inputs(by_span(folder, 3))
    assert error.value.problems == (f"data.interactions.files: no file matches {folder}/2/*.csv (span 2 of 1 to 3)",)


def test_the_first_span_has_nothing_to_train_on(folder: Path) -> None:
    with pytest.raises(IngestionError, match="--span: 0 has no span before it to train on"):
        check_inputs(by_span(folder, 0))


def test_ready_is_when_the_files_and_the_marker_are_there(folder: Path) -> None:
    config = by_span(folder, 4, ready="{SPAN}/_SUCCESS").data
    assert list(missing(config, 4)) == [
        f"span 4 is not there yet: data.interactions.files: no file matches {folder}/4/*.csv",
        f"span 4 is not there yet: data.interactions.ready: no file matches {folder}/4/_SUCCESS",
    ]
    deliver(folder, 4, "u1,i1,400,\n")
    assert len(list(missing(config, 4))) == 1
    write(folder / "4" / "_SUCCESS", "")
    assert list(missing(config, 4)) == []


def test_a_file_that_is_delivered_twice_changes_no_fingerprint(folder: Path) -> None:
    config = by_span(folder, 3)
    before = input_fingerprint(config)
    text = (folder / "2" / "part.csv").read_text()
    (folder / "2" / "part.csv").unlink()
    write(folder / "2" / "another.csv", text)
    write(folder / "2" / "copy.csv", text)
    assert input_fingerprint(config) == before
    deliver(folder, 2, "u3,i1,205,\n", "more.csv")
    assert input_fingerprint(config) != before
    deliver(folder, 0, "u3,i1,5,\n", "more.csv")  # not in the window
    assert input_fingerprint(by_span(folder, 3)) == input_fingerprint(config)


def test_rows_land_in_their_splits_and_equal_ones_once(folder: Path, tmp_path: Path) -> None:
    deliver(folder, 3, "u1,i2,100,phone\nu9,i3,300,\n", "again.csv")  # the first is a row of span 1
    outputs = run(by_span(folder, 3), tmp_path / "out")
    examples = outputs["examples"]
    train = [(r["user"], r["item"], r["moment"], r["recent"]) for r in rows(examples, "train")]
    assert sorted(train) == [
        ([b"u1"], [b"i2"], [100], []),
        ([b"u1"], [b"i3"], [200], [b"i2"]),
        ([b"u2"], [b"i1"], [101], []),
        ([b"u2"], [b"i1"], [201], [b"i1"]),
    ]
    evaluated = [(r["user"], r["item"], r["recent"]) for r in rows(examples, "eval")]
    assert sorted(evaluated) == [
        ([b"u1"], [b"i1"], [b"i2", b"i3"]),
        ([b"u2"], [b"i1"], [b"i1", b"i1"]),
        ([b"u9"], [b"i3"], []),
    ]
    assert examples.span == 3
    assert examples.get_string_custom_property("span_rows") == '{"1": 2, "2": 2, "3": 3}'
    assert outputs["queries"].span == 3


def test_late_rows_only_are_an_empty_eval_split(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(IngestionError, match="none of span 3 can be used; 2 rows are of earlier days than the span's"):
        run(by_span(folder, 3, first_day="1970-01-01"), tmp_path / "out")
