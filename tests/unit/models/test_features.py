from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models import features
from models.config import FeatureSpec, ModelConfig
from tests.unit.models import helpers


def spec(**item_id: Any) -> FeatureSpec:
    declared: list[dict[str, Any]] = [
        {"name": "user", "kind": "id", "side": "query"},
        {"name": "history", "kind": "history", "side": "query"},
        {"name": "age", "kind": "number", "side": "query"},
        {"name": "about", "kind": "text", "side": "query"},
        {"name": "seen_at", "kind": "timestamp", "side": "interaction"},
        {"name": "colour", "kind": "categorical", "side": "item"},
    ]
    if item_id:
        declared.append({"name": "item", "kind": "id", "side": "item", **item_id})
    return FeatureSpec(query_id="user", item_id="item", timestamp="seen_at", category="colour", features=declared)


class Sizes:
    def vocabulary_size_by_name(self, vocab_filename: str) -> int:
        return {"item_id_vocabulary": 7, "query_id_vocabulary": 5, "item_values": 3}.get(vocab_filename, 2)


def test_serving_signature() -> None:
    made = {key: (s.shape.as_list(), s.dtype) for key, s in features.serving_signature(spec(hash_buckets=3)).items()}
    assert made == {
        "user": ([None], tf.string),
        "history": ([None, None], tf.string),
        "age": ([None], tf.float32),
        "about": ([None], tf.string),
        "seen_at": ([None], tf.int64),
    }


def test_query_id_is_an_input_even_if_it_is_no_feature() -> None:
    declared = [f.model_dump() for f in spec().features if f.name != "user"]
    without = FeatureSpec(query_id="user", item_id="item", timestamp="seen_at", category="colour", features=declared)
    assert "user" in features.serving_signature(without)
    assert features.make_encodings(without, ModelConfig(), Sizes()).query_id is None


@pytest.mark.parametrize(("side", "missing"), [("interaction", 4), ("query", 0), ("item", 0)])
def test_only_an_interaction_without_a_moment_is_now(side: str, missing: int) -> None:
    declared = [*spec().features, {"name": "since", "kind": "timestamp", "side": side, "buckets": 4}]
    made = FeatureSpec(query_id="user", item_id="item", timestamp="time", category="colour", features=declared)
    encodings = features.make_encodings(made, ModelConfig(), Sizes())
    columns = {"since_moment": tf.sparse.from_dense(tf.constant([[3], [0]], tf.int64))}
    [encoding] = [e for e in (*encodings.query, *encodings.item) if e.key == "since_moment"]
    # Of four buckets the latest is 4; 0 is a row of its own, for what is missing.
    assert encoding.rows == 5
    assert features.single(columns["since_moment"], encoding.missing).numpy().tolist() == [3, missing]


def test_missing_values_of_requests_are_left_out() -> None:
    made = features.from_serving(
        {
            "user": tf.constant(["a", ""]),
            "age": tf.constant([np.nan, 3.0]),
            "seen_at": tf.constant([-1, 0], tf.int64),
            "history": tf.constant([["", "x"], ["", ""]]),
        }
    )
    assert {key: (c.indices.numpy().tolist(), c.values.numpy().tolist()) for key, c in made.items()} == {
        "user": ([[0, 0]], [b"a"]),
        "age": ([[1, 0]], [3.0]),
        "seen_at": ([[1, 0]], [0]),
        "history": ([[0, 1]], [b"x"]),
    }


def test_parsed_rows_become_dense() -> None:
    encodings = helpers.small_encodings()
    rows = [helpers.example({"query_index": [2], "user": [2], "history": [3, 1]}), helpers.example({"history": [2]})]
    made = features.query_columns(tf.io.parse_example(rows, features.query_parse_spec(encodings)), encodings)
    assert {key: column.numpy().tolist() for key, column in made.items()} == {
        "query_index": [2, 4],
        "user": [2, 4],
        "history": [[3, 1], [2, 0]],
    }
    rows = [helpers.example({"candidate_index": [0], "item": [1], "genres": []}), helpers.example({})]
    made = features.item_columns(tf.io.parse_example(rows, features.item_parse_spec(encodings)), encodings)
    assert {key: column.numpy().tolist() for key, column in made.items()} == {
        "candidate_index": [0, -1],
        "item": [1, 5],
        "genres": [[], []],
    }


def test_candidates_as_table_rows() -> None:
    assert features.item_table_rows(tf.constant([0, 3, -1]), 6).numpy().tolist() == [1, 4, 5]


def test_encodings() -> None:
    made = features.make_encodings(spec(min_count=2), ModelConfig(embedding_dim=9), Sizes())
    by_key = {e.key: e for e in (*made.query, *made.item)}
    assert (by_key["item"].rows, by_key["item"].missing) == (5, 4)
    assert (by_key["history"].rows, by_key["history"].pooled, by_key["history"].is_shared) == (9, True, False)
    assert (by_key["age"].rows, by_key["age"].dim) == (0, 1)
    assert by_key["about"].pooled
    assert by_key["colour"].dim == 9
    assert (made.query_rows, made.item_rows, made.query_id, made.item_id) == (7, 9, "user", "item")


def test_features_that_the_model_cannot_use_are_refused() -> None:
    with pytest.raises(ValueError, match="feature 'item' must keep every item"):
        features.make_encodings(spec(min_count=2), ModelConfig(share_item_embedding=True), Sizes())
