"""The query tower of a release, run in this process."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from models.config import Feature, FeatureSpec, Kind, Side

SERVING_DEFAULT = "serving_default"
EMBEDDING = "embedding"
MISSING: dict[tf.DType, bytes | float | int] = {tf.string: b"", tf.float32: math.nan, tf.int64: -1}
TYPE_NAMES = {tf.string: "strings", tf.float32: "floats", tf.int64: "int64s"}

Values = Sequence[str] | Sequence[bytes] | Sequence[float] | Sequence[int]


class Tower:
    """A loaded SavedModel with the signatures of the pipeline's export. Safe for any number of threads."""

    def __init__(self, folder: Path, features: FeatureSpec) -> None:
        """Loads a SavedModel.

        Args:
          folder: holds saved_model.pb.
          features: as declared in the pipeline that trained the model.

        Raises:
          ValueError: the model has no `serving_default` signature with the declared query features as inputs and
            `embedding` as output.
        """
        self._model = tf.saved_model.load(str(folder))
        self.signatures = dict(self._model.signatures)
        self.signature_defs = _signature_defs(folder)
        if SERVING_DEFAULT not in self.signatures:
            raise ValueError(f"{folder}: the model has no signature {SERVING_DEFAULT!r}")
        self._embed = self.signatures[SERVING_DEFAULT]
        self._inputs: dict[str, tf.TensorSpec] = self._embed.structured_input_signature[1]
        self._features = {feature.name: feature for feature in features.query_features}
        self._query_id = features.query_id
        expected = {self._query_id, *self._features}
        if set(self._inputs) != expected:
            raise ValueError(f"{folder}: the model's inputs are {sorted(self._inputs)}, expected {sorted(expected)}")
        for name, spec in self._inputs.items():
            if spec.dtype not in MISSING or spec.shape.rank not in (1, 2):
                raise ValueError(f"{folder}: input {name!r} is {spec.dtype.name} {spec.shape}, of no known form")
        if EMBEDDING not in self._embed.structured_outputs:
            raise ValueError(f"{folder}: signature {SERVING_DEFAULT!r} has no output {EMBEDDING!r}")

    def embed(
        self, query_id: str, stored: tf.train.Example | None, features: Mapping[str, Values]
    ) -> NDArray[np.float32]:
        """The embedding of one query.

        Args:
          query_id: "" if there is none.
          stored: the query's raw tf.Example of the release's query store, or None.
          features: given values by feature name; they override the stored ones, an empty sequence says missing.

        Returns:
          float32 [dimension], or [vectors, dimension] of a model with several a query. What is neither given nor
          stored is missing, but for a timestamp of the interaction, which is then the time of this call. A history
          longer than declared keeps its last values, other multi-valued features their first.

        Raises:
          ValueError: a feature is unknown, or has values of another type or too many; it names the feature and what
            was expected.
        """
        for name in features:
            if name not in self._features or name == self._query_id:
                known = ", ".join(sorted(self._features.keys() - {self._query_id}))
                raise ValueError(f"feature {name!r} is not one of the query's, which are: {known}")
        inputs = {}
        for name, spec in self._inputs.items():
            if name == self._query_id:
                values: list[bytes | float | int] = [query_id.encode()] if query_id else []
            elif name in features:
                values = _checked(name, spec, features[name])
            else:
                values = _stored(name, spec, stored) or self._default(name)
            inputs[name] = _tensor(values, spec, self._features.get(name))
        embedding: NDArray[np.float32] = self._embed(**inputs)[EMBEDDING].numpy()[0]
        return embedding

    def predict(self, signature: str, inputs: Mapping[str, NDArray]) -> dict[str, NDArray]:
        """Calls a signature, inputs and outputs by their names in it.

        Raises:
          tf.errors.OpError, ValueError, TypeError: the signature refuses the inputs.
        """
        function = self.signatures[signature]
        specs = function.structured_input_signature[1]
        outputs = function(**{name: tf.constant(value, specs[name].dtype) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in outputs.items()}

    def _default(self, name: str) -> list[bytes | float | int]:
        feature = self._features[name]
        if feature.kind is Kind.TIMESTAMP and feature.side is Side.INTERACTION:
            return [int(time.time())]
        return []


def _signature_defs(folder: Path) -> dict[str, meta_graph_pb2.SignatureDef]:
    saved_model = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    serve = next(graph for graph in saved_model.meta_graphs if "serve" in graph.meta_info_def.tags)
    return dict(serve.signature_def)


def _checked(name: str, spec: tf.TensorSpec, values: Values) -> list[bytes | float | int]:
    """Given values as the input's type; integers stand for floats too."""
    checked: list[bytes | float | int] = []
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
    if spec.shape.rank == 1 and len(checked) > 1:
        raise ValueError(f"feature {name!r} takes one value, got {len(checked)}")
    return checked


def _stored(name: str, spec: tf.TensorSpec, stored: tf.train.Example | None) -> list[bytes | float | int]:
    if stored is None or name not in stored.features.feature:
        return []
    feature = stored.features.feature[name]
    lists = {tf.string: feature.bytes_list, tf.float32: feature.float_list, tf.int64: feature.int64_list}
    return list(lists[spec.dtype].value)


def _tensor(values: list[bytes | float | int], spec: tf.TensorSpec, feature: Feature | None) -> tf.Tensor:
    """One row: [1], or [1, n >= 1] where the input is multi-valued."""
    if spec.shape.rank == 1:
        return tf.constant(values or [MISSING[spec.dtype]], spec.dtype)
    if feature is not None:
        values = values[-feature.max_values :] if feature.kind is Kind.HISTORY else values[: feature.max_values]
    return tf.constant([values or [MISSING[spec.dtype]]], spec.dtype)
