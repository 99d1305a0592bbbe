"""Which rows a cell embeds, in which order, known queries made new ones, and what is written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.config import FeatureSpec
from models.features import Encoding, Encodings
from models.retrieval_model import Catalogue
from pipeline.experiments.cell import __main__ as cell
from pipeline.experiments.cell.__main__ import as_new, embed_items, query_batches
from pipeline.experiments.preparation.held_out import HeldOut
from tests.unit.models import helpers

ENCODINGS = Encodings(
    query=(
        Encoding("user", 6, 4, missing=5),
        Encoding("history", 9, 4, pooled=True),
        Encoding("lately", 9, 4, pooled=True),
        Encoding("country", 3, 4),
    ),
    item=(),
    query_rows=6,
    item_rows=9,
    query_id="user",
    history="history",
    history_length=4,
)
COLUMNS = {
    "query_index": tf.constant([1, 4], tf.int64),
    "user": tf.constant([1, 4], tf.int64),
    "history": tf.constant([[7, 3, 5, 2], [6, 1, 0, 0]], tf.int64),
    "lately": tf.constant([[5, 2], [6, 1]], tf.int64),
    "country": tf.constant([2, 1], tf.int64),
}
HISTORIES = ("history", "lately")


def test_unknown_with_the_last_items() -> None:
    made = {key: value.numpy().tolist() for key, value in as_new(COLUMNS, ENCODINGS, HISTORIES, 1).items()}

    assert made == {
        "query_index": [5, 5],
        "user": [5, 5],
        "history": [[0, 0, 0, 2], [0, 1, 0, 0]],
        "lately": [[0, 2], [0, 1]],
        "country": [2, 1],
    }


def test_no_more_than_there_are() -> None:
    assert as_new(COLUMNS, ENCODINGS, HISTORIES, 3)["history"].numpy().tolist() == [[0, 3, 5, 2], [6, 1, 0, 0]]
    assert as_new(COLUMNS, ENCODINGS, HISTORIES, 0)["history"].numpy().tolist() == [[0] * 4, [0] * 4]


SPEC = FeatureSpec.model_validate(
    {
        "query_id": "user", "item_id": "item", "timestamp": "at", "category": "group",
        "features": [{"name": "user", "kind": "id", "side": "query"}, {"name": "item", "kind": "id", "side": "item"}],
    }
)  # fmt: skip
HELD_OUT = HeldOut.build({}, [("u3", "i1"), ("u1", "i2"), ("u10", "i0"), ("u1", "i0")], ["i0", "i1", "i2"], {})


class Graph:
    """In place of a Transform graph: a query's number is the one in its id."""

    def transform_features_layer(self) -> Graph:
        return self

    def call(self, columns: Mapping[str, tf.SparseTensor]) -> dict[str, tf.SparseTensor]:
        users = columns["user"]
        numbers = tf.strings.to_number(tf.strings.substr(users.values, 1, -1), tf.int64)
        return {"query_index": tf.SparseTensor(users.indices, numbers, users.dense_shape)}


def _write(folder: Path, *files: list[tuple[str, str]]) -> str:
    for number, pairs in enumerate(files):
        helpers.write_records(folder / f"{number}.gz", [{"user": [user], "item": [item]} for user, item in pairs])
    return str(folder)


def test_queries_come_in_the_order_of_the_held_out_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell, "BATCH", 3)
    folder = _write(tmp_path, [("u3", "i1"), ("u1", "i2")], [("u10", "i0"), ("u1", "i0")])
    batches = query_batches(folder, SPEC, Graph(), Encodings((), (), query_rows=12, item_rows=5), HELD_OUT)
    assert HELD_OUT.query_id.tolist() == ["u1", "u1", "u10", "u3"]
    assert [batch["query_index"].numpy().tolist() for batch in batches] == [[1, 1, 10], [3]]


def test_other_rows_than_the_prepared_ones_are_refused(tmp_path: Path) -> None:
    folder = _write(tmp_path, [("u3", "i1"), ("u1", "i2"), ("u10", "i0")])
    with pytest.raises(ValueError, match=r"and 4 prepared held-out rows differ; remove the prepared folder"):
        query_batches(folder, SPEC, Graph(), Encodings((), (), query_rows=12, item_rows=5), HELD_OUT)


class Numbered:
    """Embeds an item as its candidate index and its price."""

    encodings = ENCODINGS

    def item_embeddings(self, columns: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return tf.stack([tf.cast(columns["candidate_index"], tf.float32), columns["price"]], axis=1)


def test_items_come_by_candidate_index(monkeypatch: pytest.MonkeyPatch) -> None:
    prices = np.array([5, 3, 4, 1, 2], np.float32)
    given: list[Any] = []

    def load(*arguments: Any) -> Catalogue:
        given.append(arguments)
        return Catalogue({"price": prices}, np.zeros(5, np.int64), np.ones(5, np.int64), np.zeros(5, np.float32))

    monkeypatch.setattr(cell, "load_catalogue", load)
    monkeypatch.setattr(cell, "BATCH", 2)
    made = embed_items(Numbered(), ["a"], {"alpha": 1.0})  # type: ignore[arg-type]
    assert given == [(["a"], ENCODINGS, {"alpha": 1.0})]
    assert made.tolist() == [[0, 5], [1, 3], [2, 4], [3, 1], [4, 2]]


# How i0, i1 and i2 are scored for every query, and for it as a new one with its last 0, 1, 2 or 5 items.
SCORES: dict[str | int, list[float]] = {"all": [9, 5, 7], 0: [5, 5, 5], 1: [6, 5, 7], 2: [5, 6, 7], 5: [5, 7, 6]}


def test_new_queries_are_ranked_by_number_of_items_for_the_rows_that_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def as_new_by_number(batch: str, encodings: Encodings, histories: set[str], items: int) -> int:
        assert (batch, encodings, histories) == ("all", ENCODINGS, {"history"})
        return items

    def embed(model: object, batches: Iterable[str | int]) -> np.ndarray:
        return np.array([SCORES[batch] for batch in batches for _ in range(2)])

    stand_ins: dict[str, Any] = {
        "train": lambda *_: SimpleNamespace(encodings=ENCODINGS),
        "query_batches": lambda *_: ["all", "all"],  # two rows each
        "embed_items": lambda *_: np.eye(3),
        "embed_queries": embed,
        "as_new": as_new_by_number,
        "NEW_QUERY_ROWS": 2,
    }
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(cell, name, stand_in)
    places = dict.fromkeys(("train", "items", "held_out", "transform_graph"), str(tmp_path))
    (tmp_path / "artifacts.json").write_text(json.dumps(places))
    HELD_OUT.save(tmp_path)
    columns = SPEC.model_dump(mode="json")
    features = [*columns.pop("features"), {"name": "history", "kind": "history", "side": "query", "max_values": 4}]
    config = {"features": features, "model": {}, "train": {}, "negatives": {"per_positive": 1}}
    folders = {"prepared": str(tmp_path), "folder": str(tmp_path)}
    cell.run({"config": config, "columns": columns, "row": "DAT", "seed": 1, **folders})

    # u1/i0 and u1/i2, each ranked against i1 only; u10/i0 and u3/i1, against both others.
    assert np.load(tmp_path / "ranks.npz")["rank"].tolist() == [1, 1, 1, 3]
    light = np.load(tmp_path / "light.npz")
    assert light["rows"].tolist() == [0, 3]
    # u1/i0 against i1: a tie, 6 to 5, 5 to 6, 5 to 7. u3/i1: all tie, then 5 is the third, 6 the second, 7 the first.
    assert light["rank"].tolist() == [[2, 3], [1, 3], [2, 2], [2, 1]]
