"""The schemas at work in the standard components."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.components.example_validator import executor as example_validator
from tfx.components.statistics_gen import executor as statistics_gen
from tfx.components.transform import executor as transform
from tfx.types import artifact_utils, standard_artifacts

from components.ingestion.config import IngestionConfig
from components.schema.component import CuratedSchema
from components.schema.executor import Executor
from tests.unit.components.ingestion.helpers import make_config, run, write_csv


def make_schemas(config: IngestionConfig, root: Path) -> dict[str, Any]:
    schemas = {key: standard_artifacts.Schema() for key in ("interactions", "items", "union")}
    for key, artifact in schemas.items():
        artifact.uri = str(root / "schema" / key)
    properties = {
        "features": config.features.model_dump_json(),
        "show": json.dumps(config.data.items.show),
        "distances": "{}",
        "code_fingerprint": "",
    }
    Executor().Do({}, {key: [artifact] for key, artifact in schemas.items()}, properties)
    return schemas


def anomalies_of(examples: Any, schema: Any, excluded: list[str], root: Path) -> dict[tuple[str, str], str]:
    """What the standard components find: (split, feature) -> short description."""
    statistics = standard_artifacts.ExampleStatistics()
    statistics.uri = str(root / "statistics")
    anomalies = standard_artifacts.ExampleAnomalies()
    anomalies.uri = str(root / "anomalies")
    properties = {"exclude_splits": json.dumps(excluded)}
    statistics_gen.Executor(statistics_gen.Executor.Context(tmp_dir=str(root), unique_id="s")).Do(
        {"examples": [examples], "schema": [schema]}, {"statistics": [statistics]}, properties
    )
    example_validator.Executor().Do(
        {"statistics": [statistics], "schema": [schema]}, {"anomalies": [anomalies]}, properties
    )
    found = {}
    for split in artifact_utils.decode_split_names(anomalies.split_names):
        content = Path(anomalies.uri, f"Split-{split}", "SchemaDiff.pb").read_bytes()
        for name, info in anomalies_pb2.Anomalies.FromString(content).anomaly_info.items():
            found[split, name] = info.short_description
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, Any]]:
    """Rows as ingestion writes them: ages, devices and prices are missing in every row."""
    folder = tmp_path_factory.mktemp("data")
    interactions = "user_id,item_id,time,device\n" + "".join(f"u{i % 3},i{i % 2},{i},\n" for i in range(12))
    write_csv(
        folder,
        interactions=interactions,
        items="item_id,kind,price,tags,title\ni0,Drama,,a|b,Zero\ni1,,,,\n",
        queries="user_id,age\nu0,\n",
    )
    config = make_config(folder)
    return run(config, folder / "out")["examples"], make_schemas(config, folder)


@pytest.mark.slow
def test_good_data_has_no_anomalies(data: tuple[Any, dict[str, Any]], tmp_path: Path) -> None:
    examples, schemas = data
    assert anomalies_of(examples, schemas["interactions"], ["items"], tmp_path / "interactions") == {}
    assert anomalies_of(examples, schemas["items"], ["train", "eval"], tmp_path / "items") == {}


@pytest.mark.slow
def test_broken_promises_are_found(data: tuple[Any, dict[str, Any]], tmp_path: Path) -> None:
    examples, _ = data
    tree = make_config(tmp_path).model_dump(mode="json")
    for feature in tree["features"]["features"]:
        if feature["name"] == "age":
            feature["required"] = True
    tree["features"]["features"].append(
        {"name": "category", "kind": "categorical", "side": "item", "values": ["Comedy"]}
    )
    tree["data"]["items"]["show"] = []
    schemas = make_schemas(IngestionConfig.model_validate(tree), tmp_path)
    found = anomalies_of(examples, schemas["interactions"], ["items", "eval"], tmp_path / "interactions")
    assert found == {("train", "age"): "Column dropped"}
    found = anomalies_of(examples, schemas["items"], ["train", "eval"], tmp_path / "items")
    assert found == {("items", "category"): "Unexpected string values", ("items", "title"): "New column"}


def preprocessing_fn(inputs: dict[str, tf.SparseTensor], custom_config: dict[str, Any]) -> dict[str, tf.Tensor]:
    """The number of values of each row and feature."""
    assert all(isinstance(tensor, tf.SparseTensor) for tensor in inputs.values())
    counts = {}
    for name, tensor in inputs.items():
        ones = tf.SparseTensor(tensor.indices, tf.ones_like(tensor.indices[:, 0]), tensor.dense_shape)
        counts[f"{name}_values"] = tf.ensure_shape(tf.sparse.reduce_sum(ones, axis=1), [None])
    return counts


@pytest.mark.slow
def test_transform_reads_all_splits_with_the_union(data: tuple[Any, dict[str, Any]], tmp_path: Path) -> None:
    examples, schemas = data
    outputs: dict[str, Any] = {
        "transform_graph": standard_artifacts.TransformGraph(),
        "transformed_examples": standard_artifacts.Examples(),
    }
    for key, artifact in outputs.items():
        artifact.uri = str(tmp_path / key)
    context = transform.Executor.Context(tmp_dir=str(tmp_path / "tmp"), unique_id="t")
    transform.Executor(context).Do(
        {"examples": [examples], "schema": [schemas["union"]]},
        {key: [artifact] for key, artifact in outputs.items()},
        {
            "preprocessing_fn": f"{__name__}.preprocessing_fn",
            "custom_config": "{}",
            "splits_config": '{"analyze": ["train", "items"], "transform": ["train", "eval", "items"]}',
            "force_tf_compat_v1": 0,
            "disable_statistics": 1,
        },
    )
    counted = {split: values_of(outputs["transformed_examples"], split) for split in ("train", "items")}
    assert len(counted["train"]) == 9
    for row in counted["train"]:
        assert (row["user_values"], row["item_values"], row["moment_values"]) == (1, 1, 1)
        assert (row["tags_values"], row["price_values"], row["category_values"], row["age_values"]) == (0, 0, 0, 0)
    # i0 has a category and two tags, i1 nothing but its id.
    shown = sorted((row["item_values"], row["category_values"], row["tags_values"]) for row in counted["items"])
    assert shown == [(1, 0, 0), (1, 1, 2)]
    assert all(row["user_values"] == row["moment_values"] == 0 for row in counted["items"])


def values_of(artifact: Any, split: str) -> list[dict[str, int]]:
    paths = [str(path) for path in Path(artifact.uri, f"Split-{split}").iterdir()]
    rows = []
    for record in tf.data.TFRecordDataset(paths, compression_type="GZIP").as_numpy_iterator():
        feature = tf.train.Example.FromString(record).features.feature
        rows.append({name: value.int64_list.value[0] for name, value in feature.items()})
    return rows


def test_the_node_has_its_outputs_and_parameters() -> None:
    node = CuratedSchema(features="{}", show="[]", distances="{}", code_fingerprint="c")
    assert {key: channel.type for key, channel in node.outputs.items()} == dict.fromkeys(
        ("interactions", "items", "union"), standard_artifacts.Schema
    )
    assert node.exec_properties == {"features": "{}", "show": "[]", "distances": "{}", "code_fingerprint": "c"}
