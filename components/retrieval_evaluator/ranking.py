"""The Beam steps that rank the catalogue for held-out rows and sum up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np

from components.embedding.embedder import Embedder
from components.retrieval_evaluator.catalogue import Catalogue
from components.retrieval_evaluator.metrics import UNIT, activity_bucket, metric_names, metric_sums, ranks

# Scores in memory at a time, 32 MB as float64.
SCORES_AT_ONCE = 4 * 2**20

REPEATS = "repeats"

SliceKey = tuple[str, str, str]  # model, dimension, value


@dataclass(frozen=True)
class HeldOut:
    """An interaction to be predicted."""

    target: bytes  # item id
    serialised: bytes  # raw tf.Example, for the query tower
    seen: tuple[bytes, ...]  # item ids that are not ranked
    train_rows: int  # of its query


class JoinSeen(beam.DoFn):
    """Gives each held-out row what its query had before.

    Input: (query id, {"rows": (item id, serialised), "train": item ids, "earlier": item ids of the splits between}).
    Output: HeldOut; on output REPEATS a 1 for each row left out because its target was seen.

    Args:
      exclude_seen: whether seen items are left out of the ranking.
    """

    def __init__(self, exclude_seen: bool) -> None:
        self._exclude_seen = exclude_seen

    def process(self, element: tuple[bytes, dict[str, Iterable[Any]]]) -> Iterator[HeldOut | beam.pvalue.TaggedOutput]:
        _, groups = element
        rows = list(groups["rows"])
        if not rows:
            return
        train = list(groups["train"])
        seen = {*train, *groups.get("earlier", ())} if self._exclude_seen else set()
        ordered = tuple(sorted(seen))
        for target, serialised in rows:
            if target in seen:
                yield beam.pvalue.TaggedOutput(REPEATS, 1)
            else:
                yield HeldOut(target, serialised, ordered, len(train))


class RankByModel(beam.DoFn):
    """Input: a list of HeldOut; side inputs: the catalogue, its embeddings. Output: (SliceKey, ranks)."""

    def __init__(self, model: str, embedder: Embedder) -> None:
        self._model = model
        self._embedder = embedder

    def setup(self) -> None:
        self._embedder.load()

    def process(
        self, rows: list[HeldOut], catalogue: Catalogue, embeddings: np.ndarray
    ) -> Iterator[tuple[SliceKey, np.ndarray]]:
        queries = self._embedder("serialized_examples", [row.serialised for row in rows]).astype(np.float64)
        vectors = queries[0].size // embeddings.shape[1]
        step = max(1, SCORES_AT_ONCE // (len(embeddings) * vectors))
        for start in range(0, len(rows), step):
            scores = score_catalogue(queries[start : start + step], embeddings)
            yield from rank_by_slice(self._model, rows[start : start + step], scores, catalogue)


def score_catalogue(queries: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
    """The score of each item for each query: the dot product, of a query with K vectors the largest one.

    Args:
      queries: float64 [B, D] or [B, K, D].
      embeddings: float64 [N, D].

    Returns:
      float32 [B, N].
    """
    # A product of float32 rounds differently at the edge of a block, so that equal items would
    # get unequal scores. In float64, rounded afterwards, equal items are equal.
    scores = queries.reshape(-1, queries.shape[-1]) @ embeddings.T
    if queries.ndim == 3:
        scores = scores.reshape(len(queries), -1, len(embeddings)).max(axis=1)
    return scores.astype(np.float32)


class RankByPopularity(beam.DoFn):
    """Scores an item by its train positives, the same for all rows. Input, output as of RankByModel."""

    def process(self, rows: list[HeldOut], catalogue: Catalogue) -> Iterator[tuple[SliceKey, np.ndarray]]:
        step = max(1, SCORES_AT_ONCE // len(catalogue.counts))
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            scores = np.broadcast_to(catalogue.counts, (len(part), len(catalogue.counts)))
            yield from rank_by_slice("popular", part, scores, catalogue)


def rank_by_slice(
    model: str, rows: list[HeldOut], scores: np.ndarray, catalogue: Catalogue
) -> Iterator[tuple[SliceKey, np.ndarray]]:
    """Ranks each row's target and deals the ranks out to the slices.

    Args:
      model: under which name.
      rows: B held-out rows.
      scores: float [B, N], columns in the catalogue's order.
      catalogue: of N items.

    Yields:
      ((model, dimension, value), int64 ranks of the slice's rows). Dimension "unscorable" holds the
      rows with a NaN among their scores.

    Raises:
      ValueError: a target is not in the catalogue.
    """
    for row in rows:
        if row.target not in catalogue.places:
            raise ValueError(f"held-out item {row.target.decode(errors='replace')!r} is not in split items")
    targets = np.array([catalogue.places[row.target] for row in rows])
    # A seen item that has left the catalogue is not ranked anyway.
    excluded = [
        np.array([catalogue.places[item] for item in row.seen if item in catalogue.places], np.int64) for row in rows
    ]
    rank = ranks(scores, targets, excluded)
    slices = {
        "overall": ["" for _ in rows],
        "category": [catalogue.categories[target] for target in targets],
        "popularity": ["head" if catalogue.head[target] else "tail" for target in targets],
        "activity": [activity_bucket(row.train_rows) for row in rows],
    }
    for dimension, labels in slices.items():
        names = np.array(labels, object)
        for name in sorted(set(labels)):
            yield (model, dimension, name), rank[names == name]
    unscorable = np.isnan(scores).any(axis=1)
    if unscorable.any():
        yield (model, "unscorable", ""), rank[unscorable]


class MeanMetrics(beam.CombineFn):
    """Means over rows. Input: int ranks [B]. Output: {"HR@10": .., "MRR": .., "rows": n}."""

    def __init__(self, ks: tuple[int, ...]) -> None:
        self._ks = ks

    def create_accumulator(self) -> tuple[int, np.ndarray]:
        return 0, np.zeros(len(metric_names(self._ks)), np.int64)

    def add_input(self, accumulator: tuple[int, np.ndarray], rank: np.ndarray) -> tuple[int, np.ndarray]:
        return accumulator[0] + len(rank), accumulator[1] + metric_sums(rank, self._ks)

    def merge_accumulators(self, accumulators: Iterable[tuple[int, np.ndarray]]) -> tuple[int, np.ndarray]:
        parts = list(accumulators)
        return sum(rows for rows, _ in parts), sum((sums for _, sums in parts), self.create_accumulator()[1])

    def extract_output(self, accumulator: tuple[int, np.ndarray]) -> dict[str, float]:
        rows, sums = accumulator
        means = dict(zip(metric_names(self._ks), (sums * UNIT / rows).tolist(), strict=True))
        return {**means, "rows": rows}
