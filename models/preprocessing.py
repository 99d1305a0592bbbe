"""The Transform step: one graph from raw columns to indices, for training, indexing and serving.

Everything is sparse, so that a row of one kind (an interaction, an item) costs nothing in the
columns of the other. Every embedding index follows one convention: 0 is missing or padding, 1..V the
vocabulary with the most frequent value first, V+1 out of vocabulary; with hash_buckets 1..H.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from models import features
from models.config import Feature, FeatureSpec, Kind, hour_key, moment_key, weekday_key

MAX_Z_SCORE = 10.0  # numbers further out are cut: one absurd request must not overflow the tower
SECONDS_PER_HOUR = 3600
SECONDS_PER_DAY = 86400
EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday; Monday is 0

_NOT_WORD = r"[^\p{L}\p{N}]+"


# TFT traces this function five times in a run, which takes longer than running it on a small set. So these use a
# handful of ops each; slicing a RaggedTensor takes a hundred.


def _present(column: tf.SparseTensor) -> tf.SparseTensor:
    """Without empty strings and NaN."""
    if column.dtype == tf.string:
        return tf.sparse.retain(column, column.values != features.MISSING_STRING)
    if column.dtype == tf.float32:
        return tf.sparse.retain(column, tf.math.is_finite(column.values))
    return column


def _bounded(column: tf.SparseTensor, limit: int, last: bool = False) -> tf.SparseTensor:
    """The first or last `limit` values of each row, in columns 0, 1, 2 ..."""
    rows = column.indices[:, 0]
    place = tf.range(tf.size(rows))
    position = place - tf.searchsorted(rows, rows)
    if last:
        end = tf.searchsorted(rows, rows, side="right")
        kept = end - place <= limit
        # Rows longer than the limit start later.
        position -= tf.maximum(end - place + position - limit, 0)
    else:
        kept = position < limit
    indices = tf.stack([rows, tf.cast(position, tf.int64)], axis=1)
    width = tf.minimum(column.dense_shape[1], limit)
    bounded = tf.SparseTensor(indices, column.values, tf.stack([column.dense_shape[0], width]))
    return tf.sparse.retain(bounded, kept)


def _values(column: tf.SparseTensor, limit: int = 1) -> tf.SparseTensor:
    """The first `limit` present values of each row."""
    return _bounded(_present(column), limit)


def _tokens(column: tf.SparseTensor, limit: int) -> tf.SparseTensor:
    text = features.single(_values(column), features.MISSING_STRING)
    words = tf.strings.regex_replace(tf.strings.lower(text, encoding="utf-8"), _NOT_WORD, " ")
    return _bounded(tf.strings.split(words).to_sparse(), limit)


def _map(column: tf.SparseTensor, values: tf.Tensor) -> tf.SparseTensor:
    return tf.SparseTensor(column.indices, values, column.dense_shape)


def _indices(column: tf.SparseTensor, vocabulary: Any) -> tf.SparseTensor:
    """1..V, V+1 for values that are not in the vocabulary."""
    found = tft.apply_vocabulary(column, vocabulary, num_oov_buckets=1)
    return _map(found, found.values + 1)


def _positions(column: tf.SparseTensor, vocabulary: Any) -> tf.SparseTensor:
    """0..V-1, -1 for values that are not in the vocabulary."""
    return tft.apply_vocabulary(column, vocabulary, default_value=-1)


def _bucket(column: tf.SparseTensor, buckets: int) -> tf.SparseTensor:
    """1..buckets, by quantiles; what lies beyond the values of training is in the first or the last."""
    found = tft.bucketize(column, buckets)
    return _map(found, found.values + 1)


def _number(feature: Feature, column: tf.SparseTensor) -> tf.SparseTensor:
    if feature.buckets is not None:
        return _bucket(column, feature.buckets)
    scaled = tft.scale_to_z_score(column)
    return _map(scaled, tf.clip_by_value(scaled.values, -MAX_Z_SCORE, MAX_Z_SCORE))


def _moment(feature: Feature, column: tf.SparseTensor) -> dict[str, tf.SparseTensor]:
    """How popular a kind of item is drifts, and a query tower that knows the moment follows it.

    Covington, Adams, Sargin, "Deep Neural Networks for YouTube Recommendations", RecSys 2016, have the age of the
    example for this.
    """
    if feature.buckets is not None:
        return {moment_key(feature.name): _bucket(column, feature.buckets)}
    seconds = column.values
    hour = tf.math.floormod(tf.math.floordiv(seconds, SECONDS_PER_HOUR), 24)
    weekday = tf.math.floormod(tf.math.floordiv(seconds, SECONDS_PER_DAY) + EPOCH_WEEKDAY, 7)
    return {
        hour_key(feature.name): _map(column, hour + 1),
        weekday_key(feature.name): _map(column, weekday + 1),
    }


class _Transform:
    """Builds the outputs; keeps the vocabularies, so that each is made once."""

    def __init__(self, spec: FeatureSpec, inputs: Mapping[str, tf.SparseTensor]) -> None:
        self._spec = spec
        self._inputs = inputs
        self._vocabularies: dict[str, Any] = {}

    def _vocabulary(self, name: str, column: tf.SparseTensor, feature: Feature | None = None) -> Any:
        if name not in self._vocabularies:
            least = feature.min_count if feature else 1
            if least > 1 and feature and feature.name == self._spec.item_id:
                least += 1  # its row in the catalogue, beside those of train
            self._vocabularies[name] = tft.vocabulary(
                column,
                top_k=feature.vocabulary_size if feature else None,
                frequency_threshold=least if least > 1 else None,
                vocab_filename=name,
            )
        return self._vocabularies[name]

    def reserved(self) -> dict[str, tf.SparseTensor]:
        query = _values(self._inputs[self._spec.query_id])
        item = _values(self._inputs[self._spec.item_id])
        category = _values(self._inputs[self._spec.category])
        return {
            features.QUERY_KEY: query,
            features.ITEM_KEY: item,
            features.QUERY_INDEX: _indices(query, self._vocabulary(features.QUERY_VOCABULARY, query)),
            features.CANDIDATE_INDEX: _positions(item, self._vocabulary(features.ITEM_VOCABULARY, item)),
            features.CATEGORY_INDEX: _positions(category, self._vocabulary(features.CATEGORY_VOCABULARY, category)),
        }

    def feature(self, feature: Feature) -> dict[str, tf.SparseTensor]:
        column = self._inputs[feature.name]
        if feature.kind is Kind.TIMESTAMP:
            return _moment(feature, _values(column))
        if feature.kind is Kind.NUMBER:
            return {feature.name: _number(feature, _values(column))}
        if feature.kind is Kind.HISTORY:
            earlier = _bounded(_present(column), feature.max_values, last=True)
            return {feature.name: _indices(earlier, self._vocabularies[features.ITEM_VOCABULARY])}
        if feature.kind is Kind.TEXT:
            values = _tokens(column, feature.max_values)
        else:
            values = _values(column, feature.max_values if feature.multi_valued else 1)
        if feature.hash_buckets is not None:
            bucket = tf.strings.to_hash_bucket_fast(values.values, feature.hash_buckets)
            return {feature.name: _map(values, bucket + 1)}
        name = features.vocabulary_name(feature, self._spec)
        return {feature.name: _indices(values, self._vocabulary(name, values, feature))}


def preprocessing_fn(inputs: dict[str, tf.SparseTensor], custom_config: dict[str, Any]) -> dict[str, tf.SparseTensor]:
    """TFX Transform's entry point.

    Args:
      inputs: raw columns by name, all sparse [B, n]; those of the other kind of row are empty.
      custom_config: {"features": FeatureSpec as JSON}.

    Returns:
      Sparse columns: one by the name of each feature (a timestamp gives <name>_hour 1..24 and
      <name>_weekday 1..7, Monday 1, UTC, or with buckets <name>_moment 1..buckets), and query_key, item_key,
      query_index, candidate_index, category_index.

    Raises:
      ValueError: a column is not in the schema.
      TypeError: a column is not sparse.
    """
    spec = FeatureSpec.model_validate_json(custom_config["features"])
    for name in (spec.query_id, spec.item_id, spec.category, *(f.name for f in spec.features)):
        if name not in inputs:
            raise ValueError(f"column {name!r} is not in the schema")
        if not isinstance(inputs[name], tf.SparseTensor):
            raise TypeError(f"column {name!r} is dense in the schema; expected a sparse one, without a fixed shape")
    transform = _Transform(spec, inputs)
    outputs = transform.reserved()
    for feature in spec.features:
        outputs.update(transform.feature(feature))
    return outputs
