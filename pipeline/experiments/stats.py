"""From ranks to figures with intervals. NumPy and SciPy only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 2_000
SEED = 7
METRICS = ("HR@50", "HR@100", "MRR x10", "NDCG@100")
_NUMBERS_AT_ONCE = 4 * 2**20


def gains(rank: np.ndarray) -> np.ndarray:
    """What each row adds to each metric's mean.

    HR@K: 1 if rank <= K. MRR x10: 10 / rank. NDCG@100: 1 / log2(rank + 1) if rank <= 100, with one relevant item.

    Args:
      rank: int [B], from 1.

    Returns:
      float64 [B, 4], in the order of METRICS.
    """
    ndcg = np.where(rank <= 100, 1 / np.log2(rank + 1.0), 0.0)
    return np.stack([rank <= 50, rank <= 100, 10.0 / rank, ndcg], axis=1).astype(np.float64)


def t_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and half the width of its 95 % interval, Student's t with n - 1 degrees of freedom.

    half = t(0.975, n - 1) s / sqrt(n), s the standard deviation with n - 1

    Returns:
      (mean, half); half is None for a single value.
    """
    sample = np.asarray(values, np.float64)
    if len(sample) == 1:
        return float(sample[0]), None
    t = stats.t.ppf((1 + CONFIDENCE) / 2, len(sample) - 1)
    return float(sample.mean()), float(t * sample.std(ddof=1) / np.sqrt(len(sample)))


def relative_gains(reference: np.ndarray, others: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The reference's gain over others, with paired bootstrap 95 % intervals.

    gain = mean(reference) / mean(other) - 1

    Queries are drawn with replacement, each with all of its rows, for rows of one query are not independent; where each
    query has one row this is the bootstrap over rows. Both means are of the same draw. The interval runs from the 2.5th
    to the 97.5th percentile of 2,000 draws (Efron, Tibshirani, "An Introduction to the Bootstrap", 1993, ch. 13). Of a
    single query every draw is the same, which says nothing of others: it has no interval.

    Args:
      reference: float [B, M], each row's part in each of M metrics.
      others: float [R, B, M].
      groups: [B], each row's query.

    Returns:
      float64 [R, M, 3]: gain, low, high. 0 where both means are 0, inf where only the other's is; low and high are NaN
      for a single query.
    """
    names, group = np.unique(groups, return_inverse=True)
    stacked = np.concatenate([reference[np.newaxis], others])
    sums = np.zeros((len(names), stacked.shape[0] * stacked.shape[2]))
    np.add.at(sums, group, stacked.transpose(1, 0, 2).reshape(len(group), -1))

    def gain(totals: np.ndarray) -> np.ndarray:
        by_row = totals.reshape(len(totals), *stacked.shape[::2])
        mine, theirs = by_row[:, :1], by_row[:, 1:]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where((mine == 0) & (theirs == 0), 0.0, mine / theirs - 1)

    gained = gain(sums.sum(axis=0)[np.newaxis])[0]
    if len(names) == 1:
        return np.stack([gained, *[np.full_like(gained, np.nan)] * 2], axis=-1)
    random = np.random.default_rng(SEED)
    step = max(1, _NUMBERS_AT_ONCE // len(names))
    totals = []
    for start in range(0, RESAMPLES, step):
        size = min(step, RESAMPLES - start)
        drawn = random.integers(0, len(names), (size, len(names)))
        drawn += np.arange(size)[:, np.newaxis] * len(names)
        times = np.bincount(drawn.ravel(), minlength=size * len(names)).reshape(size, len(names))
        totals.append(times @ sums)
    with np.errstate(invalid="ignore"):  # between two infinite draws
        low, high = np.percentile(gain(np.concatenate(totals)), [2.5, 97.5], axis=0)
    return np.stack([gained, low, high], axis=-1)
