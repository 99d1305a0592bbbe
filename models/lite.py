"""The query tower once more, as TensorFlow Lite: one row, dense, without the Transform graph.

The SavedModel stays what TensorFlow Serving runs and what is right in doubt. Called for one query it spends most of
its time on the Transform graph's several hundred ops. This writes beside it
  assets.extra/tower.tflite   columns of one query -> its embedding, of TensorFlow Lite's own ops only
  assets.extra/tower.json     models.columns.ColumnsConfig: raw features -> columns
which a server may use where it has seen that both give the same numbers.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from pathlib import PurePath

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.lite.python.convert import ConverterError

from models import features, preprocessing
from models.columns import LARGEST_FLOAT32, Buckets, Column, ColumnsConfig, Lookup, Moment, Period, ZScore
from models.config import Feature, FeatureSpec, Kind, hour_key, moment_key, weekday_key
from models.features import Encoding
from models.retrieval_model import RetrievalModel

TOWER = "tower.tflite"
COLUMNS = "tower.json"

LAST_SECOND = 253_402_300_799  # of the year 9999
_HIGHEST = int(np.float32(LARGEST_FLOAT32).view(np.int32))
FLOAT_PLACES = (-_HIGHEST - 1, _HIGHEST)

Transform = Callable[[Mapping[str, tf.SparseTensor]], Mapping[str, tf.SparseTensor]]

progress = logging.getLogger("retrieval.progress")


class NotConvertibleError(ValueError):
    """A tower has a feature or an op that is known to the SavedModel only."""


def export_lite(model: RetrievalModel, transform: Transform, spec: FeatureSpec, folder: str) -> None:
    """Writes the two files into a SavedModel's folder; where the tower cannot be converted, logs why and writes none.

    Args:
      model: trained.
      transform: the Transform graph it was trained behind.
      spec: the declared features.
      folder: of the SavedModel, written already.
    """
    try:
        columns = query_columns(model, transform, spec)
        content = convert(model.query_embeddings, columns)
    except NotConvertibleError as error:
        progress.info("the query tower is served by the SavedModel alone: %s", error)
        return
    extra = PurePath(folder) / "assets.extra"
    with tf.io.gfile.GFile(str(extra / TOWER), "wb") as file:
        file.write(content)
    with tf.io.gfile.GFile(str(extra / COLUMNS), "w") as file:
        file.write(columns.model_dump_json(indent=2) + "\n")


def convert(tower: Callable[[Mapping[str, tf.Tensor]], tf.Tensor], config: ColumnsConfig) -> bytes:
    """A tower as a TensorFlow Lite model with the signature `serving_default`.

    Args:
      tower: columns by key, of one row, to its embedding, float32 [1, ...].
      config: the columns.

    Raises:
      NotConvertibleError: it has an op that TensorFlow Lite does not have.
    """

    def call(**columns: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"embedding": tower(columns)}

    specs = {}
    for column in config.columns:
        shape = [1, column.width] if isinstance(column, Lookup) and column.width else [1]
        dtype = tf.float32 if isinstance(column, ZScore) else tf.int64
        specs[column.key] = tf.TensorSpec(shape, dtype, name=column.key)
    function = tf.function(call, autograph=False).get_concrete_function(**specs)
    owner = tf.Module()
    owner.weights = function.variables
    try:
        content: bytes = tf.lite.TFLiteConverter.from_concrete_functions([function], owner).convert()
    except ConverterError as error:
        ops = sorted(set(re.findall(r"'tf\.(\w+)' op", str(error))))
        raise NotConvertibleError(f"TensorFlow Lite lacks {', '.join(ops) or 'something it needs'}") from error
    return content


def query_columns(model: RetrievalModel, transform: Transform, spec: FeatureSpec) -> ColumnsConfig:
    """How the columns that the query tower takes follow from the raw features.

    Raises:
      NotConvertibleError: a feature is text or hashed, or a number that is the same everywhere.
    """
    encodings = {e.key: e for e in model.encodings.query}
    columns: list[Column] = [
        Lookup(
            key=features.QUERY_INDEX,
            feature=spec.query_id,
            file=features.QUERY_VOCABULARY,
            missing=model.encodings.query_rows - 1,
        )
    ]
    for feature in spec.query_features:
        columns += _columns(feature, spec, encodings, transform)
    return ColumnsConfig(columns=tuple(columns))


def _columns(
    feature: Feature, spec: FeatureSpec, encodings: Mapping[str, Encoding], transform: Transform
) -> list[Column]:
    name = feature.name
    if feature.kind is Kind.TEXT or feature.hash_buckets is not None:
        raise NotConvertibleError(f"feature {name!r} is {'text' if feature.kind is Kind.TEXT else 'hashed'}")
    if feature.kind is Kind.TIMESTAMP and feature.buckets is not None:
        return [_period(feature, encodings[moment_key(name)], transform)]
    if feature.kind is Kind.TIMESTAMP:
        hour, day = preprocessing.SECONDS_PER_HOUR, preprocessing.SECONDS_PER_DAY
        return [
            Moment(key=hour_key(name), feature=name, unit=hour, shift=0, period=24),
            Moment(key=weekday_key(name), feature=name, unit=day, shift=preprocessing.EPOCH_WEEKDAY, period=7),
        ]
    if feature.kind is Kind.NUMBER:
        return [_number(feature, transform)]
    width = feature.max_values if feature.multi_valued else 0
    file = features.vocabulary_name(feature, spec)
    return [Lookup(key=name, feature=name, file=file, width=width, missing=encodings[name].missing)]


def _period(feature: Feature, encoding: Encoding, transform: Transform) -> Period:
    """Where the buckets of time begin, found by asking the Transform graph, which does not tell it."""
    buckets = feature.buckets or 0
    starts = _first_reaching(
        _transformed(feature.name, encoding.key, transform),
        np.arange(2, buckets + 1),
        places=(-1, LAST_SECOND),
        at=lambda places: np.maximum(places, 0),  # -1 would say that there is none
    )
    return Period(key=encoding.key, feature=feature.name, starts=tuple(starts.tolist()), missing=encoding.missing)


def _transformed(name: str, key: str, transform: Transform) -> Callable[[NDArray], NDArray]:
    def transformed(given: NDArray) -> NDArray:
        values: NDArray = transform(features.from_serving({name: tf.constant(given)}))[key].values.numpy()
        return values

    return transformed


def _number(feature: Feature, transform: Transform) -> Column:
    """What was learned of a number's distribution, found by asking the Transform graph, which does not tell it."""
    name = feature.name
    transformed = _transformed(name, name, transform)

    if feature.buckets is not None:
        boundaries = _first_reaching(transformed, np.arange(2, feature.buckets + 1))
        return Buckets(key=name, feature=name, boundaries=tuple(boundaries.tolist()))
    limit = preprocessing.MAX_Z_SCORE
    places = _first_reaching(transformed, np.array([0.0, 0.9 * limit]))
    if len(places) < 2:
        raise NotConvertibleError(f"feature {name!r} is the same everywhere")
    (start, end), (low, high) = places.astype(np.float64).tolist(), transformed(places).astype(np.float64).tolist()
    deviation = (end - start) / (high - low)
    return ZScore(key=name, feature=name, mean=start - low * deviation, deviation=deviation, limit=limit)


def _first_reaching(
    function: Callable[[NDArray], NDArray],
    levels: NDArray,
    places: tuple[int, int] = FLOAT_PLACES,
    at: Callable[[NDArray[np.int64]], NDArray] | None = None,
) -> NDArray:
    """The smallest value at which a function that never falls reaches each level, by bisection over all values.

    Args:
      function: [n] to [n].
      levels: ascending.
      places: the range of places, the first of which reaches none.
      at: place to value; None for all finite float32.

    Returns:
      [<= levels]: the values, for those levels that are reached.
    """
    value = at or _float_at
    first, last = places
    levels = levels[levels <= function(value(np.array([last])))]
    low, high = np.full(len(levels), first), np.full(len(levels), last)
    while (high - low > 1).any():
        middle = (low + high) // 2
        reached = function(value(middle)) >= levels
        low, high = np.where(reached, low, middle), np.where(reached, middle, high)
    return value(high)


def _float_at(place: NDArray[np.int64]) -> NDArray[np.float32]:
    """Finite float32 numbers by their place in ascending order, 0 at place 0."""
    bits = np.abs(place).astype(np.int32).view(np.float32)
    return np.where(place < 0, -bits, bits)
