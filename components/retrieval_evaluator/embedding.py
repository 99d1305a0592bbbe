"""Embedding the catalogue, in Beam."""

from __future__ import annotations

from collections.abc import Iterator

import apache_beam as beam
import numpy as np

from components.embedding.embedder import Embedder


class EmbedItems(beam.DoFn):
    """Input: a list of (item id, category, serialised example). Output: (their ids, float32 [B, D])."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def setup(self) -> None:
        self._embedder.load()

    def process(self, items: list[tuple[bytes, str, bytes]]) -> Iterator[tuple[list[bytes], np.ndarray]]:
        ids, _, examples = zip(*items, strict=True)
        yield list(ids), self._embedder("item_examples", examples)
