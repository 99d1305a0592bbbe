"""The schemas of the declared features."""

from __future__ import annotations

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from components.schema.schemas import interaction_schema, item_schema, union_schema
from models.config import FeatureSpec

SPEC = FeatureSpec.model_validate(
    {
        "query_id": "user",
        "item_id": "item",
        "timestamp": "moment",
        "category": "category",
        "features": [
            {"name": "user", "kind": "id", "side": "query"},
            {"name": "age", "kind": "number", "side": "query", "min": 0, "max": 120, "required": True},
            {"name": "recent", "kind": "history", "side": "query", "max_values": 3},
            {"name": "moment", "kind": "timestamp", "side": "interaction"},
            {"name": "category", "kind": "categorical", "side": "item", "values": ["Drama", "Comedy"]},
            {"name": "tags", "kind": "multi_categorical", "side": "item"},
            {"name": "title", "kind": "text", "side": "item"},
        ],
    }
)


def assert_features(schema: schema_pb2.Schema, *expected: str) -> None:
    features = [text_format.Parse(text, schema_pb2.Feature()) for text in expected]
    assert list(schema.feature) == features


def test_interactions() -> None:
    assert_features(
        interaction_schema(SPEC),
        'name: "user" type: BYTES presence {min_fraction: 1 min_count: 1} value_count {min: 1 max: 1}',
        'name: "item" type: BYTES presence {min_fraction: 1 min_count: 1} value_count {min: 1 max: 1}',
        'name: "moment" type: INT presence {min_fraction: 1 min_count: 1} value_count {min: 1 max: 1}',
        'name: "age" type: FLOAT presence {min_fraction: 1 min_count: 1} value_count {min: 1 max: 1}'
        "float_domain {min: 0 max: 120 disallow_nan: true disallow_inf: true}",
        'name: "recent" type: BYTES value_count {min: 1 max: 3}',
    )


def test_items() -> None:
    assert_features(
        item_schema(SPEC, ["title", "cover"]),
        'name: "item" type: BYTES presence {min_fraction: 1 min_count: 1} value_count {min: 1 max: 1}',
        'name: "category" type: BYTES value_count {min: 1 max: 1}'
        'string_domain {name: "category" value: ["Drama", "Comedy"]}',
        'name: "title" type: BYTES value_count {min: 1 max: 1}',
        'name: "cover" type: BYTES value_count {min: 1 max: 1}',
        'name: "tags" type: BYTES value_count {min: 1}',
    )


def test_union_has_no_conditions_and_no_shown_columns() -> None:
    assert_features(
        union_schema(SPEC),
        'name: "user" type: BYTES',
        'name: "item" type: BYTES',
        'name: "moment" type: INT',
        'name: "category" type: BYTES',
        'name: "age" type: FLOAT',
        'name: "recent" type: BYTES',
        'name: "tags" type: BYTES',
        'name: "title" type: BYTES',
    )
