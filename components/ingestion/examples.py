"""Raw tf.Examples: how values stand in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import tensorflow as tf

from components.ingestion.layout import Field, Role
from components.ingestion.values import to_categories, to_category, to_id, to_number, to_text


def add_field(features: tf.train.Features, field: Field, value: object, to_timestamp: Any) -> None:
    """Converts a value and sets it in place. A missing value leaves an empty feature.

    Args:
      features: what is changed.
      field: how the value is read.
      value: as the reader gives it.
      to_timestamp: made by `values.timestamp_parser`.

    Raises:
      BadValue: the value does not fit the field.
    """
    # Naming it makes an empty feature: its kind is unset, which statistics count as missing, and not
    # as a value list of length 0.
    feature = features.feature[field.name]
    role = field.role
    if role in (Role.TEXT, Role.CATEGORY):
        text = to_text(value) if role is Role.TEXT else to_category(value)
        if text is not None:
            feature.bytes_list.value.append(text)
    elif role is Role.CATEGORIES:
        categories = to_categories(value, field.separator)
        if categories:
            feature.bytes_list.value.extend(categories)
    elif role is Role.NUMBER:
        number = to_number(value)
        if number is not None:
            feature.float_list.value.append(number)
    elif role is Role.TIMESTAMP:
        timestamp = to_timestamp(value)
        if timestamp is not None:
            feature.int64_list.value.append(timestamp)
    else:
        feature.bytes_list.value.append(to_id(value))


def add_bytes(features: tf.train.Features, name: str, values: Iterable[bytes]) -> None:
    """Sets a list of bytes; an empty one leaves an empty feature."""
    feature = features.feature[name]
    values = list(values)
    if values:
        feature.bytes_list.value.extend(values)


def serialised_features(fields: Sequence[Field], values: Sequence[object], to_timestamp: Any) -> bytes:
    """Converts a row's values to a serialised tf.train.Features, the same bytes for the same values.

    Raises:
      BadValue: a value does not fit its field.
    """
    if not fields:
        return b""
    features = tf.train.Features()
    for field, value in zip(fields, values, strict=True):
        add_field(features, field, value, to_timestamp)
    return features.SerializeToString(deterministic=True)
