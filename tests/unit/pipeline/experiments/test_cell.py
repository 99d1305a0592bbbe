"""Which rows a cell embeds, in which order, and known queries made new ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
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
