"""The query tower of a release, run in this process."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from models.config import FeatureSpec
from serving.query_inputs import EMBEDDING, SERVING_DEFAULT, QueryInputs, Values, read_signatures


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
        self.signature_defs = read_signatures(folder)
        self._inputs = QueryInputs(self.signature_defs, features)
        self._model = tf.saved_model.load(str(folder))
        self.signatures = dict(self._model.signatures)
        self._embed = self.signatures[SERVING_DEFAULT]

    def embed(
        self,
        query_id: str,
        stored: tf.train.Example | None,
        features: Mapping[str, Values],
        timeout: float = math.inf,
    ) -> NDArray[np.float32]:
        """The embedding of one query; the arguments and errors are those of QueryInputs.arrays, and besides:

        Args:
          timeout: seconds until the caller gives up; what runs in this process is not given up.

        Returns:
          float32 [dimension], or [vectors, dimension] of a model with several a query.
        """
        inputs = self._inputs.arrays(query_id, stored, features)
        tensors = {name: tf.constant(value, self._inputs.specs[name].dtype) for name, value in inputs.items()}
        embedding: NDArray[np.float32] = self._embed(**tensors)[EMBEDDING].numpy()[0]
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
