"""Tests of reading and extending serialised tf.Examples."""

import numpy as np
import pytest
import tensorflow as tf

from components.negative_sampler.rows import (
    count_row,
    parse_item_row,
    parse_raw_item,
    parse_raw_train_row,
    parse_train_row,
    with_item_count,
    with_negatives,
)
from models.config import Feature, FeatureSpec


def example(**features: object) -> bytes:
    row = tf.train.Example()
    for name, values in features.items():
        assert isinstance(values, list)
        feature = row.features.feature[name]
        if values and isinstance(values[0], bytes):
            feature.bytes_list.value.extend(values)
        else:
            feature.int64_list.value.extend(values)
    return row.SerializeToString(deterministic=True)


ROW = example(query_key=[b"u1"], item_key=[b"a"], candidate_index=[3], history=[5, 6, 7])


def test_a_train_row_is_read() -> None:
    assert parse_train_row(ROW) == (b"u1", 3, ROW)


def test_an_item_row_is_read() -> None:
    row = example(item_key=[b"a"], candidate_index=[0])

    assert parse_item_row(row) == (b"a", 0, row)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            example(query_key=[b"u1"], item_key=[b"x"], candidate_index=[-1]),
            "split train, query 'u1', item 'x': candidate_index is -1, so the item is not in the catalogue",
        ),
        (example(candidate_index=[1]), "split train: feature 'query_key' has 0 values, expected one"),
        (example(query_key=[b"u1"]), "split train: feature 'candidate_index' has 0 values, expected one"),
    ],
)
def test_a_bad_train_row_is_refused(row: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_train_row(row)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (example(item_key=[b"x"], candidate_index=[-1]), "split items, item 'x': candidate_index is -1"),
        (example(candidate_index=[1]), "split items: feature 'item_key' has 0 values"),
    ],
)
def test_a_bad_item_row_is_refused(row: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_item_row(row)


SPEC = FeatureSpec(
    query_id="user",
    item_id="film",
    timestamp="time",
    category="genre",
    features=(Feature(name="user", kind="id", side="query"), Feature(name="film", kind="id", side="item")),
)


def test_raw_rows_are_read() -> None:
    row = example(user=[b"u1"], film=[b"a"], time=[7])

    assert parse_raw_train_row(row, SPEC) == (b"u1", (7, row))
    assert parse_raw_item(row, "film") == (b"a", row)


def test_a_bad_raw_row_is_refused() -> None:
    with pytest.raises(ValueError, match="split train: feature 'user' has 0 values, expected one"):
        parse_raw_train_row(example(time=[7]), SPEC)
    with pytest.raises(ValueError, match="split train: feature 'time' has 0 values, expected one"):
        parse_raw_train_row(example(user=[b"u1"]), SPEC)
    with pytest.raises(ValueError, match="split items: feature 'film' has 0 values, expected one"):
        parse_raw_item(example(time=[7]), "film")


def test_hard_negatives_are_added() -> None:
    features = tf.train.Example.FromString(with_negatives(ROW, [9], [-0.5], [4, -1])).features.feature

    assert features["hard_negative_indices"].int64_list.value == [4, -1]
    assert features["negative_indices"].int64_list.value == [9]


def test_negatives_are_added_and_the_row_is_kept() -> None:
    extended = with_negatives(ROW, [9, 8], [-0.5, -1.5])

    features = tf.train.Example.FromString(extended).features.feature
    assert sorted(features) == [
        "candidate_index",
        "history",
        "item_key",
        "negative_indices",
        "negative_log_q",
        "query_key",
    ]
    assert features["history"].int64_list.value == [5, 6, 7]
    assert features["negative_indices"].int64_list.value == [9, 8]
    assert features["negative_log_q"].float_list.value == [-0.5, -1.5]


def test_tensorflows_own_parser_reads_an_extended_row() -> None:
    parsed = tf.io.parse_example(
        [with_negatives(ROW, [9, 8], [-0.5, -1.5]), with_negatives(ROW, [1, 2], [-2.5, -3.5])],
        {
            "query_key": tf.io.FixedLenFeature([], tf.string),
            "history": tf.io.VarLenFeature(tf.int64),
            "negative_indices": tf.io.FixedLenFeature([2], tf.int64),
            "negative_log_q": tf.io.FixedLenFeature([2], tf.float32),
        },
    )

    assert parsed["query_key"].numpy().tolist() == [b"u1", b"u1"]
    assert parsed["history"].values.numpy().tolist() == [5, 6, 7] * 2
    np.testing.assert_array_equal(parsed["negative_indices"], [[9, 8], [1, 2]])
    np.testing.assert_array_equal(parsed["negative_log_q"], [[-0.5, -1.5], [-2.5, -3.5]])


def test_no_negatives_are_empty_lists_of_their_kind() -> None:
    features = tf.train.Example.FromString(with_negatives(ROW, [], [])).features.feature

    assert features["negative_indices"].WhichOneof("kind") == "int64_list"
    assert features["negative_log_q"].WhichOneof("kind") == "float_list"
    parsed = tf.io.parse_single_example(
        with_negatives(ROW, [], []), {"negative_indices": tf.io.FixedLenFeature([0], tf.int64)}
    )
    assert parsed["negative_indices"].shape == [0]


def test_an_items_count_is_added() -> None:
    features = tf.train.Example.FromString(with_item_count(ROW, 0)).features.feature

    assert features["item_count"].int64_list.value == [0]
    assert features["item_key"].bytes_list.value == [b"a"]


def test_a_row_of_counts() -> None:
    assert count_row(b"a", 3, 12) == example(item_key=[b"a"], candidate_index=[3], item_count=[12])
