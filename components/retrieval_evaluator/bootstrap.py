"""How sure a difference of two models is: a paired bootstrap over queries, without bringing the rows together.

Each query has a weight in each draw, Poisson-distributed with mean 1, that depends on the query's id alone. So both
models, wherever they are ranked, weight a query alike, and the sums of a draw are sums over workers. Poisson weights
stand for drawing with replacement (Chamandy, Muralidharan, Najmi, Naidu, "Estimating Uncertainty for Massive Data
Streams", 2012). Queries are drawn and not rows, for rows of one query are not independent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

DRAWS = 1_000
CONFIDENCE = 0.95


class Ratio(NamedTuple):
    """A ratio of two means and the ends of its 95 % interval; None stands for infinity."""

    value: float | None
    low: float | None
    high: float | None


def poisson_weights(queries: Sequence[bytes]) -> np.ndarray:
    """The weight of each row in each draw, the same for all rows of a query and in every run.

    Args:
      queries: of B rows.

    Returns:
      int64 [B, DRAWS].
    """

    def of(query: bytes) -> np.ndarray:
        seed = int.from_bytes(hashlib.blake2b(query, digest_size=8).digest(), "big")
        return np.random.default_rng(seed).poisson(1.0, DRAWS)

    weights = {query: of(query) for query in dict.fromkeys(queries)}
    return np.stack([weights[query] for query in queries])


def ratio(candidate: np.ndarray, other: np.ndarray) -> Ratio:
    """candidate / other with the interval from the 2.5th to the 97.5th percentile of the draws.

    Where both are 0 the ratio is 1, where only the other is, it is infinite.

    Args:
      candidate: [1 + DRAWS], a metric's sum over all rows, then in each draw.
      other: the same of the other model over the same rows.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where((candidate == 0) & (other == 0), 1.0, candidate / other)
    tail = 100 * (1 - CONFIDENCE) / 2
    # No interpolation: between a number and infinity there is nothing.
    low = np.percentile(ratios[1:], tail, method="lower")
    high = np.percentile(ratios[1:], 100 - tail, method="higher")
    return Ratio(*(float(r) if np.isfinite(r) else None for r in (ratios[0], low, high)))
