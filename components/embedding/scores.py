"""The exact scores of a whole catalogue. NumPy only."""

from __future__ import annotations

import numpy as np

SCORES_AT_ONCE = 4 * 2**20  # 32 MB as float64


def queries_at_once(items: int, vectors: int = 1) -> int:
    """How many queries to score together, at least 1, so that no more than SCORES_AT_ONCE products are in memory."""
    return max(1, SCORES_AT_ONCE // (items * vectors))


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
