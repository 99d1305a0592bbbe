"""Schemas made from the declared features, so that data is checked against what was promised, not what was seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tensorflow_metadata.proto.v0 import schema_pb2

from models.config import Feature, FeatureSpec, Kind

_TYPES = {Kind.NUMBER: schema_pb2.FLOAT, Kind.TIMESTAMP: schema_pb2.INT}


def _key(name: str, *, required: bool, value_type: int = schema_pb2.BYTES) -> schema_pb2.Feature:
    feature = schema_pb2.Feature(name=name, type=value_type)
    feature.value_count.min = feature.value_count.max = 1
    if required:
        _require(feature)
    return feature


def _require(feature: schema_pb2.Feature) -> None:
    feature.presence.min_fraction = 1.0
    feature.presence.min_count = 1


def _declared(declared: Feature) -> schema_pb2.Feature:
    feature = schema_pb2.Feature(name=declared.name, type=_TYPES.get(declared.kind, schema_pb2.BYTES))
    # A missing value leaves the feature without any list, so a list that is there has a value.
    feature.value_count.min = 1
    if declared.kind is Kind.HISTORY:
        feature.value_count.max = declared.max_values
    elif declared.kind is not Kind.MULTI_CATEGORICAL:
        feature.value_count.max = 1
    if declared.required:
        _require(feature)
    if declared.kind is Kind.NUMBER:
        feature.float_domain.disallow_nan = feature.float_domain.disallow_inf = True
        if declared.min is not None:
            feature.float_domain.min = declared.min
        if declared.max is not None:
            feature.float_domain.max = declared.max
    if declared.values is not None:
        feature.string_domain.name = declared.name
        feature.string_domain.value.extend(declared.values)
    return feature


def _schema(keys: Iterable[schema_pb2.Feature], declared: Iterable[Feature]) -> schema_pb2.Schema:
    """Keys and declared features; one called like a key keeps the key's presence."""
    features = {key.name: key for key in keys}
    for f in declared:
        feature = _declared(f)
        if f.name in features and features[f.name].HasField("presence"):
            feature.presence.CopyFrom(features[f.name].presence)
        features[f.name] = feature
    return schema_pb2.Schema(feature=features.values())


def interaction_schema(
    spec: FeatureSpec, drift: Mapping[str, float] | None = None, skew: Mapping[str, float] | None = None
) -> schema_pb2.Schema:
    """The rows of train, eval and test: ids and timestamp, the query's and the interaction's features.

    Args:
      spec: the declared features.
      drift: by feature, the largest distance between one span and the next.
      skew: by feature, the largest distance between the window and its next span.
    """
    keys = (
        _key(spec.query_id, required=True),
        _key(spec.item_id, required=True),
        _key(spec.timestamp, required=True, value_type=schema_pb2.INT),
    )
    schema = _schema(keys, spec.query_features)
    for feature in schema.feature:
        for comparator, limits in ((feature.drift_comparator, drift or {}), (feature.skew_comparator, skew or {})):
            if feature.name in limits:
                text = feature.type == schema_pb2.BYTES
                distance = comparator.infinity_norm if text else comparator.jensen_shannon_divergence
                distance.threshold = limits[feature.name]
    return schema


def item_schema(spec: FeatureSpec, show: Sequence[str]) -> schema_pb2.Schema:
    """The rows of items: id, category, the item's features and the shown columns.

    Args:
      spec: the declared features.
      show: `data.items.show`.
    """
    keys = [_key(spec.item_id, required=True), _key(spec.category, required=False)]
    keys += [_key(column, required=False) for column in show if column not in (spec.item_id, spec.category)]
    return _schema(keys, spec.item_features)


def union_schema(spec: FeatureSpec) -> schema_pb2.Schema:
    """All that Transform reads, of interactions and items alike: names and types, nothing required.

    Without a shape Transform parses each feature as a sparse tensor, empty where a row has none. The
    shown columns are not in it, for no feature is made of them.
    """
    features = {
        spec.query_id: schema_pb2.BYTES,
        spec.item_id: schema_pb2.BYTES,
        spec.timestamp: schema_pb2.INT,
        spec.category: schema_pb2.BYTES,
    }
    features |= {f.name: _TYPES.get(f.kind, schema_pb2.BYTES) for f in spec.features}
    return schema_pb2.Schema(feature=[schema_pb2.Feature(name=n, type=t) for n, t in features.items()])
