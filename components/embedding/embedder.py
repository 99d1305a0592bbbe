"""Embedding raw examples with a SavedModel, for whatever component needs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from apache_beam.utils import shared


class Embedder:
    """A SavedModel with the signatures `item_examples` and `serialized_examples`.

    Loaded once a process: `handle` is shared by the DoFns that got the same one.

    Args:
      folder: of the SavedModel.
      handle: made where the pipeline is built.
    """

    def __init__(self, folder: str, handle: shared.Shared) -> None:
        self._folder = folder
        self._handle = handle
        self._model: Any = None

    def load(self) -> None:
        self._model = self._handle.acquire(lambda: tf.saved_model.load(self._folder), tag=self._folder)

    def __call__(self, signature: str, examples: Sequence[bytes]) -> np.ndarray:
        """float32 [B, D] of B serialised raw tf.Examples; [B, K, D] of queries that have K vectors each.

        Raises:
          ValueError: the model has no such signature.
        """
        if signature not in self._model.signatures:
            raise ValueError(f"model {self._folder} has no signature {signature!r}")
        return self._model.signatures[signature](examples=tf.constant(examples, tf.string))["embedding"].numpy()
