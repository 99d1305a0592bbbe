"""Ranks and what is computed from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Metrics are summed as integers of this unit: unlike floats, they add up to the same in any order, so
# that the number of workers does not show in the result. Good to 1e-9.
UNIT = 2.0**-32


def ranks(scores: np.ndarray, targets: np.ndarray, excluded: Sequence[np.ndarray]) -> np.ndarray:
    """The place of each row's target among all items, 1 is best.

    rank = 1 + number of other items scored higher + number of other items scored equal

    An equal score counts against the target, so a model that scores all items alike gets the last
    place and not a good one by luck. NaN is the worst score and equal to other NaNs.

    Args:
      scores: float [B, N].
      targets: int [B], the column of each row's item.
      excluded: B integer arrays, the columns that are not ranked in this row. Must not hold the target.

    Returns:
      int64 [B], from 1 to N.
    """
    scores = np.where(np.isnan(scores), -np.inf, scores)
    rows = np.arange(len(targets))
    ahead = scores >= scores[rows, targets][:, np.newaxis]
    ahead[np.repeat(rows, [len(e) for e in excluded]), np.concatenate([*excluded, np.empty(0, np.int64)])] = False
    # The target itself is among those not below it: that is the 1.
    return ahead.sum(axis=1)


def metric_names(ks: Sequence[int]) -> list[str]:
    """HR@K and NDCG@K for each K, and MRR."""
    return [f"{metric}@{k}" for k in ks for metric in ("HR", "NDCG")] + ["MRR"]


def metric_sums(rank: np.ndarray, ks: Sequence[int], weights: np.ndarray | None = None) -> np.ndarray:
    """Sums over rows, one relevant item each; over all rows and, with weights, in each draw of a bootstrap.

    HR@K: 1 if rank <= K. NDCG@K: 1 / log2(rank + 1) if rank <= K; the ideal is 1. MRR: 1 / rank.
    With K not below the number of items HR@K is 1.

    Args:
      rank: int [B], from 1.
      ks: the cut-offs.
      weights: int [B, draws], of each row in each draw.

    Returns:
      int64 [1 + draws, M], in the order of `metric_names`, as multiples of UNIT.
    """
    gains = 1 / np.log2(rank + 1.0)
    hits = [rank <= k for k in ks]
    values = [column for hit in hits for column in (hit, np.where(hit, gains, 0.0))] + [1.0 / rank]
    units = np.rint(np.stack(values, axis=1) / UNIT)
    total = units.sum(axis=0, keepdims=True)
    if weights is None:
        return total.astype(np.int64)
    # As float64, for which NumPy has a fast product: a block's sums are below 2**53, so they are exact.
    return np.concatenate([total, weights.T.astype(np.float64) @ units]).astype(np.int64)


def head_items(counts: np.ndarray) -> np.ndarray:
    """The most popular items: the upper fifth of the catalogue, rounded up; of equal ones the first.

    Args:
      counts: int [N], train positives.

    Returns:
      bool [N].
    """
    head = np.zeros(len(counts), bool)
    head[np.argsort(-counts, kind="stable")[: int(np.ceil(len(counts) * 0.2))]] = True
    return head


def activity_bucket(rows: int) -> str:
    """Names how many train rows a query has."""
    for largest, name in ((0, "0"), (2, "1-2"), (5, "3-5"), (20, "6-20")):
        if rows <= largest:
            return name
    return ">20"
