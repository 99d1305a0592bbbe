from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import ValidationError

from components.ingestion.checks import check_inputs
from components.ingestion.config import IngestionConfig, InteractionFiles
from components.ingestion.errors import IngestionError
from components.ingestion.fingerprint import input_fingerprint
from components.ingestion.spans import interaction_patterns, missing
from tests.unit.components.ingestion.helpers import ITEMS, QUERIES, make_config, rows, run, write

pytestmark = pytest.mark.slow

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
    # The first day is that of the first span, whatever its number.
    config = by_span(folder, 7, files="{YYYY}-{MM}-{DD}/*.csv", first_day="2026-12-30", first_span=5)
    assert interaction_patterns(config.data, 7) == {
        5: f"{folder}/2026-12-30/*.csv",
        6: f"{folder}/2026-12-31/*.csv",
        7: f"{folder}/2027-01-01/*.csv",
    }
    with pytest.raises(ValidationError, match=r"need split: \{by: span, first_day"):
        by_span(folder, 2, files="{YYYY}-{MM}-{DD}/*.csv")


@pytest.mark.parametrize("files", ["day{SPAN}*.csv", "*{SPAN}.csv", "1{SPAN}/x.csv", "{SPAN}?.csv"])
def test_a_pattern_that_matches_other_spans_too_is_refused(folder: Path, files: str) -> None:
    with pytest.raises(ValidationError, match="span 1 would match the files of span 10 too"):
        by_span(folder, 3, files=files)


def test_a_split_by_span_needs_a_file_for_each(folder: Path) -> None:
    for files in ("all.csv", "{DD}.csv", "{YYYY}/{DD}.csv"):  # the 1st of each month would be one file
        with pytest.raises(ValidationError, match=r"split by span needs \{SPAN\} or"):
            by_span(folder, 3, files=files, first_day="2026-12-30")


def test_a_markers_pattern_is_held_to_the_same(folder: Path) -> None:
    with pytest.raises(ValidationError, match="span 1 would match the files of span 10 too"):
        by_span(folder, 3, ready="{SPAN}*")


@pytest.mark.parametrize("pattern", ["", ".", "/"])
def test_a_pattern_that_names_nothing_is_refused(pattern: str) -> None:
    columns = {"query_id": "u", "item_id": "i", "timestamp": "t"}
    for given in ({"files": pattern}, {"files": "{SPAN}.csv", "ready": pattern}):
        with pytest.raises(ValidationError, match="expected a file's name or a pattern of it"):
            InteractionFiles(**columns, **given)


def test_a_span_that_is_no_day_is_told(folder: Path) -> None:
    config = by_span(folder, 2, files="{YYYY}-{MM}-{DD}/*.csv", first_day="2026-12-30")
    with pytest.raises(IngestionError, match=r"--span: 20240601 is no day: .* from 2026-12-30, which is span 0"):
        list(missing(config.data, 20240601))


def no_file(folder: Path, span: int) -> str:
    return f"data.interactions.files: no file matches {folder}/{span}/*.csv"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no file matches {folder}/1/*.csv"),
        ("", "{folder}/1/part.csv is empty"),
        (HEADER, "{folder}/1/*.csv has a header but no row"),
        (
            "\x00\x01\x02",
            "{folder}/1/part.csv: no column 'user_id', which data.interactions.query_id needs; its columns are "
            "\x00\x01\x02 (is delimiter ',' right?) (and 4 more)",
        ),
        (
            "user_id,item_id,time\nu1,i1,5\n",
            "{folder}/1/part.csv: no column 'device', which features.device needs; its columns are user_id, item_id, "
            "time",
        ),
    ],
    ids=["missing", "empty", "closed", "no_csv", "another_column"],
)
def test_a_delivery_before_the_runs_that_is_of_no_use_is_left_out(
    folder: Path, content: str | None, reason: str
) -> None:
    whole = input_fingerprint(by_span(folder, 3))
    part = folder / "1" / "part.csv"
    text = part.read_text()
    part.unlink()
    if content is not None:
        write(part, content)
    assert check_inputs(by_span(folder, 3)) == {1: "data.interactions.files: " + reason.format(folder=folder)}
    without = input_fingerprint(by_span(folder, 3))
    assert without != whole
    write(part, text)  # it comes late
    assert check_inputs(by_span(folder, 3)) == {}
    assert input_fingerprint(by_span(folder, 3)) == whole


def test_a_parquet_file_that_is_none_is_left_out(folder: Path) -> None:
    config = by_span(folder, 3, files="{SPAN}/*.parquet")
    tree = config.model_dump(mode="json")
    tree["data"]["interactions"]["format"] = "parquet"
    for span in (2, 3):
        frame = pd.DataFrame({"user_id": ["u1"], "item_id": ["i1"], "time": [5], "device": ["tv"]})
        frame.to_parquet(folder / str(span) / "part.parquet")
    write(folder / "1" / "part.parquet", "PAR1 and no more")
    (reason,) = check_inputs(IngestionConfig.model_validate(tree)).values()
    assert reason.startswith(f"data.interactions.files: {folder}/1/part.parquet: not a readable Parquet file: ")


def test_more_than_half_of_the_window_left_out_fails(folder: Path) -> None:
    for span in (0, 1):
        (folder / str(span) / "part.csv").unlink()
    # Of 0, 1 and 2 two are missing; of 1 and 2 one.
    with pytest.raises(IngestionError) as error:
        check_inputs(by_span(folder, 3, window=3))
    assert error.value.problems == (
        "data.split: 2 of the 3 spans to train on before span 3 cannot be used, more than half; deliver them again, or "
        "name in data.split.skip those that will not come",
        f"span 0: {no_file(folder, 0)}",
        f"span 1: {no_file(folder, 1)}",
    )
    assert check_inputs(by_span(folder, 3)) == {1: no_file(folder, 1)}
    # Named, 0 is not looked for: of 1 and 2 one is missing.
    assert check_inputs(by_span(folder, 3, window=3, skip=[0])) == {
        0: "named in data.split.skip",
        1: no_file(folder, 1),
    }


def test_the_runs_own_span_must_be_there_and_have_rows(folder: Path) -> None:
    write(folder / "3" / "part.csv", HEADER)
    with pytest.raises(IngestionError) as error:
        check_inputs(by_span(folder, 3))
    assert error.value.problems == (
        f"data.interactions.files: {folder}/3/*.csv has a header but no row: there is nothing to evaluate span 3 on",
    )
    (folder / "3" / "part.csv").unlink()
    with pytest.raises(IngestionError) as error:
        check_inputs(by_span(folder, 3))
    assert error.value.problems == (no_file(folder, 3),)


def test_what_the_file_system_refuses_is_tried_again_and_not_left_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: str, *_: Any) -> Any:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("components.ingestion.csv_reader.open_file", refused)
    for use in (check_inputs, input_fingerprint):
        with pytest.raises(IngestionError, match=rf"{folder}/1/part\.csv cannot be read: Permission denied"):
            use(by_span(folder, 3))


def test_a_skipped_span_is_not_read(folder: Path, tmp_path: Path) -> None:
    config = by_span(folder, 3, skip=[1])
    assert list(interaction_patterns(config.data, 3)) == [2, 3]
    before = input_fingerprint(config)
    write(folder / "1" / "part.csv", "what it says does not matter")
    assert input_fingerprint(config) == before
    assert check_inputs(config) == {1: "named in data.split.skip"}
    with pytest.raises(IngestionError, match=r"--span: 3 is named in data\.split\.skip, so it is not to be used"):
        check_inputs(by_span(folder, 3, skip=[3]))
    with pytest.raises(IngestionError, match=r"data\.split\.skip: names all spans that span 3 could be trained on"):
        check_inputs(by_span(folder, 3, skip=[1, 2]))

    (folder / "2" / "part.csv").unlink()
    deliver(folder, 2, "u1,i2,200,\nu1,i3,201,\n")
    examples = run(config, tmp_path / "out")["examples"]
    assert sorted(r["moment"] for r in rows(examples, "train")) == [[200], [201]]
    assert examples.get_string_custom_property("span_rows") == '{"2": 2, "3": 2}'
    assert examples.get_string_custom_property("left_out") == '{"1": "named in data.split.skip"}'
    assert {file["span"] for file in json.loads(examples.get_string_custom_property("inputs"))} == {2, 3}


def test_only_what_is_in_reach_is_part_of_a_runs_config(folder: Path) -> None:
    # The config is a key of TFX's cache: a span that another run skips does not make this one run again.
    config = by_span(folder, 3, skip=[9, 2, 0])
    assert config.skipping(()).data.split.skip == (2,)  # the window is 1 and 2
    assert config.skipping([1]).data.split.skip == (1, 2)
    assert config.skipping([1]).model_dump() == by_span(folder, 3, skip=[1, 2]).model_dump()


def test_a_span_that_is_left_out_is_recorded(folder: Path, tmp_path: Path) -> None:
    (folder / "1" / "part.csv").unlink()
    examples = run(by_span(folder, 3), tmp_path / "out")["examples"]
    assert json.loads(examples.get_string_custom_property("left_out")) == {"1": no_file(folder, 1)}
    assert examples.get_string_custom_property("span_rows") == '{"2": 2, "3": 2}'
    assert {file["span"] for file in json.loads(examples.get_string_custom_property("inputs"))} == {2, 3}


def test_bad_rows_are_held_against_their_own_span(folder: Path, tmp_path: Path) -> None:
    # One of 20 rows of span 2, of 24 in all: 5 %, where 4.5 % are allowed.
    good = "".join(f"u{n},i1,{200 + n},\n" for n in range(19))
    write(folder / "2" / "part.csv", HEADER + good + "u9,i99,220,\n")
    config = by_span(folder, 3)
    tight = config.model_copy(update={"data": config.data.model_copy(update={"max_bad_share": 0.045})})
    with pytest.raises(IngestionError) as error:
        run(tight, tmp_path / "out")
    assert str(error.value).startswith(
        "data.interactions: 1 of 20 rows of span 2 are bad (5.00%), more than data.max_bad_share allows (4.50%): "
        "unknown_item 1; deliver span 2 again, or name it in data.split.skip; "
    )
    assert f'"file": "{folder}/2/part.csv", "line": 21' in str(error.value)


def test_damage_further_on_names_the_remedy(folder: Path, tmp_path: Path) -> None:
    config = by_span(folder, 3, files="{SPAN}/*.csv*")
    (folder / "2" / "part.csv").unlink()
    # 2 MB: the check of the header reads the first.
    text = HEADER + "".join(f"u{n},i1,{n},{'x' * 1000}\n" for n in range(2000))
    packed = write(folder / "2" / "part.csv.gz", text)
    packed.write_bytes(packed.read_bytes()[:-30])
    with pytest.raises(
        IngestionError, match=r"damaged gzip file .*; deliver span 2 again, or name it in data\.split\.skip"
    ):
        run(config, tmp_path / "out")


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


@pytest.mark.parametrize("files", ["{SPAN}/*", "{SPAN}/**.csv"])
def test_a_folder_is_no_data(folder: Path, files: str) -> None:
    (folder / "4" / "_temporary").mkdir(parents=True)
    config = by_span(folder, 4, files=files).data
    assert len(list(missing(config, 4))) == 1
    deliver(folder, 4, "u1,i1,400,\n")
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


def test_what_was_delivered_with_which_span_is_part_of_the_fingerprint(folder: Path) -> None:
    before = input_fingerprint(by_span(folder, 3))
    first, last = folder / "1" / "part.csv", folder / "3" / "part.csv"
    of_first, of_last = first.read_text(), last.read_text()
    write(first, of_last)
    write(last, of_first)
    assert input_fingerprint(by_span(folder, 3)) != before


@pytest.mark.parametrize(("deduplicate", "expected"), [(False, (4, 2)), (True, (3, 1))])
def test_deduplicated_a_query_has_each_item_once_in_all_spans(
    folder: Path, tmp_path: Path, deduplicate: bool, expected: tuple[int, int]
) -> None:
    # u1 has i2, i3 and at last i1 in spans 1, 2 and 3, u2 has i1 in each.
    config = by_span(folder, 3)
    data = config.data.model_copy(update={"deduplicate": deduplicate})
    examples = run(config.model_copy(update={"data": data}), tmp_path / "out")["examples"]
    assert (len(rows(examples, "train")), len(rows(examples, "eval"))) == expected


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
