"""How well and how fast an index answers, against exact search."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import numpy as np
from numpy.typing import NDArray

from components.gates import GateRefusedError
from components.item_indexer.config import IndexConfig
from serving.hits import Hits
from serving.index import ItemIndex
from serving.index_manifest import Latency, Measurement

# Scores closer than this, as a share of |query| |item|, are equal: float32 adds up in another order from case to case.
ROUNDING = 1e-6

Search = Callable[[NDArray[np.float32], int], Hits]


class IndexRefusedError(GateRefusedError):
    """The index finds too little of what exact search finds."""


def measure(index: ItemIndex, queries: NDArray[np.float32], config: IndexConfig) -> Measurement:
    """Recall and latency of an index.

    recall@K = mean over the queries of |index's top K and exact top K| / min(K, num_items), where an item that scores
    as high as the exact K-th belongs to the exact top K, whichever of the tied ones exact search names. Both searches
    are timed through the same interface, from the query's embedding to the items' ids.

    Args:
      index: to be measured.
      queries: float32 [num_queries, dimension] or [num_queries, vectors, dimension], at least one.
      config: K and the limit.

    Raises:
      ValueError: there is no query, or one has NaN or infinity.
    """
    if not len(queries):
        raise ValueError("there is no query to measure the index with: the splits eval, test and train are empty")
    k = min(config.recall_at, len(index))
    for search in (index.search, index.search_exact):
        search(queries[0], k)  # the first call pays for pages not yet in memory
    found, index_times, exact_times = 0, [], []
    for query in queries:
        approximate, taken = _timed(index.search, query, k)
        index_times.append(taken)
        exact, taken = _timed(index.search_exact, query, k)
        exact_times.append(taken)
        best, last = {hit.row for hit in exact}, exact[-1]
        length = np.linalg.norm(query, axis=-1).max()
        tied = last.score - ROUNDING * float(length * np.linalg.norm(index.embedding(last.row)))
        found += sum(hit.row in best or hit.score >= tied for hit in approximate)
    index_p50, exact_p50 = median(index_times), median(exact_times)
    return Measurement(
        recall_at=config.recall_at,
        recall=found / (k * len(queries)),
        min_recall=config.min_recall,
        queries=len(queries),
        latency=Latency(index_p50_us=index_p50, exact_p50_us=exact_p50, ratio=index_p50 / exact_p50),
    )


def check(measurement: Measurement) -> None:
    """Raises IndexRefusedError, saying what to do, where the recall is below its limit."""
    if measurement.recall < measurement.min_recall:
        raise IndexRefusedError(
            f"recall@{measurement.recall_at} of the index is {measurement.recall:.4f}, index.min_recall asks for "
            f"{measurement.min_recall:g}: lower index.min_recall, or train longer (near-equal embeddings of an "
            "untrained model cannot be told apart)"
        )


def _timed(search: Search, query: NDArray[np.float32], k: int) -> tuple[Hits, float]:
    start = time.perf_counter()
    hits = search(query, k)
    return hits, (time.perf_counter() - start) * 1e6
