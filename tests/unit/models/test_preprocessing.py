from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models import features, preprocessing
from models.config import FeatureSpec, ModelConfig
from tests.unit.models import helpers

SPEC = FeatureSpec(
    query_id="user",
    item_id="item",
    timestamp="time",
    category="group",
    features=[
        {"name": "user", "kind": "id", "side": "query"},
        {"name": "history", "kind": "history", "side": "query", "max_values": 2},
        {"name": "age", "kind": "number", "side": "query", "buckets": 2},
        {"name": "zip", "kind": "categorical", "side": "query", "hash_buckets": 5},
        {"name": "time", "kind": "timestamp", "side": "interaction"},
        {"name": "shown", "kind": "timestamp", "side": "interaction", "buckets": 2},
        {"name": "device", "kind": "categorical", "side": "interaction", "min_count": 2},
        {"name": "colour", "kind": "categorical", "side": "item", "vocabulary_size": 1},
        {"name": "item", "kind": "id", "side": "item"},
        {"name": "title", "kind": "text", "side": "item", "max_values": 3},
        {"name": "genres", "kind": "multi_categorical", "side": "item", "max_values": 2},
        {"name": "price", "kind": "number", "side": "item"},
    ],
)

MONDAY_5_AM = 4 * 86400 + 5 * 3600  # 1970-01-05 was a Monday

ROWS: list[helpers.Row] = [
    {"user": ["a"], "item": ["i1"], "time": [0], "shown": [1000], "age": [3.0], "zip": ["x"], "device": ["tv"]},
    {
        "user": ["a"],
        "item": ["i1"],
        "time": [MONDAY_5_AM],
        "shown": [2000],
        "age": [4.0],
        "history": ["i3", "i2", "i1"],
    },
    {"user": ["b"], "item": ["i2"], "time": [951782399], "shown": [9000], "age": [9.0], "device": ["tv"]},
    {"user": ["b"], "item": ["i1"], "device": ["radio"]},
    {"item": ["i1"], "group": ["D"], "title": ["Ärger, im ärger-HAUS 2"], "genres": ["A", "B", "C"], "price": [1.0]},
    {"item": ["i2"], "group": ["D"], "title": ["im"], "genres": ["A"], "price": [3.0], "colour": ["red"]},
    {"item": ["i3"], "group": ["E"], "title": ["?!"], "colour": ["red"]},
    {"item": ["i4"], "colour": ["blue"]},
]
LATER: list[helpers.Row] = [
    {"user": ["new"], "item": ["new"], "history": ["new", "", "i1"], "device": ["phone"], "age": [-50.0]},
    {"item": ["i2"], "group": ["new"], "price": [1e30], "genres": ["new", "B"], "title": ["neu im haus"]},
    {"user": [""], "price": [float("nan")], "shown": [10**9]},
]


@pytest.fixture(scope="module")
def transformed(tmp_path_factory: pytest.TempPathFactory) -> tuple:
    return helpers.transform(SPEC, ROWS, tmp_path_factory.mktemp("transform"), LATER)


def column(rows: list, key: str) -> list[list]:
    return [np.asarray(row[key]).tolist() for row in rows]


pytestmark = pytest.mark.slow


def test_reserved_columns(transformed: tuple) -> None:
    rows, later, _ = transformed
    # i1 stands in 4 rows, i2 in 2, i3 and i4 in one: positions 0, 1 and, tied, 2 and 3.
    positions = column(rows, "candidate_index")
    assert positions[:6] == [[0], [0], [1], [0], [0], [1]]
    assert sorted(positions[6] + positions[7]) == [2, 3]
    # a and b have two rows each: indices 1 and 2 in some order, and items rows have none.
    known = column(rows, "query_index")
    assert known[0] == known[1] != known[2] == known[3]
    assert sorted(known[0] + known[2]) == [1, 2]
    assert known[4:] == [[]] * 4
    assert column(rows, "category_index") == [[], [], [], [], [0], [0], [1], []]
    assert column(rows, "query_key") == [[b"a"], [b"a"], [b"b"], [b"b"], [], [], [], []]
    assert column(rows, "item_key") == [[b"i1"], [b"i1"], [b"i2"], [b"i1"], [b"i1"], [b"i2"], [b"i3"], [b"i4"]]
    assert column(later, "candidate_index") == [[-1], [1], []]
    assert column(later, "query_index") == [[3], [], []]
    assert column(later, "category_index") == [[], [-1], []]


def test_history_counts_from_the_candidate_index(transformed: tuple) -> None:
    rows, later, _ = transformed
    # The last two of i3, i2, i1: candidates 1 and 0, plus 1.
    assert column(rows, "history") == [[], [2, 1], [], [], [], [], [], []]
    # Of new, "", i1: 5 is out of vocabulary with four items; the empty one is no item.
    assert column(later, "history")[0] == [5, 1]
    assert column(rows, "item")[0] == [1]
    assert column(later, "item") == [[5], [2], []]


def test_text_is_lower_cased_split_on_non_letters_and_cut(transformed: tuple) -> None:
    rows, later, _ = transformed
    # ärger im ärger | haus 2 fall off: ärger 2, im 2; the tie is broken the same way everywhere.
    first, im, again = column(rows, "title")[4]
    assert first == again
    assert {first, im} == {1, 2}
    assert column(rows, "title")[5:] == [[im], [], []]
    assert column(later, "title")[1] == [3, im, 3]


def test_multi_valued_takes_the_first_values(transformed: tuple) -> None:
    rows, later, _ = transformed
    # A twice, B once, C cut away before the vocabulary is made.
    assert column(rows, "genres")[4:] == [[1, 2], [1], [], []]
    assert column(later, "genres")[1] == [3, 2]


def test_vocabulary_limits(transformed: tuple) -> None:
    rows, later, output = transformed
    # colour keeps one value, red; blue is out of vocabulary, 2.
    assert column(rows, "colour")[5:] == [[1], [1], [2]]
    # device needs two rows: radio has one.
    assert column(rows, "device")[:4] == [[1], [], [1], [2]]
    assert column(later, "device")[0] == [2]
    assert output.vocabulary_size_by_name("item_id_vocabulary") == 4


def test_numbers(transformed: tuple) -> None:
    rows, later, _ = transformed
    # Prices 1 and 3: mean 2, standard deviation 1.
    assert column(rows, "price")[4:] == [[-1.0], [1.0], [], []]
    assert column(later, "price") == [[], [preprocessing.MAX_Z_SCORE], []]
    # Ages 3, 4, 9 in two buckets parted at the median.
    assert column(rows, "age")[:4] == [[1], [2], [2], []]
    assert column(later, "age")[0] == [1]


def test_timestamps_in_utc(transformed: tuple) -> None:
    rows, _, _ = transformed
    # Thursday 1970-01-01 00:00; Monday 05:00; Monday 2000-02-28 23:59:59.
    assert column(rows, "time_hour")[:4] == [[1], [6], [24], []]
    assert column(rows, "time_weekday")[:4] == [[4], [1], [1], []]


def test_moments_in_buckets_of_time(transformed: tuple) -> None:
    rows, later, _ = transformed
    # 1000, 2000, 9000 in two buckets parted at the median; what comes after training is in the last one.
    assert column(rows, "shown_moment")[:4] == [[1], [2], [2], []]
    assert column(later, "shown_moment") == [[], [], [2]]


def test_hashing(transformed: tuple) -> None:
    rows, _, _ = transformed
    expected = int(tf.strings.to_hash_bucket_fast("x", 5)) + 1
    assert column(rows, "zip")[:2] == [[expected], []]


def test_encodings_cover_every_index(transformed: tuple) -> None:
    rows, later, output = transformed
    encodings = features.make_encodings(SPEC, ModelConfig(embedding_dim=3, share_item_embedding=True), output)
    assert {e.key: e.rows for e in encodings.query} == {
        "user": 4, "history": 6, "age": 3, "zip": 6, "time_hour": 25, "time_weekday": 8, "shown_moment": 3, "device": 3,
    }  # fmt: skip
    assert {e.key: e.rows for e in encodings.item} == {"colour": 3, "item": 6, "title": 4, "genres": 4, "price": 0}
    for e in (*encodings.query, *encodings.item):
        if not e.is_number:
            assert all(1 <= i < e.rows for row in [*rows, *later] for i in row[e.key])
    assert (encodings.query_rows, encodings.item_rows) == (4, 6)


def test_serving_gives_what_the_transform_step_gave(transformed: tuple) -> None:
    rows, _, output = transformed
    encodings = features.make_encodings(SPEC, ModelConfig(), output)
    raw = {
        "user": tf.constant(["a", "b", ""]),
        "history": tf.constant([["i3", "i2", "i1"], ["", "", ""], ["", "", ""]]),
        "age": tf.constant([4.0, 9.0, np.nan]),
        "zip": tf.constant(["", "", ""]),
        "time": tf.constant([MONDAY_5_AM, 951782399, -1], tf.int64),
        "shown": tf.constant([1000, 9000, -1], tf.int64),
        "device": tf.constant(["", "tv", ""]),
    }
    dense = features.query_columns(output.transform_features_layer()(features.from_serving(raw)), encodings)
    assert dense["history"].numpy().tolist() == [[2, 1], [0, 0], [0, 0]]
    for key in ("age", "time_hour", "time_weekday", "device"):
        of_rows = [(column(rows, key)[i] or [0])[0] for i in (1, 2)]
        assert dense[key].numpy().tolist() == [*of_rows, 0]
    # A missing moment is the present: the latest bucket.
    assert dense["shown_moment"].numpy().tolist() == [1, 2, 2]
    # A missing id reads the row of unknown ids, for that one is trained.
    assert dense["user"].numpy().tolist() == [column(rows, "user")[1][0], column(rows, "user")[2][0], 3]
    assert dense["query_index"].numpy().tolist()[2] == 3


def test_an_items_row_in_the_catalogue_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def vocabulary(column: tf.SparseTensor, vocab_filename: str, frequency_threshold: int | None, **_: Any) -> str:
        asked[vocab_filename] = frequency_threshold
        return vocab_filename

    monkeypatch.setattr(preprocessing.tft, "vocabulary", vocabulary)
    monkeypatch.setattr(preprocessing.tft, "apply_vocabulary", lambda column, *_, **__: tf.sparse.from_dense([[0]]))
    ids = [
        {"name": "user", "kind": "id", "side": "query", "min_count": 2},
        {"name": "item", "kind": "id", "side": "item", "min_count": 2},
    ]
    spec = FeatureSpec(query_id="user", item_id="item", timestamp="time", category="group", features=ids)
    inputs = {name: tf.sparse.from_dense([["x"]]) for name in ("user", "item", "group")}
    preprocessing.preprocessing_fn(inputs, {"features": spec.model_dump_json()})
    # Two train rows are two of the query; of the item they are three, with the one in the catalogue.
    assert (asked["user_values"], asked["item_values"], asked["item_id_vocabulary"]) == (2, 3, None)


def test_dense_or_missing_columns_are_refused(tmp_path: Path) -> None:
    config = {"features": SPEC.model_dump_json()}
    with pytest.raises(ValueError, match="'user' is not in the schema"):
        preprocessing.preprocessing_fn({}, config)
    with pytest.raises(TypeError, match="'user' is dense in the schema"):
        preprocessing.preprocessing_fn({"user": tf.constant(["a"])}, config)
