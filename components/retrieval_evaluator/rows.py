"""Reading the raw tf.Examples of ingestion."""

from __future__ import annotations

import tensorflow as tf

from components.retrieval_evaluator.catalogue import NO_CATEGORY
from models.config import FeatureSpec


def parse_item(serialised: bytes, spec: FeatureSpec) -> tuple[bytes, str, bytes]:
    """(item id, category, the row itself); NO_CATEGORY where there is none.

    Raises:
      ValueError: the row has no item id.
    """
    features = tf.train.Example.FromString(serialised).features.feature
    category = features[spec.category].bytes_list.value
    name = category[0].decode(errors="replace") if category else NO_CATEGORY
    return _id(features, spec.item_id, "items"), name, serialised


def parse_interaction(serialised: bytes, spec: FeatureSpec, split: str) -> tuple[bytes, tuple[bytes, bytes]]:
    """(query id, (item id, the row itself)).

    Raises:
      ValueError: the row lacks one of the ids.
    """
    features = tf.train.Example.FromString(serialised).features.feature
    return _id(features, spec.query_id, split), (_id(features, spec.item_id, split), serialised)


def parse_count(serialised: bytes) -> tuple[bytes, int]:
    """(item id, train positives) of a row of the artifact ItemCounts."""
    features = tf.train.Example.FromString(serialised).features.feature
    return _id(features, "item_key", "item_counts"), features["item_count"].int64_list.value[0]


def _id(features: dict[str, tf.train.Feature], name: str, split: str) -> bytes:
    values = features[name].bytes_list.value
    if len(values) != 1:
        raise ValueError(f"split {split}: feature {name!r} has {len(values)} values, expected one")
    return values[0]
