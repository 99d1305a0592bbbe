"""The Beam steps that rank the catalogue for held-out rows and sum up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np

from components.embedding.embedder import Embedder
from components.embedding.scores import queries_at_once, score_catalogue
from components.retrieval_evaluator.bootstrap import poisson_weights
from components.retrieval_evaluator.catalogue import Catalogue
from components.retrieval_evaluator.metrics import activity_bucket, metric_sums, ranks

REPEATS = "repeats"

SliceKey = tuple[str, str, str]  # model, dimension, value
Sums = tuple[int, np.ndarray]  # rows, and what `metric_sums` returns of them


@dataclass(frozen=True)
class HeldOut:
    """An interaction to be predicted."""

    query: bytes  # query id
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
        query, groups = element
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
                yield HeldOut(query, target, serialised, ordered, len(train))


class RankByModel(beam.DoFn):
    """Input: a list of HeldOut; side inputs: the catalogue, its embeddings. Output: (SliceKey, Sums).

    Args:
      model: under which name.
      embedder: of the model.
      ks: cut-offs of the metrics.
      draw: also sum in each draw of the bootstrap, for the model is compared with another.
    """

    def __init__(self, model: str, embedder: Embedder, ks: tuple[int, ...], draw: bool) -> None:
        self._model = model
        self._embedder = embedder
        self._ks = ks
        self._draw = draw

    def setup(self) -> None:
        self._embedder.load()

    def process(
        self, rows: list[HeldOut], catalogue: Catalogue, embeddings: np.ndarray
    ) -> Iterator[tuple[SliceKey, Sums]]:
        queries = self._embedder("serialized_examples", [row.serialised for row in rows]).astype(np.float64)
        step = queries_at_once(len(embeddings), queries[0].size // embeddings.shape[1])
        for start in range(0, len(rows), step):
            scores = score_catalogue(queries[start : start + step], embeddings)
            part = rows[start : start + step]
            weights = poisson_weights([row.query for row in part]) if self._draw else None
            yield from sums_by_slice(self._model, part, scores, catalogue, self._ks, weights)


class RankByPopularity(beam.DoFn):
    """Scores an item by its train positives, the same for all rows. Input, output as of RankByModel."""

    def __init__(self, ks: tuple[int, ...]) -> None:
        self._ks = ks

    def process(self, rows: list[HeldOut], catalogue: Catalogue) -> Iterator[tuple[SliceKey, Sums]]:
        step = queries_at_once(len(catalogue.counts))
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            scores = np.broadcast_to(catalogue.counts, (len(part), len(catalogue.counts)))
            yield from sums_by_slice("popular", part, scores, catalogue, self._ks)


def sums_by_slice(
    model: str,
    rows: list[HeldOut],
    scores: np.ndarray,
    catalogue: Catalogue,
    ks: tuple[int, ...],
    weights: np.ndarray | None = None,
) -> Iterator[tuple[SliceKey, Sums]]:
    """Ranks each row's target and sums the metrics over each slice.

    Args:
      model: under which name.
      rows: B held-out rows.
      scores: float [B, N], columns in the catalogue's order.
      catalogue: of N items.
      ks: cut-offs of the metrics.
      weights: int [B, draws] of the bootstrap.

    Yields:
      ((model, dimension, value), (rows of the slice, int64 [1 + draws, M] of `metric_sums`)). Dimension
      "unscorable" holds the rows with a NaN among their scores.

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

    def sums(chosen: np.ndarray) -> Sums:
        return int(chosen.sum()), metric_sums(rank[chosen], ks, None if weights is None else weights[chosen])

    slices = {
        "overall": ["" for _ in rows],
        "category": [catalogue.categories[target] for target in targets],
        "popularity": ["head" if catalogue.head[target] else "tail" for target in targets],
        "activity": [activity_bucket(row.train_rows) for row in rows],
    }
    for dimension, labels in slices.items():
        names = np.array(labels, object)
        for name in sorted(set(labels)):
            yield (model, dimension, name), sums(names == name)
    unscorable = np.isnan(scores).any(axis=1)
    if unscorable.any():
        yield (model, "unscorable", ""), sums(unscorable)


class AddSums(beam.CombineFn):
    """Sums of Sums."""

    def create_accumulator(self) -> Sums | None:
        return None

    def add_input(self, accumulator: Sums | None, element: Sums) -> Sums:
        if accumulator is None:
            return element
        return accumulator[0] + element[0], accumulator[1] + element[1]

    def merge_accumulators(self, accumulators: Iterable[Sums | None]) -> Sums | None:
        merged = None
        for accumulator in accumulators:
            if accumulator is not None:
                merged = self.add_input(merged, accumulator)
        return merged

    def extract_output(self, accumulator: Sums | None) -> Sums | None:
        return accumulator
