"""The declared features as tensors: keys, parse specs, dense batches, encodings, serving inputs.

Training reads transformed tf.Examples, serving gets the outputs of the Transform graph. Both are
sparse, and both pass through `query_columns` or `item_columns`, so the towers see the same tensors either way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import tensorflow as tf

from models.config import Feature, FeatureSpec, Kind, ModelConfig, Side, hour_key, moment_key, weekday_key
from models.feature_checks import check_features

CANDIDATE_INDEX = "candidate_index"  # int64, 0-based position in the item-id vocabulary, -1 unknown
QUERY_INDEX = "query_index"  # int64, 1..V known query ids of the train split, V+1 any other
CATEGORY_INDEX = "category_index"  # int64, 0-based, -1 unknown
QUERY_KEY = "query_key"  # the raw query id
ITEM_KEY = "item_key"  # the raw item id
NEGATIVE_INDICES = "negative_indices"  # int64 [S], candidate indices drawn by the NegativeSampler
NEGATIVE_LOG_Q = "negative_log_q"  # float [S], natural log of the probability of each draw
HARD_NEGATIVE_INDICES = "hard_negative_indices"  # int64 [H], ranked high by the last blessed model; -1 for none
ITEM_COUNT = "item_count"  # int64, train positives of the candidate, in rows of the items split

ITEM_VOCABULARY = "item_id_vocabulary"
QUERY_VOCABULARY = "query_id_vocabulary"
CATEGORY_VOCABULARY = "category_vocabulary"

PADDING = 0  # index of a missing value or of padding in every embedding table

MISSING_STRING = ""
MISSING_TIMESTAMP = -1  # a missing number is NaN


class Vocabularies(Protocol):
    """What of tft.TFTransformOutput is needed here."""

    def vocabulary_size_by_name(self, vocab_filename: str) -> int: ...


@dataclass(frozen=True)
class Encoding:
    """How one transformed column enters a tower.

    Attributes:
      key: the transformed column; int64 indices, or float32 where rows is 0.
      rows: rows of the embedding table, padding and out-of-vocabulary included; 0 for a plain number.
      dim: width of the embedding; 1 for a plain number.
      pooled: the column holds several indices, whose embeddings are averaged.
      table: name of the embedding table; another encoding's key where the two share one.
      missing: the row a missing value reads. For an id it is the row of unknown ids, since training
        never sees an id missing.
    """

    key: str
    rows: int
    dim: int
    pooled: bool = False
    table: str = ""
    missing: int = PADDING

    def __post_init__(self) -> None:
        if not self.table:
            object.__setattr__(self, "table", self.key)

    @property
    def is_number(self) -> bool:
        return self.rows == 0

    @property
    def is_shared(self) -> bool:
        return self.table != self.key


@dataclass(frozen=True)
class Encodings:
    """Inputs of both towers.

    Attributes:
      query: columns of the query tower, those of the interaction included.
      item: columns of the item tower.
      query_rows: known query ids + 2 (padding, out of vocabulary).
      item_rows: candidates + 2 (padding, out of vocabulary).
      query_id: key of the query's id among `query`, or None if it is no feature.
      item_id: key of the item's id among `item`, or None if it is no feature.
      history: key of the longest history among `query`, or None if none is declared. It holds
        `candidate_index` + 1 of earlier items, oldest first, padded with 0.
      history_length: its largest number of items, 0 without one.
    """

    query: tuple[Encoding, ...]
    item: tuple[Encoding, ...]
    query_rows: int
    item_rows: int
    query_id: str | None = None
    item_id: str | None = None
    history: str | None = None
    history_length: int = 0


def vocabulary_name(feature: Feature, spec: FeatureSpec) -> str:
    """Name of the vocabulary file behind a feature's indices.

    Ids that keep every value, and histories, share the complete vocabularies of queries and items.
    """
    if feature.kind is Kind.HISTORY:
        return ITEM_VOCABULARY
    complete = feature.vocabulary_size is None and feature.min_count == 1
    if feature.kind is Kind.ID and complete:
        return ITEM_VOCABULARY if feature.name == spec.item_id else QUERY_VOCABULARY
    return f"{feature.name}_values"


def _encode(feature: Feature, spec: FeatureSpec, config: ModelConfig, sizes: Vocabularies) -> list[Encoding]:
    dim = feature.embedding_dim or config.embedding_dim
    if feature.kind is Kind.TIMESTAMP and feature.buckets is not None:
        # An interaction whose moment is not given is now: the latest of the buckets. An item without a date is not the
        # newest.
        missing = feature.buckets if feature.side is Side.INTERACTION else PADDING
        return [Encoding(moment_key(feature.name), feature.buckets + 1, dim, missing=missing)]
    if feature.kind is Kind.TIMESTAMP:
        return [Encoding(hour_key(feature.name), 25, dim), Encoding(weekday_key(feature.name), 8, dim)]
    if feature.kind is Kind.NUMBER:
        if feature.buckets is None:
            return [Encoding(feature.name, 0, 1)]
        return [Encoding(feature.name, feature.buckets + 1, dim)]
    if feature.hash_buckets is not None:
        return [Encoding(feature.name, feature.hash_buckets + 1, dim, feature.multi_valued)]
    rows = sizes.vocabulary_size_by_name(vocabulary_name(feature, spec)) + 2
    table = spec.item_id if feature.kind is Kind.HISTORY and config.share_item_embedding else ""
    missing = rows - 1 if feature.kind is Kind.ID else PADDING
    return [Encoding(feature.name, rows, dim, feature.multi_valued, table, missing)]


def make_encodings(spec: FeatureSpec, config: ModelConfig, vocabularies: Vocabularies) -> Encodings:
    """Encodings of every declared feature.

    Args:
      spec: the declared features.
      config: gives the default embedding width and whether histories share the item id's table.
      vocabularies: a tft.TFTransformOutput.

    Raises:
      ValueError: the features do not allow the model that is asked for.
    """
    check_features(spec, config)
    query = tuple(e for f in spec.query_features for e in _encode(f, spec, config, vocabularies))
    item = tuple(e for f in spec.item_features for e in _encode(f, spec, config, vocabularies))
    histories = [f for f in spec.query_features if f.kind is Kind.HISTORY]
    history = max(histories, key=lambda f: f.max_values, default=None)
    return Encodings(
        query=query,
        item=item,
        query_rows=vocabularies.vocabulary_size_by_name(QUERY_VOCABULARY) + 2,
        item_rows=vocabularies.vocabulary_size_by_name(ITEM_VOCABULARY) + 2,
        query_id=spec.query_id if any(e.key == spec.query_id for e in query) else None,
        item_id=spec.item_id if any(e.key == spec.item_id for e in item) else None,
        history=history.name if history else None,
        history_length=history.max_values if history else 0,
    )


def _parse_spec(encodings: Iterable[Encoding], index: str) -> dict[str, tf.io.VarLenFeature]:
    columns = {e.key: tf.io.VarLenFeature(tf.float32 if e.is_number else tf.int64) for e in encodings}
    return {index: tf.io.VarLenFeature(tf.int64), **columns}


def query_parse_spec(encodings: Encodings) -> dict[str, tf.io.VarLenFeature]:
    """Spec for `tf.io.parse_example` of the transformed columns of the query side."""
    return _parse_spec(encodings.query, QUERY_INDEX)


def item_parse_spec(encodings: Encodings) -> dict[str, tf.io.VarLenFeature]:
    """Spec for `tf.io.parse_example` of the transformed columns of the item side."""
    return _parse_spec(encodings.item, CANDIDATE_INDEX)


def single(column: tf.SparseTensor, default: int | float | str = PADDING) -> tf.Tensor:
    """A single-valued sparse column [B, <=1] as a dense one [B]; missing values become `default`."""
    rows = column.dense_shape[0]
    return tf.sparse.to_dense(tf.SparseTensor(column.indices, column.values, [rows, 1]), default)[:, 0]


def _to_dense(columns: Mapping[str, tf.SparseTensor], encodings: Iterable[Encoding]) -> dict[str, tf.Tensor]:
    return {
        e.key: tf.sparse.to_dense(columns[e.key]) if e.pooled else single(columns[e.key], e.missing) for e in encodings
    }


def query_columns(columns: Mapping[str, tf.SparseTensor], encodings: Encodings) -> dict[str, tf.Tensor]:
    """Transformed sparse columns as the dense tensors the query tower takes.

    Args:
      columns: sparse columns by key, [B, n]; further keys are ignored.
      encodings: which columns to take.

    Returns:
      By key, int64 or float32: [B], or [B, longest of the batch] padded with 0 where pooled. Beside
      the columns of the encodings `query_index`, V+1 where the id is missing.
    """
    index = single(columns[QUERY_INDEX], encodings.query_rows - 1)
    return {QUERY_INDEX: index, **_to_dense(columns, encodings.query)}


def item_columns(columns: Mapping[str, tf.SparseTensor], encodings: Encodings) -> dict[str, tf.Tensor]:
    """The same for the item tower, with `candidate_index`, -1 where the id is missing."""
    return {CANDIDATE_INDEX: single(columns[CANDIDATE_INDEX], -1), **_to_dense(columns, encodings.item)}


def item_table_rows(candidate_index: tf.Tensor, rows: int) -> tf.Tensor:
    """Candidate indices, -1 for unknown, as rows of a table with padding first and OOV last."""
    return tf.where(candidate_index < 0, tf.cast(rows - 1, candidate_index.dtype), candidate_index + 1)


def raw_dtype(feature: Feature) -> tf.DType:
    """Type of a declared feature in raw tf.Examples and in serving requests."""
    return {Kind.NUMBER: tf.float32, Kind.TIMESTAMP: tf.int64}.get(feature.kind, tf.string)


def raw_query_spec(spec: FeatureSpec) -> dict[str, tf.io.VarLenFeature]:
    """Raw columns the query tower needs, the query id always among them."""
    columns = {f.name: tf.io.VarLenFeature(raw_dtype(f)) for f in spec.query_features}
    return {spec.query_id: tf.io.VarLenFeature(tf.string), **columns}


def raw_item_spec(spec: FeatureSpec) -> dict[str, tf.io.VarLenFeature]:
    """Raw columns the item tower needs, the item id always among them."""
    columns = {f.name: tf.io.VarLenFeature(raw_dtype(f)) for f in spec.item_features}
    return {spec.item_id: tf.io.VarLenFeature(tf.string), **columns}


def serving_signature(spec: FeatureSpec) -> dict[str, tf.TensorSpec]:
    """Inputs of `serving_default`: by feature name, [batch], or [batch, n] where multi-valued.

    Text is one string a row. Missing is "" for strings, NaN for numbers and -1 for timestamps; the
    same values pad a multi-valued row.
    """
    wide = {f.name for f in spec.query_features if f.multi_valued and f.kind is not Kind.TEXT}
    return {
        key: tf.TensorSpec([None, None] if key in wide else [None], column.dtype, name=key)
        for key, column in raw_query_spec(spec).items()
    }


def from_serving(inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.SparseTensor]:
    """Serving tensors as the sparse raw columns the Transform graph takes; missing values left out."""
    columns = {}
    for key, tensor in inputs.items():
        if tensor.dtype == tf.string:
            present = tensor != MISSING_STRING
        elif tensor.dtype == tf.float32:
            present = tf.math.logical_not(tf.math.is_nan(tensor))
        else:
            present = tensor != MISSING_TIMESTAMP
        if tensor.shape.rank == 1:
            tensor, present = tensor[:, tf.newaxis], present[:, tf.newaxis]
        columns[key] = tf.SparseTensor(
            tf.where(present), tf.boolean_mask(tensor, present), tf.shape(tensor, out_type=tf.int64)
        )
    return columns
