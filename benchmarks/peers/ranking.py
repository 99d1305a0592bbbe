"""Exact full-catalogue ranks, the same for every peer. Needs NumPy only."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.peers.data import Exchange, Rows, starts

# int64 [n] query indices -> float [n, items] scores.
Score = Callable[[np.ndarray], np.ndarray]
_QUERIES_AT_ONCE = 256


def ranks(known: Rows, held_out: Rows, queries: int, items: int, score: Score) -> np.ndarray:
    """Ranks each held-out item among all items of the catalogue, best first.

        rank = 1 + number of other ranked items that score at least as high

    Not ranked are the items of the query's known rows and its other held-out items. Ties count against the model; NaN
    is the lowest score. An item without a known row scores below all others: a peer that tells items apart by a trained
    vector for each id cannot know it.

    Args:
      known: what the model was trained on.
      held_out: in order of query.
      queries, items: how many there are.
      score: gives a query's scores for all items.

    Returns:
      int64 [held-out rows], from 1.
    """
    unknown = np.bincount(known.item, minlength=items) == 0
    first_known, first_held_out = starts(known, queries), starts(held_out, queries)
    result = np.zeros(len(held_out), np.int64)
    asked = np.unique(held_out.query)
    for begin in range(0, len(asked), _QUERIES_AT_ONCE):
        chunk = asked[begin : begin + _QUERIES_AT_ONCE]
        scores = np.array(score(chunk), np.float64)
        scores[np.isnan(scores)] = -np.inf
        scores[:, unknown] = -np.inf
        for row, query in zip(scores, chunk, strict=True):
            places = slice(first_held_out[query], first_held_out[query + 1])
            targets = held_out.item[places]
            ranked = np.ones(items, bool)
            ranked[known.item[first_known[query] : first_known[query + 1]]] = False
            ranked[targets] = False
            result[places] = 1 + (row[ranked] >= row[targets][:, None]).sum(axis=1)
    return result


def write_ranks(path: Path, exchange: Exchange, rank: np.ndarray) -> None:
    """Writes query_id, item_id and rank of each test row, under a temporary name first.

    Args:
      path: the .npz file.
      exchange: whose test rows are ranked.
      rank: int64 [test rows].
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    np.savez_compressed(
        temporary,
        query_id=np.array([exchange.query_ids[q] for q in exchange.test.query], np.str_),
        item_id=np.array([exchange.item_ids[i] for i in exchange.test.item], np.str_),
        rank=rank,
    )
    temporary.replace(path)
