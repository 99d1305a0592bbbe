"""What is told about the files before anything runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from pydantic import ValidationError

from components.ingestion import tfrecord_reader
from components.ingestion.checks import check_inputs
from components.ingestion.config import IngestionConfig, ItemFiles
from components.ingestion.errors import IngestionError
from components.ingestion.fingerprint import input_fingerprint
from components.ingestion.inputs import input_files
from components.ingestion.layout import Source
from tests.unit.components.ingestion.helpers import FEATURES, make_config, write, write_csv


def problems(config: IngestionConfig) -> list[str]:
    with pytest.raises(IngestionError) as error:
        check_inputs(config)
    assert str(error.value) == "\n".join(error.value.problems)
    return list(error.value.problems)


def with_features(config: IngestionConfig, *features: dict[str, Any], **data: Any) -> IngestionConfig:
    tree = config.model_dump(mode="json")
    tree["features"]["features"] = [*FEATURES, *features]
    tree["data"] |= data
    return IngestionConfig.model_validate(tree)


def test_good_files_pass(tmp_path: Path) -> None:
    check_inputs(make_config(write_csv(tmp_path)))


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    write_csv(tmp_path, interactions="", items="item_id,price,tags,title\ni1,1,a,One\n", queries="user_id,age\n")
    assert problems(make_config(tmp_path)) == [
        f"data.interactions.files: {tmp_path}/interactions.csv is empty",
        f"data.items.files: {tmp_path}/items.csv: no column 'kind', which data.items.category needs; "
        "its columns are item_id, price, tags, title",
        f"data.queries.files: {tmp_path}/queries*.csv has a header but no row",
    ]


def test_no_file_matches_the_span(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    tree = config.model_dump(mode="json") | {"span": 12}
    tree["data"]["interactions"]["files"] = f"{tmp_path}/{{SPAN}}/*.csv"
    write_csv(tmp_path)
    assert problems(IngestionConfig.model_validate(tree)) == [
        f"data.interactions.files: no file matches {tmp_path}/12/*.csv"
    ]
    (tmp_path / "12").mkdir()
    write_csv(tmp_path / "12")
    tree["data"]["interactions"]["files"] = f"{tmp_path}/{{SPAN}}/inter*.csv"
    check_inputs(IngestionConfig.model_validate(tree))


def test_a_file_system_that_beam_does_not_know(tmp_path: Path) -> None:
    config = make_config(write_csv(tmp_path))
    queries = {"files": "nowhere://bucket/queries.csv", "id": "user_id"}
    (problem,) = problems(with_features(config, queries=queries))
    assert problem.startswith("data.queries.files: nowhere://bucket/queries.csv cannot be listed: ")


def test_a_part_without_rows_is_no_problem_beside_one_with_rows(tmp_path: Path) -> None:
    write_csv(tmp_path)
    write(tmp_path / "interactions2.csv", "user_id,item_id,time,device\n")
    config = make_config(tmp_path)
    check_inputs(config)
    assert [file.path for file in input_files(config, Source.INTERACTIONS)] == [
        f"{tmp_path}/interactions.csv",
        f"{tmp_path}/interactions2.csv",
    ]


def test_each_file_needs_the_columns_of_ids_and_features(tmp_path: Path) -> None:
    write_csv(tmp_path)
    write(tmp_path / "interactions2.csv", "user_id,item,device\nu,i,d\n")
    where = f"data.interactions.files: {tmp_path}/interactions2.csv: no column"
    assert problems(make_config(tmp_path)) == [
        f"{where} 'item_id', which data.interactions.item_id needs; its columns are user_id, item, device",
        f"{where} 'time', which data.interactions.timestamp needs; its columns are user_id, item, device",
    ]


def test_a_wrong_delimiter_is_hinted_at(tmp_path: Path) -> None:
    write_csv(tmp_path, queries="user_id;age\nu1;3\n")
    found = problems(make_config(tmp_path))
    assert len(found) == 2
    assert all(problem.endswith("its columns are user_id;age (is delimiter ',' right?)") for problem in found)


def test_a_column_named_twice(tmp_path: Path) -> None:
    write_csv(tmp_path, queries="user_id,age,age\nu1,3,4\n")
    assert problems(make_config(tmp_path)) == [
        f"data.queries.files: {tmp_path}/queries.csv: the header names column 'age' twice"
    ]


def test_a_query_feature_needs_the_query_catalogue(tmp_path: Path) -> None:
    config = with_features(make_config(write_csv(tmp_path)), queries=None)
    assert problems(config) == [
        "features.age: side query needs a query catalogue, but data.queries is not given",
    ]


def test_a_feature_that_no_file_has(tmp_path: Path) -> None:
    feature = {"name": "colour", "kind": "categorical", "side": "item", "column": "color"}
    assert problems(with_features(make_config(write_csv(tmp_path)), feature)) == [
        f"data.items.files: {tmp_path}/items.csv: no column 'color', which features.colour needs; "
        "its columns are item_id, kind, price, tags, title"
    ]


@pytest.mark.parametrize(
    ("feature", "show", "expected"),
    [
        (
            {"name": "category", "kind": "multi_categorical", "side": "item", "column": "kind"},
            [],
            "features.category: the name is taken by the category; give the feature another name",
        ),
        (
            {"name": "moment", "kind": "timestamp", "side": "item", "column": "title"},
            [],
            "features.moment: the name is taken by the timestamp; give the feature another name",
        ),
        (
            {"name": "title", "kind": "text", "side": "item", "column": "tags"},
            ["title"],
            "data.items.show: 'title' is also the feature read from column 'tags'; give the feature another name",
        ),
        (
            {"name": "title", "kind": "text", "side": "query", "column": "age"},
            ["title"],
            "data.items.show: 'title' is the name of a value of another file; rename the column",
        ),
    ],
)
def test_two_values_under_one_name(tmp_path: Path, feature: dict[str, str], show: list[str], expected: str) -> None:
    config = make_config(write_csv(tmp_path))
    items = config.data.items.model_dump(mode="json") | {"show": show}
    assert problems(with_features(config, feature, items=items)) == [expected]


def test_key_names_may_be_features_of_the_same_value(tmp_path: Path) -> None:
    features = (
        {"name": "category", "kind": "categorical", "side": "item"},
        {"name": "moment", "kind": "timestamp", "side": "interaction"},
    )
    check_inputs(with_features(make_config(write_csv(tmp_path)), *features))


def test_a_parquet_column_named_twice(tmp_path: Path) -> None:
    names = ["user_id", "item_id", "time", "user_id"]
    table = pa.Table.from_arrays([pa.array([n]) for n in range(4)], names=names)
    pq.write_table(table, tmp_path / "interactions.parquet")
    assert problems(make_config(tmp_path, "parquet", "parquet"))[0] == (
        f"data.interactions.files: {tmp_path}/interactions.parquet: the schema names column 'user_id' twice"
    )


def test_parquet_types_and_columns(tmp_path: Path) -> None:
    pd.DataFrame({"user_id": [1.0, 2.0], "item_id": [1, 2], "time": [1, 2], "device": ["a", "b"]}).to_parquet(
        tmp_path / "interactions.parquet"
    )
    pd.DataFrame({"item_id": [1], "kind": ["a"], "price": [1.0], "title": ["t"]}).to_parquet(tmp_path / "items.parquet")
    write(tmp_path / "queries.parquet", "user_id,age\n1,2\n")
    found = problems(make_config(tmp_path, "parquet", "parquet"))
    assert found[:2] == [
        f"data.interactions.files: {tmp_path}/interactions.parquet: column 'user_id' "
        "(data.interactions.query_id) is double; ids must be text or integers",
        f"data.items.files: {tmp_path}/items.parquet: no column 'tags', which features.tags needs; "
        "its columns are item_id, kind, price, title",
    ]
    assert found[2].startswith(f"data.queries.files: {tmp_path}/queries.parquet: not a readable Parquet file")


def test_tfrecord_columns_and_damage(tmp_path: Path) -> None:
    example = tf.train.Example()
    for name in ("user_id", "item_id", "time", "device"):
        example.features.feature[name].bytes_list.value.append(b"1")
    for name in ("interactions", "items"):
        with tf.io.TFRecordWriter(str(tmp_path / f"{name}.tfrecord")) as writer:
            writer.write(example.SerializeToString())
    write(tmp_path / "queries.tfrecord", "this is no TFRecord file")
    found = problems(make_config(tmp_path, "tfrecord", "tfrecord"))
    assert [problem.split(": ")[2].split(",")[0] for problem in found[:4]] == [
        "no column 'kind'",
        "no column 'price'",
        "no column 'tags'",
        "no column 'title'",
    ]
    assert found[4].startswith(f"data.queries.files: {tmp_path}/queries.tfrecord: damaged TFRecord file: ")
    assert len(found) == 5


def test_a_tfrecord_file_that_is_gone_is_the_file_systems_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"gone\.tfrecord"):
        tfrecord_reader.describe(str(tmp_path / "gone.tfrecord"))


def test_a_shown_column_that_stands_twice(tmp_path: Path) -> None:
    items = make_config(write_csv(tmp_path)).data.items.model_dump(mode="json") | {"show": ["title", "kind", "title"]}
    with pytest.raises(ValidationError, match="'title' stands twice"):
        ItemFiles.model_validate(items)


def test_the_fingerprint_is_of_what_is_in_the_files(tmp_path: Path) -> None:
    config = make_config(write_csv(tmp_path))
    first = input_fingerprint(config)
    path = tmp_path / "items.csv"
    text = path.read_text()
    path.unlink()
    path.write_text(text)
    os.utime(path, (5, 5))
    assert input_fingerprint(config) == first
    path.write_text(text.replace("Drama", "Crime"))
    written = input_fingerprint(config)
    write(tmp_path / "items2.csv", "item_id,kind,price,tags,title\n")
    added = input_fingerprint(config)
    assert len({first, written, added}) == 3
