"""The query tower of a release, run in this process."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from models.columns import Value
from models.config import FeatureSpec
from serving.batching import Batcher
from serving.lite_tower import LiteTower, has_lite
from serving.query_inputs import EMBEDDING, SERVING_DEFAULT, QueryInputs, Stored, Values, read_signatures

MAX_DIFFERENCE = 1e-6  # of TensorFlow Lite from the signature, as a share of the largest number where that is above 1
SIGNATURE_LANES = 2  # batches that the signature runs at a time

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
        self.signature_defs = read_signatures(folder)
        self._inputs = QueryInputs(self.signature_defs, features)
        self._model = tf.saved_model.load(str(folder))
        self.signatures = dict(self._model.signatures)
        self._embed = self.signatures[SERVING_DEFAULT]
        # For a hundred queries a signature's hundreds of ops hardly take longer than for one.
        self._by_signature = Batcher(self._embed_batch, SIGNATURE_LANES)

    def embed(
        self,
        query_id: str,
        stored: Stored | None,
        features: Mapping[str, Values],
        timeout: float = math.inf,
    ) -> NDArray[np.float32]:
        """The embedding of one query; the arguments and errors are those of QueryInputs.values, and besides:

        Args:
          timeout: seconds until the caller gives up; what runs in this process is not given up.

        Returns:
          float32 [dimension], or [vectors, dimension] of a model with several a query.
        """
        values = self._inputs.values(query_id, stored, features)
        return self._by_signature(values) if self._lite is None else self._lite.embed(values)

    def use_lite(self, queries: Iterable[tuple[str, Stored | None]]) -> bool:
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
            differences = [
                self._difference(lite, self._inputs.values(query_id, stored, {})) for query_id, stored in queries
            ]
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

    def predict(self, signature: str, inputs: Mapping[str, NDArray], timeout: float = math.inf) -> dict[str, NDArray]:
        """Calls a signature, inputs and outputs by their names in it; of `timeout` see `embed`.

        Raises:
          tf.errors.OpError, ValueError, TypeError: the signature refuses the inputs.
        """
        function = self.signatures[signature]
        specs = function.structured_input_signature[1]
        outputs = function(**{name: tf.constant(value, specs[name].dtype) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in outputs.items()}

    def _embed_batch(self, queries: Sequence[Mapping[str, list[Value]]]) -> Sequence[NDArray[np.float32]]:
        inputs = self._inputs.arrays(queries)
        tensors = {name: tf.constant(value, self._inputs.specs[name].dtype) for name, value in inputs.items()}
        return list(self._embed(**tensors)[EMBEDDING].numpy())

    def _difference(self, lite: LiteTower, values: Mapping[str, list[Value]]) -> float:
        expected, found = self._by_signature(values), lite.embed(values)
        if found.shape != expected.shape:
            raise ValueError(f"it gives the shape {list(found.shape)}, the signature {list(expected.shape)}")
        return float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))
