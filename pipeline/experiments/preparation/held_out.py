"""The rows that are ranked, and the catalogue they are ranked in. NumPy only."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from components.embedding.scores import queries_at_once, score_catalogue
from components.retrieval_evaluator.metrics import ranks

FILE = "held_out.npz"
# Of a cell: `rows`, int64 [R], places among the held-out rows, and `rank`, int64 [len(NEW_QUERY_ITEMS), R], of the same
# rows with queries that came after training and had so many interactions at most.
LIGHT = "light.npz"
NEW_QUERY_ITEMS = (0, 1, 2, 5)
DECILES = 10


@dataclass(frozen=True)
class HeldOut:
    """B held-out rows, sorted by query and item, and N items, by candidate index.

    Attributes:
      query_id, item_id: str [B].
      target: int64 [B], candidate index of the row's item.
      query_rows: int64 [B], train rows of the query.
      excluded: int64, the candidate indices that are not ranked, one row's after the other's: what the query has in
        train, and its other held-out items.
      excluded_ends: int64 [B], where each row's part of `excluded` ends.
      catalogue: str [N], item ids.
      category: str [N], "" for none.
      count: int64 [N], train rows of the item.
    """

    query_id: np.ndarray
    item_id: np.ndarray
    target: np.ndarray
    query_rows: np.ndarray
    excluded: np.ndarray
    excluded_ends: np.ndarray
    catalogue: np.ndarray
    category: np.ndarray
    count: np.ndarray

    @classmethod
    def build(
        cls,
        train: Mapping[str, Sequence[str]],
        held_out: Sequence[tuple[str, str]],
        catalogue: Sequence[str],
        category: Mapping[str, str],
    ) -> HeldOut:
        """Joins the held-out rows with what their queries had.

        Args:
          train: item ids by query id.
          held_out: (query id, item id).
          catalogue: item ids by candidate index.
          category: by item id.

        Raises:
          ValueError: no row is held out, or an item is not in the catalogue.
        """
        rows = sorted(held_out)
        if not rows:
            raise ValueError("no interaction is held out")
        places = {item: place for place, item in enumerate(catalogue)}
        for item in {item for _, item in rows} | {item for items in train.values() for item in items}:
            if item not in places:
                raise ValueError(f"item {item!r} has interactions, but is not in the catalogue")
        positives: dict[str, set[str]] = {}
        for query, item in rows:
            positives.setdefault(query, set()).add(item)
        excluded = [
            np.array(sorted(places[i] for i in ({*train.get(query, ()), *positives[query]} - {item})), np.int64)
            for query, item in rows
        ]
        counts = np.zeros(len(catalogue), np.int64)
        for items in train.values():
            for item in items:
                counts[places[item]] += 1
        return cls(
            query_id=np.array([query for query, _ in rows], np.str_),
            item_id=np.array([item for _, item in rows], np.str_),
            target=np.array([places[item] for _, item in rows], np.int64),
            query_rows=np.array([len(train.get(query, ())) for query, _ in rows], np.int64),
            excluded=np.concatenate(excluded),
            excluded_ends=np.cumsum([len(e) for e in excluded]),
            catalogue=np.array(catalogue, np.str_),
            category=np.array([category.get(item, "") for item in catalogue], np.str_),
            count=counts,
        )

    @classmethod
    def load(cls, folder: Path) -> HeldOut:
        with np.load(folder / FILE, allow_pickle=False) as file:
            return cls(**{field.name: file[field.name] for field in fields(cls)})

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".tmp-{os.getpid()}-{FILE}"
        np.savez_compressed(temporary, **{field.name: getattr(self, field.name) for field in fields(self)})
        temporary.replace(folder / FILE)

    @property
    def deciles(self) -> np.ndarray:
        """int64 [N], 1 for the tenth of the catalogue with the most train rows, 10 for that with the fewest."""
        decile = np.empty(len(self.count), np.int64)
        order = np.argsort(-self.count, kind="stable")
        decile[order] = np.arange(len(order)) * DECILES // len(order) + 1
        return decile

    def part(self, rows: int) -> np.ndarray:
        """int64 [at most `rows`], places of held-out rows, evenly spread."""
        return np.unique(np.linspace(0, len(self.target) - 1, min(rows, len(self.target))).astype(np.int64))

    def rank(self, queries: np.ndarray, items: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
        """Exact ranks among the whole catalogue; ties and NaN count against the row's item.

        The score is the dot product, of a query with several vectors the largest one. It is computed in float64 and
        rounded to float32, so that equal items get equal scores.

        Args:
          queries: float [B, D] or [B, K, D].
          items: float [N, D].
          rows: int64 [R], places of the rows to rank; default: all.

        Returns:
          int64 [B] or [R], from 1.
        """
        if rows is None:
            rows = np.arange(len(self.target))
        queries, items = queries[rows].astype(np.float64), items.astype(np.float64)

        def scores(start: int, end: int) -> np.ndarray:
            return score_catalogue(queries[start:end], items)

        return self._rank(scores, 1 if queries.ndim == 2 else queries.shape[1], rows)

    def rank_by_popularity(self) -> np.ndarray:
        """Ranks by train rows, int64 [B]."""
        rows = np.arange(len(self.target))
        return self._rank(lambda start, end: np.broadcast_to(self.count, (end - start, len(self.count))), 1, rows)

    def _rank(self, scores: Callable[[int, int], np.ndarray], vectors: int, rows: np.ndarray) -> np.ndarray:
        step = queries_at_once(len(self.count), vectors)
        excluded = np.split(self.excluded, self.excluded_ends[:-1])
        parts = []
        for start in range(0, len(rows), step):
            places = rows[start : start + step]
            of_rows = [excluded[place] for place in places]
            parts.append(ranks(scores(start, start + len(places)), self.target[places], of_rows))
        return np.concatenate(parts)
