"""The items that are ranked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from components.retrieval_evaluator.metrics import head_items

NO_CATEGORY = "(none)"


@dataclass(frozen=True)
class Catalogue:
    """All items, in the order of their ids.

    places: item id -> position, 0..N-1.
    counts: int64 [N], train positives.
    categories: N names, NO_CATEGORY where the item has none.
    head: bool [N], the most popular 20 %.
    """

    places: dict[bytes, int]
    counts: np.ndarray
    categories: list[str]
    head: np.ndarray

    @classmethod
    def build(cls, items: Iterable[tuple[bytes, str]], counts: dict[bytes, int]) -> Catalogue:
        """Joins (item id, category) with the train positives by item id.

        Raises:
          ValueError: there are no items, one stands there twice, or one has no count.
        """
        rows = sorted(items)
        if not rows:
            raise ValueError("split items has no rows, expected the catalogue")
        places = {item: place for place, (item, _) in enumerate(rows)}
        if len(places) < len(rows):
            twice = next(a for (a, _), (b, _) in pairwise(rows) if a == b)
            raise ValueError(f"split items: item {twice.decode(errors='replace')!r} stands there twice")
        for item in places:
            if item not in counts:
                raise ValueError(f"item_counts has no item {item.decode(errors='replace')!r} of split items")
        count = np.array([counts[item] for item in places], np.int64)
        return cls(places, count, [category for _, category in rows], head_items(count))

    def arrange(self, embedded: Iterable[tuple[list[bytes], np.ndarray]]) -> np.ndarray:
        """Embeddings float64 [N, D] in the catalogue's order, out of (ids, float [B, D]) batches."""
        batches = list(embedded)
        places = [self.places[item] for ids, _ in batches for item in ids]
        vectors = np.concatenate([vectors for _, vectors in batches]).astype(np.float64)
        arranged = np.empty_like(vectors)
        arranged[places] = vectors
        return arranged
