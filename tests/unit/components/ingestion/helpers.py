"""Small configs and readers that the tests of ingestion share."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import tensorflow as tf
from tfx.types import standard_artifacts

from components.artifacts import Quarantine
from components.ingestion.config import IngestionConfig
from components.ingestion.executor import Executor
from components.ingestion.fingerprint import input_fingerprint
from tests.unit.components.beam_context import beam_context

FEATURES = (
    {"name": "user", "kind": "id", "side": "query"},
    {"name": "age", "kind": "number", "side": "query"},
    {"name": "recent", "kind": "history", "side": "query", "max_values": 2},
    {"name": "device", "kind": "categorical", "side": "interaction"},
    {"name": "item", "kind": "id", "side": "item"},
    {"name": "price", "kind": "number", "side": "item"},
    {"name": "tags", "kind": "multi_categorical", "side": "item"},
)


def make_config(folder: Path, extension: str = "csv", file_format: str = "csv", **data: Any) -> IngestionConfig:
    """The config of the small data set in `folder`; `data` overrides keys of the section data."""
    section = {
        "interactions": {
            "files": str(folder / f"interactions*.{extension}"),
            "format": file_format,
            "query_id": "user_id",
            "item_id": "item_id",
            "timestamp": "time",
        },
        "items": {
            "files": str(folder / f"items*.{extension}"),
            "format": file_format,
            "id": "item_id",
            "category": "kind",
            "show": ["title"],
        },
        "queries": {"files": str(folder / f"queries*.{extension}"), "format": file_format, "id": "user_id"},
        "split": {"by": "last", "eval": 1},
        "max_bad_share": 1.0,
    }
    features = {"query_id": "user", "item_id": "item", "timestamp": "moment", "category": "category"}
    return IngestionConfig.model_validate({"data": section | data, "features": features | {"features": FEATURES}})


def run(config: IngestionConfig, root: Path, context: Any = None, beam_args: tuple[str, ...] = ()) -> dict[str, Any]:
    """Runs the executor; returns its three artifacts."""
    outputs: dict[str, Any] = {
        "examples": standard_artifacts.Examples(),
        "queries": standard_artifacts.Examples(),
        "quarantine": Quarantine(),
    }
    for key, artifact in outputs.items():
        artifact.uri = str(root / key)
    executor = Executor(context or beam_context(beam_args))
    properties = {
        "config": config.model_dump_json(),
        "code_fingerprint": "",
        "input_fingerprint": input_fingerprint(config),
    }
    executor.Do({}, {key: [artifact] for key, artifact in outputs.items()}, properties)
    return outputs


def plain(example: tf.train.Example) -> dict[str, list]:
    """The values of each feature; a missing one has the empty list."""
    result = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        result[name] = list(getattr(feature, kind).value) if kind else []
    return result


def rows(artifact: Any, split: str) -> list[dict[str, list]]:
    """All rows of a split, in an order of their own."""
    paths = sorted(Path(artifact.uri, f"Split-{split}").glob("data_tfrecord-*.gz"))
    records = tf.data.TFRecordDataset([str(path) for path in paths], compression_type="GZIP")
    examples = [plain(tf.train.Example.FromString(record)) for record in records.as_numpy_iterator()]
    return sorted(examples, key=lambda row: json.dumps(row, default=bytes.decode, sort_keys=True))


def quarantined(artifact: Any) -> list[dict[str, Any]]:
    """All entries of the quarantine, by file and line."""
    paths = Path(artifact.uri).glob("rows*.jsonl")
    entries = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    return sorted(entries, key=lambda entry: (entry["file"], entry["line"]))


def write(path: Path, text: str | bytes) -> Path:
    """Writes a file; one whose name ends in .gz is packed."""
    content = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


INTERACTIONS = """user_id,item_id,time,device
u1,i1,100,phone
u1,i2,200,
u1,i3,200,tv
u1,i1,300,phone
02,i2,150,phone
"""
ITEMS = """item_id,kind,price,tags,title
i1,Drama,1.5,a|b,"One, and only"
i2,,,,
i3,Comedy,3,c,Three
"""
QUERIES = """user_id,age
u1,30
idle,50
"""


def write_csv(folder: Path, interactions: str = INTERACTIONS, items: str = ITEMS, queries: str = QUERIES) -> Path:
    """The small data set as CSV."""
    write(folder / "interactions.csv", interactions)
    write(folder / "items.csv", items)
    write(folder / "queries.csv", queries)
    return folder
