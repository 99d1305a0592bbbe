"""Known queries made new ones."""

from __future__ import annotations

import tensorflow as tf

from models.features import Encoding, Encodings
from pipeline.experiments.cell.__main__ import as_new

ENCODINGS = Encodings(
    query=(
        Encoding("user", 6, 4, missing=5),
        Encoding("history", 9, 4, pooled=True),
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
    "country": tf.constant([2, 1], tf.int64),
}


def test_unknown_with_the_last_items() -> None:
    made = {key: value.numpy().tolist() for key, value in as_new(COLUMNS, ENCODINGS, 1).items()}

    assert made == {
        "query_index": [5, 5],
        "user": [5, 5],
        "history": [[0, 0, 0, 2], [0, 1, 0, 0]],
        "country": [2, 1],
    }


def test_no_more_than_there_are() -> None:
    assert as_new(COLUMNS, ENCODINGS, 3)["history"].numpy().tolist() == [[0, 3, 5, 2], [6, 1, 0, 0]]
    assert as_new(COLUMNS, ENCODINGS, 0)["history"].numpy().tolist() == [[0] * 4, [0] * 4]
