"""The query tower of a release, run in this process."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from models.columns import Value
from models.config import Feature, FeatureSpec, Kind, Side
from serving.lite_tower import LiteTower, has_lite

SERVING_DEFAULT = "serving_default"
EMBEDDING = "embedding"
MISSING: dict[tf.DType, bytes | float | int] = {tf.string: b"", tf.float32: math.nan, tf.int64: -1}
TYPE_NAMES = {tf.string: "strings", tf.float32: "floats", tf.int64: "int64s"}
STORED_IN = {tf.string: "bytes_list", tf.float32: "float_list", tf.int64: "int64_list"}
MAX_DIFFERENCE = 1e-6  # of TensorFlow Lite from the signature, as a share of the largest number where that is above 1

Values = Sequence[str] | Sequence[bytes] | Sequence[float] | Sequence[int]

logger = logging.getLogger(__name__)


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
        self._folder = folder
        self._lite: LiteTower | None = None
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
        values = self._values(query_id, stored, features)
        return self._by_signature(values) if self._lite is None else self._lite.embed(values)

    def use_lite(self, queries: Iterable[tuple[str, tf.train.Example | None]]) -> bool:
        """From here on embeds by the release's TensorFlow Lite model, if that gives the signature's numbers.

        Where the release has none, or one that cannot be loaded or differs, the log says so and the signature goes on.

        Args:
          queries: to compare on: id and what is stored of it.

        Returns:
          Whether it is used.
        """
        if not has_lite(self._folder):
            logger.info("%s has no TensorFlow Lite model: its signature embeds the queries", self._folder)
            return False
        try:
            lite = LiteTower(self._folder)
            differences = [self._difference(lite, self._values(query_id, stored, {})) for query_id, stored in queries]
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            logger.warning("%s: the TensorFlow Lite model does not work, it is not used: %s", self._folder, error)
            return False
        worst = max(differences, default=0.0)
        if not worst <= MAX_DIFFERENCE:
            logger.warning(
                "%s: the TensorFlow Lite model is not used, it differs by %.1e from the signature", self._folder, worst
            )
            return False
        self._lite = lite
        return True

    def predict(self, signature: str, inputs: Mapping[str, NDArray]) -> dict[str, NDArray]:
        """Calls a signature, inputs and outputs by their names in it.

        Raises:
          tf.errors.OpError, ValueError, TypeError: the signature refuses the inputs.
        """
        function = self.signatures[signature]
        specs = function.structured_input_signature[1]
        outputs = function(**{name: tf.constant(value, specs[name].dtype) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in outputs.items()}

    def _values(
        self, query_id: str, stored: tf.train.Example | None, features: Mapping[str, Values]
    ) -> dict[str, list[Value]]:
        """By input what is given, stored or the default, no longer than declared; empty where it is missing."""
        values: dict[str, list[Value]] = {}
        for name, spec in self._inputs.items():
            if name == self._query_id:
                values[name] = [query_id.encode()] if query_id else []
            elif name in features:
                values[name] = _bounded(_checked(name, spec, features[name]), self._features[name])
            else:
                values[name] = _bounded(_stored(name, spec, stored) or self._default(name), self._features[name])
        return values

    def _by_signature(self, values: Mapping[str, list[Value]]) -> NDArray[np.float32]:
        inputs = {name: _tensor(values[name], spec) for name, spec in self._inputs.items()}
        embedding: NDArray[np.float32] = self._embed(**inputs)[EMBEDDING].numpy()[0]
        return embedding

    def _difference(self, lite: LiteTower, values: Mapping[str, list[Value]]) -> float:
        expected, found = self._by_signature(values), lite.embed(values)
        if found.shape != expected.shape:
            raise ValueError(f"it gives the shape {list(found.shape)}, the signature {list(expected.shape)}")
        return float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))

    def _default(self, name: str) -> list[Value]:
        feature = self._features[name]
        if feature.kind is Kind.TIMESTAMP and feature.side is Side.INTERACTION:
            return [int(time.time())]
        return []


def _signature_defs(folder: Path) -> dict[str, meta_graph_pb2.SignatureDef]:
    saved_model = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    serve = next(graph for graph in saved_model.meta_graphs if "serve" in graph.meta_info_def.tags)
    return dict(serve.signature_def)


def _checked(name: str, spec: tf.TensorSpec, values: Values) -> list[Value]:
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
    if spec.shape.rank == 1 and len(checked) > 1:
        raise ValueError(f"feature {name!r} takes one value, got {len(checked)}")
    return checked


def _stored(name: str, spec: tf.TensorSpec, stored: tf.train.Example | None) -> list[Value]:
    feature = None if stored is None else stored.features.feature.get(name)
    return [] if feature is None else list(getattr(feature, STORED_IN[spec.dtype]).value)


def _bounded(values: list[Value], feature: Feature) -> list[Value]:
    if len(values) <= feature.max_values:
        return values
    return values[-feature.max_values :] if feature.kind is Kind.HISTORY else values[: feature.max_values]


def _tensor(values: list[Value], spec: tf.TensorSpec) -> tf.Tensor:
    """One row: [1], or [1, n >= 1] where the input is multi-valued."""
    row = values or [MISSING[spec.dtype]]
    return tf.constant(row if spec.shape.rank == 1 else [row], spec.dtype)
