"""Embedding raw examples with a SavedModel, in Beam."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
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
        """float32 [B, D] of B serialised raw tf.Examples; [B, K, D] where queries have K vectors.

        Raises:
          ValueError: the model has no such signature.
        """
        if signature not in self._model.signatures:
            raise ValueError(f"model {self._folder} has no signature {signature!r}")
        return self._model.signatures[signature](examples=tf.constant(examples, tf.string))["embedding"].numpy()


class EmbedItems(beam.DoFn):
    """Input: a list of (item id, category, serialised example). Output: (their ids, float32 [B, D])."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def setup(self) -> None:
        self._embedder.load()

    def process(self, items: list[tuple[bytes, str, bytes]]) -> Iterator[tuple[list[bytes], np.ndarray]]:
        ids, _, examples = zip(*items, strict=True)
        yield list(ids), self._embedder("item_examples", examples)
