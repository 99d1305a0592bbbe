"""The executor from files to tf.Examples."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tensorflow as tf
from tfx.components.util import examples_utils

from components.gates import GateRefusedError
from components.ingestion.errors import IngestionError
from components.ingestion.executor import Executor
from tests.unit.components.beam_context import TWO_THREADS
from tests.unit.components.ingestion.helpers import (
    INTERACTIONS,
    ITEMS,
    QUERIES,
    make_config,
    quarantined,
    rows,
    run,
    write,
    write_csv,
)


def interaction(user: bytes, item: bytes, moment: int, age: list, recent: list, device: list) -> dict[str, list]:
    return {"user": [user], "item": [item], "moment": [moment], "age": age, "recent": recent, "device": device}


def check_small_data_set(outputs: dict[str, Any]) -> None:
    """u1 has i1 at 100, i2 and i3 at 200 and i1 again at 300; 02, who is in no catalogue, has i2 at 150."""
    assert outputs["examples"].split_names == '["train", "eval", "items"]'
    (held_out,) = rows(outputs["examples"], "eval")
    tied = held_out["recent"]  # the last 2 of i1, i2, i3; i2 and i3 in an order that the seed decides
    assert sorted(tied) == [b"i2", b"i3"]
    assert held_out == interaction(b"u1", b"i1", 300, [30.0], tied, [b"phone"])
    # Held out is the last, so that order is the order of events: the second of the two knows of the first.
    recent = {tied[0]: [b"i1"], tied[1]: [b"i1", tied[0]]}
    train = sorted(rows(outputs["examples"], "train"), key=lambda row: (row["moment"], row["item"]))
    assert train == [
        interaction(b"u1", b"i1", 100, [30.0], [], [b"phone"]),
        interaction(b"02", b"i2", 150, [], [], [b"phone"]),
        interaction(b"u1", b"i2", 200, [30.0], recent[b"i2"], []),
        interaction(b"u1", b"i3", 200, [30.0], recent[b"i3"], [b"tv"]),
    ]
    empty: list = []
    assert rows(outputs["examples"], "items") == [
        {"item": [b"i3"], "category": [b"Comedy"], "price": [3.0], "tags": [b"c"], "title": [b"Three"]},
        {
            "item": [b"i1"],
            "category": [b"Drama"],
            "price": [1.5],
            "tags": [b"a", b"b"],
            "title": [b"One, and only"],
        },
        {"item": [b"i2"], "category": empty, "price": empty, "tags": empty, "title": empty},
    ]
    queries = {row["user"][0]: row for row in rows(outputs["queries"], "queries")}
    assert queries == {
        b"u1": {"user": [b"u1"], "age": [30.0], "recent": [tied[1], b"i1"], "seen_items": [b"i1", b"i2", b"i3"]},
        b"02": {"user": [b"02"], "age": [], "recent": [b"i2"], "seen_items": [b"i2"]},
        b"idle": {"user": [b"idle"], "age": [50.0], "recent": [], "seen_items": []},
    }
    assert quarantined(outputs["quarantine"]) == []


def test_csv_packed_and_in_parts(tmp_path: Path) -> None:
    lines = INTERACTIONS.splitlines(keepends=True)
    write(tmp_path / "interactions1.csv.gz", "".join(lines[:3]))
    # The columns of another part may stand in another order.
    second = [line.strip().split(",") for line in (lines[0], *lines[3:])]
    write(tmp_path / "interactions2.csv.gz", "".join(f"{d},{t},{u},{i}\r\n" for u, i, t, d in second))
    write(tmp_path / "items.csv.gz", ITEMS)
    write(tmp_path / "queries.csv.gz", b"\xef\xbb\xbf" + QUERIES.encode())
    config = make_config(tmp_path, "csv.gz")
    outputs = run(config, tmp_path / "out")
    check_small_data_set(outputs)

    examples, quarantine = outputs["examples"], outputs["quarantine"]
    assert examples_utils.get_payload_format_string(examples) == "FORMAT_TF_EXAMPLE"
    assert examples.span == 0
    assert len(examples.get_string_custom_property("input_fingerprint")) == 16
    counts = {split: examples.get_int_custom_property(f"{split}_rows") for split in ("train", "eval", "items")}
    assert counts == {"train": 4, "eval": 1, "items": 3}
    assert outputs["queries"].split_names == '["queries"]'
    assert outputs["queries"].get_int_custom_property("queries_rows") == 3
    assert quarantine.get_int_custom_property("rows") == 5 + 3 + 2
    assert quarantine.get_int_custom_property("bad_rows") == 0


def test_parquet(tmp_path: Path) -> None:
    pd.DataFrame(
        {
            "user_id": ["u1", "u1", "u1", "u1", "02"],
            "item_id": ["i1", "i2", "i3", "i1", "i2"],
            "time": pd.to_datetime([100, 200, 200, 300, 150], unit="s", utc=True),
            "device": pd.Categorical(["phone", None, "tv", "phone", "phone"]),
        }
    ).to_parquet(tmp_path / "interactions.parquet", row_group_size=2)
    pd.DataFrame(
        {
            "item_id": ["i1", "i2", "i3"],
            "kind": ["Drama", None, "Comedy"],
            "price": pd.array([1.5, None, 3.0], dtype="Float64"),
            "tags": [["a", "b"], None, ["c"]],
            "title": ["One, and only", None, "Three"],
        }
    ).to_parquet(tmp_path / "items.parquet")
    pd.DataFrame({"age": [30, 50], "user_id": ["u1", "idle"]}).to_parquet(tmp_path / "queries.parquet")
    check_small_data_set(run(make_config(tmp_path, "parquet", "parquet"), tmp_path / "out"))


def write_tfrecord(path: Path, *examples: dict[str, list]) -> None:
    with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
        for values in examples:
            example = tf.train.Example()
            for name, value in values.items():
                kind = {bytes: "bytes_list", int: "int64_list", float: "float_list"}[type(value[0])]
                getattr(example.features.feature[name], kind).value.extend(value)
            writer.write(example.SerializeToString())


def test_tfrecord(tmp_path: Path) -> None:
    write_tfrecord(
        tmp_path / "interactions.gz",
        {"user_id": [b"u1"], "item_id": [b"i1"], "time": [100], "device": [b"phone"]},
        {"user_id": [b"u1"], "item_id": [b"i2"], "time": [200]},
        {"user_id": [b"u1"], "item_id": [b"i3"], "time": [b"200"], "device": [b"tv"]},
        {"user_id": [b"u1"], "item_id": [b"i1"], "time": [300], "device": [b"phone"]},
        {"user_id": [b"02"], "item_id": [b"i2"], "time": [150], "device": [b"phone"]},
    )
    write_tfrecord(
        tmp_path / "items.gz",
        {"item_id": [b"i1"], "kind": [b"Drama"], "price": [1.5], "tags": [b"a", b"b"], "title": [b"One, and only"]},
        {"item_id": [b"i2"]},
        {"item_id": [b"i3"], "kind": [b"Comedy"], "price": [3], "tags": [b"c"], "title": [b"Three"]},
    )
    write_tfrecord(tmp_path / "queries.gz", {"user_id": [b"u1"], "age": [30.0]}, {"user_id": [b"idle"], "age": [50.0]})
    check_small_data_set(run(make_config(tmp_path, "gz", "tfrecord"), tmp_path / "out"))


# A category, then one of several tags.
LINE_BREAKS = 'i7,"Dra\nma",1,a,\ni8,Drama,1,"a|b\n",\n'


def test_bad_rows_go_to_the_quarantine_and_nowhere_else(tmp_path: Path) -> None:
    bad_interactions = (
        b",i1,1,a\n"  # line 7
        b"u1,,1,a\n"
        b"u1,i1,,a\n"
        b"u1,i1,soon,a\n"
        b"u1,nowhere,1,a\n"
        b"u1,i1,1\n"
        b'u1,"i1,1,a\n'
        b"u\0,i1,1,a\n"
    ) + b"u1,i1,1,\xff\n"
    write_csv(
        tmp_path,
        items=ITEMS + "i1,Crime,9,z,Later\ni4,Drama,cheap,,\ni5,Drama,nan,,\n" + "i6," + "x" * 600 + "\n" + LINE_BREAKS,
        queries=QUERIES + "u1,31\nu1,30\n",
    )
    write(tmp_path / "interactions.csv", INTERACTIONS.encode() + bad_interactions)
    # In a file that comes later by name: the first rows of i2 and i3 stay.
    write(tmp_path / "items_more.csv", "item_id,kind,price,tags,title\ni2,Crime,1,,\ni3,Comedy,3,c,Three\n")
    outputs = run(make_config(tmp_path, max_row_bytes=300), tmp_path / "out")

    found = [(Path(e["file"]).name, e["line"], e["reason"]) for e in quarantined(outputs["quarantine"])]
    assert found == [
        ("interactions.csv", 7, "missing_id"),
        ("interactions.csv", 8, "missing_id"),
        ("interactions.csv", 9, "missing_timestamp"),
        ("interactions.csv", 10, "bad_date"),
        ("interactions.csv", 11, "unknown_item"),
        ("interactions.csv", 12, "wrong_column_count"),
        ("interactions.csv", 13, "unclosed_quote"),
        ("interactions.csv", 14, "nul_byte"),
        ("interactions.csv", 15, "broken_encoding"),
        ("items.csv", 5, "duplicate_item"),
        ("items.csv", 6, "bad_number"),
        ("items.csv", 7, "bad_number"),
        ("items.csv", 8, "too_long"),
        ("items.csv", 9, "line_break"),
        ("items.csv", 11, "line_break"),
        ("items_more.csv", 2, "duplicate_item"),
        ("items_more.csv", 3, "duplicate_item"),
        ("queries.csv", 4, "duplicate_query"),
        ("queries.csv", 5, "duplicate_query"),
    ]
    texts = {(Path(e["file"]).name, e["line"]): e["row"] for e in quarantined(outputs["quarantine"])}
    assert texts["interactions.csv", 11] == "u1,nowhere,1,a"
    assert texts["interactions.csv", 15] == "u1,i1,1,\ufffd"
    assert texts["items.csv", 8] == "i6," + "x" * 497
    assert texts["queries.csv", 4] == "u1,31"

    quarantine = outputs["quarantine"]
    properties = {name: quarantine.get_int_custom_property(name) for name in ("rows", "bad_rows", "interactions_rows")}
    assert properties == {"rows": 14 + 11 + 4, "bad_rows": 19, "interactions_rows": 14}
    assert quarantine.get_int_custom_property("missing_id") == 2
    assert quarantine.get_int_custom_property("duplicate_item") == 3

    for path in Path(quarantine.uri).glob("rows*.jsonl"):
        path.write_text("")
    check_small_data_set(outputs)


def test_too_many_bad_rows_stop_the_run_and_keep_the_quarantine(tmp_path: Path) -> None:
    # One of 11 queries is below the limit: its row is none of the examples.
    queries = QUERIES + "idle,51\n" + "".join(f"q{i},1\n" for i in range(8))
    write_csv(tmp_path, interactions=INTERACTIONS + "u1,i9,5,a\n", queries=queries)
    working_dir = tmp_path / "working"
    context = Executor.Context(stateful_working_dir=str(working_dir))
    # A gate's refusal: a scheduler does not try the same rows again.
    with pytest.raises(GateRefusedError) as error:
        run(make_config(tmp_path, max_bad_share=0.1), tmp_path / "out", context)
    line = json.dumps({"file": f"{tmp_path}/interactions.csv", "line": 7, "reason": "unknown_item", "row": "u1,i9,5,a"})
    assert str(error.value) == (
        "data.interactions: 1 of 6 rows are bad (16.67%), more than data.max_bad_share allows (10.00%): "
        f"unknown_item 1; mend the files; all bad rows are in {working_dir}/quarantine; the first: {line}"
    )
    (kept,) = (working_dir / "quarantine").glob("rows*.jsonl")
    assert sorted(kept.read_text().splitlines())[0] == line
    assert len(kept.read_text().splitlines()) == 2


def test_a_file_that_is_damaged_further_on_stops_the_run(tmp_path: Path) -> None:
    write_csv(tmp_path)
    path = write(tmp_path / "interactions2.csv.gz", INTERACTIONS + "".join(f"u{i},i1,{i},\n" for i in range(500)))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(IngestionError, match=r"^.*interactions2\.csv\.gz: damaged gzip file after line \d+: [^\n]*$"):
        run(make_config(tmp_path, "csv*"), tmp_path / "out")


def test_an_empty_split_stops_the_run(tmp_path: Path) -> None:
    write_csv(tmp_path, interactions="user_id,item_id,time,device\nu1,i1,100,a\n")
    with pytest.raises(IngestionError, match="the eval split is empty, for no query has 2 interactions or more"):
        run(make_config(tmp_path), tmp_path / "out")


def test_files_are_checked_first(tmp_path: Path) -> None:
    write_csv(tmp_path, items="item_id\ni1\n")
    with pytest.raises(IngestionError, match=r"no column 'kind', which data\.items\.category needs"):
        run(make_config(tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("deduplicate", "expected"),
    [
        # u1 has i1 at 100, i2 and i3 at 200 and i1 again at 300, 02 has i2 once. Deduplicated, u1's last row is gone:
        # one of those at 200 is held out.
        (False, (4, [300])),
        (True, (3, [200])),
    ],
)
def test_deduplicated_a_query_has_each_item_once(
    tmp_path: Path, deduplicate: bool, expected: tuple[int, list[int]]
) -> None:
    examples = run(make_config(write_csv(tmp_path), deduplicate=deduplicate), tmp_path / "out")["examples"]
    (held_out,) = rows(examples, "eval")
    assert (len(rows(examples, "train")), held_out["moment"]) == expected


@pytest.mark.slow
def test_the_rows_do_not_depend_on_the_workers_or_on_the_order_of_the_files(tmp_path: Path) -> None:
    generator = random.Random(3)
    lines = [
        f"u{generator.randrange(40)},i{generator.randrange(1, 9)},{generator.randrange(50)},{generator.choice('abc')}\n"
        for _ in range(2000)
    ]
    items = "item_id,kind,price,tags,title\n" + "".join(f"i{i},k{i % 3},{i},,t{i}\n" for i in range(1, 8))
    header = "user_id,item_id,time,device\n"
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    write_csv(one, interactions=header + "".join(lines), items=items)
    generator.shuffle(lines)
    write_csv(two, interactions=header + "".join(lines[:700]), items=items)
    write(two / "interactions2.csv", header + "".join(lines[700:]))
    split = {"by": "last", "eval": 1, "test": 2}
    first = run(make_config(one, split=split, deduplicate=True), tmp_path / "out1")
    second = run(make_config(two, split=split, deduplicate=True), tmp_path / "out2", beam_args=TWO_THREADS)
    for split_name in ("train", "eval", "test", "items"):
        found = rows(first["examples"], split_name)
        assert found
        assert found == rows(second["examples"], split_name)
    assert rows(first["queries"], "queries") == rows(second["queries"], "queries")
    assert first["quarantine"].get_int_custom_property("unknown_item") > 0
    assert len(quarantined(first["quarantine"])) == len(quarantined(second["quarantine"]))
