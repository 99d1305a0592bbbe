"""Items and queries with a known generator: clusters that overlap, so that the nearest items are a fair question.

Item i belongs to centre i mod CENTRES. Centres are standard normal in DIMENSION dimensions, an item is its centre plus
standard normal noise NOISE times as wide, brought to unit length. A user's own vector is drawn like an item's; the
query tower (benchmarks.serving.build) adds HISTORY_SHARE times the mean of the history's vectors, which are items of
the user's centre, and normalises. Imports no TensorFlow.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DIMENSION = 32
CENTRES = 2_000
USERS = 20_000
NOISE = 0.75  # two items of one centre then have a cosine of 1 / (1 + NOISE^2) = 0.64 on average
KNOWN_ITEMS = 20_000  # the items that the history's vocabulary knows; CENTRES divides it
HISTORY = 20  # items of a user's history
HISTORY_SHARE = 0.3
MODEL_NAME = "synthetic"


def _around_centres(count: int, seed: int) -> NDArray[np.float32]:
    centres = np.random.default_rng(0).standard_normal((CENTRES, DIMENSION), np.float32)
    noise = np.random.default_rng(seed).standard_normal((count, DIMENSION), np.float32)
    noise = NOISE * noise + centres[np.arange(count) % CENTRES]
    return noise / np.linalg.norm(noise, axis=1, keepdims=True)


def item_vectors(count: int) -> NDArray[np.float32]:
    """float32 [count, DIMENSION], of unit length. The first rows are the same for every count."""
    return _around_centres(count, seed=1)


def user_vectors() -> NDArray[np.float32]:
    """float32 [USERS, DIMENSION], of unit length."""
    return _around_centres(USERS, seed=2)


def item_id(row: int) -> str:
    return f"item{row:09d}"


def user_id(row: int) -> str:
    return f"user{row:06d}"


def history(user: int) -> list[str]:
    """Ids of known items of the user's centre, the same in every run. There are few, so some repeat."""
    chosen = np.random.default_rng([3, user]).integers(KNOWN_ITEMS // CENTRES, size=HISTORY)
    return [item_id(int(user % CENTRES + place * CENTRES)) for place in chosen]
