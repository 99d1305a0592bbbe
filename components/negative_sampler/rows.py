"""Reading and extending serialised tf.Examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import tensorflow as tf

from models.config import FeatureSpec

Value = TypeVar("Value", bytes, int)


# Plain tuples: Beam has a fast coder for them and pickles named ones.
TrainRow = tuple[bytes, int, bytes]  # query_key, candidate_index, the serialised tf.Example
ItemRow = tuple[bytes, int, bytes]  # item_key, candidate_index, the serialised tf.Example


def parse_train_row(serialised: bytes) -> TrainRow:
    """Reads what sampling needs.

    Raises:
      ValueError: `query_key` is missing or the item is not in the catalogue.
    """
    features = tf.train.Example.FromString(serialised).features.feature
    query_key = _single(features["query_key"].bytes_list.value, "train", "query_key")
    index = _single(features["candidate_index"].int64_list.value, "train", "candidate_index")
    if index < 0:
        item = b"".join(features["item_key"].bytes_list.value).decode(errors="replace")
        raise ValueError(
            f"split train, query {query_key.decode(errors='replace')!r}, item {item!r}: candidate_index is {index}, "
            "so the item is not in the catalogue; ingestion must have quarantined the row"
        )
    return query_key, index, serialised


def parse_item_row(serialised: bytes) -> ItemRow:
    """Reads what counting needs.

    Raises:
      ValueError: `item_key` or `candidate_index` is missing or the index is negative.
    """
    features = tf.train.Example.FromString(serialised).features.feature
    item_key = _single(features["item_key"].bytes_list.value, "items", "item_key")
    index = _single(features["candidate_index"].int64_list.value, "items", "candidate_index")
    if index < 0:
        raise ValueError(
            f"split items, item {item_key.decode(errors='replace')!r}: candidate_index is {index}, expected 0 or more"
        )
    return item_key, index, serialised


def _single(values: Sequence[Value], split: str, name: str) -> Value:
    if len(values) != 1:
        raise ValueError(f"split {split}: feature {name!r} has {len(values)} values, expected one")
    return values[0]


def parse_raw_train_row(serialised: bytes, spec: FeatureSpec) -> tuple[bytes, tuple[int, bytes]]:
    """(query id, (unix seconds, the row itself)) of a raw train row.

    Raises:
      ValueError: it lacks its query id or its time.
    """
    features = tf.train.Example.FromString(serialised).features.feature
    query_id = _single(features[spec.query_id].bytes_list.value, "train", spec.query_id)
    return query_id, (_single(features[spec.timestamp].int64_list.value, "train", spec.timestamp), serialised)


def parse_raw_item(serialised: bytes, item_id: str) -> tuple[bytes, bytes]:
    """(item id, the row itself) of a raw items row, whose column `item_id` names.

    Raises:
      ValueError: it lacks its id.
    """
    features = tf.train.Example.FromString(serialised).features.feature
    return _single(features[item_id].bytes_list.value, "items", item_id), serialised


def with_negatives(
    serialised: bytes, indices: Sequence[int], log_q: Sequence[float], hard: Sequence[int] | None = None
) -> bytes:
    """Adds `negative_indices` int64[S] and `negative_log_q` float[S] to a serialised tf.Example.

    And `hard_negative_indices` int64[H], if `hard` is given.

    Serialised messages of one type, laid end to end, parse as their merge (protobuf encoding guide,
    "Last One Wins"), and TensorFlow's own example parser follows that: the row need not be parsed.
    """
    added = tf.train.Example()
    features = added.features.feature
    # Set even when empty, so that S = 0 is a list without values and not a feature without a kind.
    features["negative_indices"].int64_list.SetInParent()
    features["negative_indices"].int64_list.value.extend(indices)
    features["negative_log_q"].float_list.SetInParent()
    features["negative_log_q"].float_list.value.extend(log_q)
    if hard is not None:
        features["hard_negative_indices"].int64_list.value.extend(hard)
    return serialised + added.SerializeToString(deterministic=True)


def with_item_count(serialised: bytes, count: int) -> bytes:
    """Adds `item_count` int64[1], the item's train positives, as `with_negatives` does."""
    added = tf.train.Example()
    added.features.feature["item_count"].int64_list.value.append(count)
    return serialised + added.SerializeToString()


def count_row(item_key: bytes, candidate_index: int, count: int) -> bytes:
    """A row of the artifact ItemCounts."""
    row = tf.train.Example()
    row.features.feature["item_key"].bytes_list.value.append(item_key)
    row.features.feature["candidate_index"].int64_list.value.append(candidate_index)
    row.features.feature["item_count"].int64_list.value.append(count)
    return row.SerializeToString(deterministic=True)
