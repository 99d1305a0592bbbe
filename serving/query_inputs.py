"""From one query to the inputs of the tower's signature: the same for whoever runs the tower."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from models.columns import Value
from models.config import Feature, FeatureSpec, Kind, Side

SERVING_DEFAULT = "serving_default"
EMBEDDING = "embedding"
MISSING: dict[tf.DType, Value] = {tf.string: b"", tf.float32: math.nan, tf.int64: -1}
TYPE_NAMES = {tf.string: "strings", tf.float32: "floats", tf.int64: "int64s"}

Values = Sequence[str] | Sequence[bytes] | Sequence[float] | Sequence[int]
Stored = Mapping[str, Sequence[Value]]  # what is stored of a query by feature; there is no empty sequence


def read_stored(serialised: bytes) -> Stored:
    """What a raw tf.Example of the release's query store holds.

    Raises:
      DecodeError: it is none.
    """
    stored = {}
    for name, feature in tf.train.Example.FromString(serialised).features.feature.items():
        kind = feature.WhichOneof("kind")
        if kind is not None and (values := getattr(feature, kind).value):
            stored[name] = values
    return stored


class InputSpec(NamedTuple):
    """One input of the signature."""

    dtype: tf.DType  # tf.string, tf.float32 or tf.int64
    rank: int  # 1: one value a query; 2: several


class QueryInputs:
    """Makes the inputs of `serving_default` from a query's features. Immutable; safe for any number of threads."""

    def __init__(self, signatures: Mapping[str, meta_graph_pb2.SignatureDef], features: FeatureSpec) -> None:
        """Args:
          signatures: of the SavedModel.
          features: as declared in the pipeline that trained the model.

        Raises:
          ValueError: the model has no `serving_default` signature with the declared query features as inputs and
            `embedding` as output.
        """
        if SERVING_DEFAULT not in signatures:
            raise ValueError(f"the model has no signature {SERVING_DEFAULT!r}")
        signature = signatures[SERVING_DEFAULT]
        self._features = {feature.name: feature for feature in features.query_features}
        self._query_id = features.query_id
        expected = {self._query_id, *self._features}
        if set(signature.inputs) != expected:
            raise ValueError(f"the model's inputs are {sorted(signature.inputs)}, expected {sorted(expected)}")
        self.specs: dict[str, InputSpec] = {}
        for name, info in signature.inputs.items():
            dtype, shape = tf.as_dtype(info.dtype), tf.TensorShape(info.tensor_shape)
            if dtype not in MISSING or shape.rank not in (1, 2):
                raise ValueError(f"input {name!r} is {dtype.name} {shape}, of no known form")
            self.specs[name] = InputSpec(dtype, shape.rank)
        if EMBEDDING not in signature.outputs:
            raise ValueError(f"signature {SERVING_DEFAULT!r} has no output {EMBEDDING!r}")

    def values(self, query_id: str, stored: Stored | None, features: Mapping[str, Values]) -> dict[str, list[Value]]:
        """The values of one query by input, no more than declared; an empty list where one is missing.

        What is neither given nor stored is missing, but for a timestamp of the interaction, which is then the time of
        this call. A history longer than declared keeps its last values, other multi-valued features their first.

        Args:
          query_id: "" if there is none.
          stored: what the release's query store has of the query, or None.
          features: given values by feature name; they override the stored ones, an empty sequence says missing.

        Raises:
          ValueError: a feature is unknown, or has values of another type or too many; it names the feature and what
            was expected.
        """
        for name in features:
            if name not in self._features or name == self._query_id:
                known = ", ".join(sorted(self._features.keys() - {self._query_id}))
                raise ValueError(f"feature {name!r} is not one of the query's, which are: {known}")
        values: dict[str, list[Value]] = {}
        for name, spec in self.specs.items():
            if name == self._query_id:
                values[name] = [query_id.encode()] if query_id else []
            elif name in features:
                values[name] = _bounded(_checked(name, spec, features[name]), self._features[name])
            else:
                found = [] if stored is None else list(stored.get(name, ()))
                values[name] = _bounded(found or self._default(name), self._features[name])
        return values

    def arrays(self, queries: Sequence[Mapping[str, list[Value]]]) -> dict[str, NDArray]:
        """What `values` gave for B queries as the signature's inputs.

        Returns:
          For each input float32, int64 or object (bytes) [B], or [B, n >= 1] where it is multi-valued; a query with
          fewer than n values has missing ones at the end.
        """
        return {name: _array([values[name] for values in queries], spec) for name, spec in self.specs.items()}

    def _default(self, name: str) -> list[Value]:
        feature = self._features[name]
        if feature.kind is Kind.TIMESTAMP and feature.side is Side.INTERACTION:
            return [int(time.time())]
        return []


def read_signatures(folder: Path) -> dict[str, meta_graph_pb2.SignatureDef]:
    """The signatures of a SavedModel folder, by name.

    Raises:
      ValueError: it has no graph for serving.
      OSError, DecodeError: saved_model.pb cannot be read.
    """
    saved_model = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    for graph in saved_model.meta_graphs:
        if "serve" in graph.meta_info_def.tags:
            return dict(graph.signature_def)
    raise ValueError(f"{folder}: the model has no graph with the tag 'serve'")


def _checked(name: str, spec: InputSpec, values: Values) -> list[Value]:
    """Given values as the input's type; integers stand for floats too."""
    checked: list[Value] = []
    for value in values:
        if spec.dtype == tf.string and isinstance(value, str | bytes):
            checked.append(value.encode() if isinstance(value, str) else value)
        elif (spec.dtype == tf.float32 and isinstance(value, float | int)) or (
            spec.dtype == tf.int64 and isinstance(value, int)
        ):
            checked.append(value)
        else:
            raise ValueError(
                f"feature {name!r} must be given as {TYPE_NAMES[spec.dtype]}, got {type(value).__name__} {value!r}"
            )
    if spec.rank == 1 and len(checked) > 1:
        raise ValueError(f"feature {name!r} takes one value, got {len(checked)}")
    return checked


def _bounded(values: list[Value], feature: Feature) -> list[Value]:
    if len(values) <= feature.max_values:
        return values
    return values[-feature.max_values :] if feature.kind is Kind.HISTORY else values[: feature.max_values]


def _array(rows: Sequence[list[Value]], spec: InputSpec) -> NDArray:
    missing, width = MISSING[spec.dtype], max(1, *map(len, rows))
    filled = [row + [missing] * (width - len(row)) for row in rows]
    return np.array([row[0] for row in filled] if spec.rank == 1 else filled, spec.dtype.as_numpy_dtype)
