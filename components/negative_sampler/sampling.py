"""Drawing negatives: a distribution over the catalogue and random numbers that belong to a row."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from components.negative_sampler.config import NegativesConfig


def row_key(row: bytes, seed: int, occurrence: int = 0) -> bytes:
    """Names a training row, so that its random numbers depend on nothing else.

    Args:
      row: the row's serialised tf.Example.
      seed: the pipeline's seed, >= 0.
      occurrence: number of this row among identical ones, from 0.

    Returns:
      16 bytes, evenly distributed.
    """
    return hashlib.blake2b(row, digest_size=16, key=f"{seed}/{occurrence}".encode()).digest()


def uniforms(key: bytes, size: int, attempt: int = 0) -> np.ndarray:
    """Uniform random numbers out of a key, the same on any machine and NumPy.

    Args:
      key: what `row_key` returned.
      size: how many.
      attempt: another attempt gives other numbers.

    Returns:
      float64 [size] in [0, 1).
    """
    stream = hashlib.shake_128(key + attempt.to_bytes(4, "little")).digest(8 * size)
    # A float64 holds 53 bits.
    return (np.frombuffer(stream, "<u8") >> np.uint64(11)) * 2.0**-53


def draw_hard(ranked: np.ndarray, key: bytes, size: int) -> np.ndarray:
    """Draws evenly and without replacement for the row named by `key`.

    Args:
      ranked: int64 [n], candidate indices to draw from.
      key: what `row_key` returned.
      size: H.

    Returns:
      int64 [H] candidate indices, -1 where there are fewer than H.
    """
    # Another stream than that of the row's other negatives: turning one on does not change the other.
    order = np.argsort(uniforms(key + b"hard", len(ranked)), kind="stable")
    return np.append(ranked[order[:size]], np.full(max(size - len(ranked), 0), -1, np.int64))


@dataclass(frozen=True)
class Distribution:
    """Probabilities over candidate indices 0..N-1.

    log_probabilities: float64 [N], natural logarithm.
    cumulative: float64 [N], the last one exactly 1.
    """

    log_probabilities: np.ndarray
    cumulative: np.ndarray

    @classmethod
    def from_log_weights(cls, log_weights: np.ndarray) -> Distribution:
        """Normalises float64 [N] log weights, N > 0."""
        weights = np.exp(log_weights - log_weights.max())
        cumulative = np.cumsum(weights)
        log_probabilities = log_weights - log_weights.max() - np.log(cumulative[-1])
        return cls(log_probabilities, cumulative / cumulative[-1])

    @classmethod
    def from_counts(cls, counts: np.ndarray, config: NegativesConfig) -> Distribution:
        """The configured distribution.

        uniform: q(v) = 1 / N; popularity: q(v) proportional to (count(v) + 1) ^ alpha.

        Args:
          counts: int64 [N], train positives of each candidate.
          config: sampling and alpha.
        """
        alpha = config.alpha if config.sampling == "popularity" else 0.0
        return cls.from_log_weights(alpha * np.log(counts + 1.0))

    def draw(self, uniform: np.ndarray) -> np.ndarray:
        """Candidate indices int64 [n] for uniform random numbers [n] in [0, 1)."""
        return np.searchsorted(self.cumulative, uniform, side="right")


class Sampler:
    """Draws a row's negatives, with replacement, never one of the known items.

    log q(v) = log p(v) - log(1 - P(known)): the distribution is renormalised over what is left.

    Args:
      distribution: p, over the whole catalogue.
      known: candidate indices that are never drawn.

    Raises:
      ValueError: nothing is left to draw.
    """

    def __init__(self, distribution: Distribution, known: np.ndarray | None = None) -> None:
        self._distribution = distribution
        self._log_rest = 0.0
        self._known = np.unique(known) if known is not None else np.empty(0, np.int64)
        self._rest: np.ndarray | None = None
        if not self._known.size:
            return
        if self._known.size == distribution.cumulative.size:
            raise ValueError("every item of the catalogue is known, so no negative can be drawn")
        known_mass = float(np.exp(distribution.log_probabilities[self._known]).sum())
        if known_mass <= 0.5:
            self._log_rest = float(np.log1p(-known_mass))
        else:
            # Rejection would need ever more attempts: draw from a distribution over the rest itself.
            self._rest = np.delete(np.arange(distribution.cumulative.size), self._known)
            self._distribution = Distribution.from_log_weights(distribution.log_probabilities[self._rest])

    def draw(self, key: bytes, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Draws for the row named by `key`.

        Returns:
          int64 [size] candidate indices and float64 [size] natural-log probabilities.
        """
        drawn = self._distribution.draw(uniforms(key, size))
        log_q = self._distribution.log_probabilities
        if self._rest is not None:
            return self._rest[drawn], log_q[drawn]
        if not self._known.size:
            return drawn, log_q[drawn]
        attempt = 0
        while (refused := self._is_known(drawn)).any():
            attempt += 1
            drawn[refused] = self._distribution.draw(uniforms(key, int(refused.sum()), attempt))
        return drawn, log_q[drawn] - self._log_rest

    def _is_known(self, candidates: np.ndarray) -> np.ndarray:
        place = np.minimum(np.searchsorted(self._known, candidates), self._known.size - 1)
        return self._known[place] == candidates
