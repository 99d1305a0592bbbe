"""Configuration of the negative sampler. Imports no TensorFlow."""

from __future__ import annotations

from typing import Literal

from models.config import Frozen, NonNegativeFloat, NonNegativeInt


class NegativesConfig(Frozen):
    """S negatives for each positive."""

    per_positive: NonNegativeInt = 4  # S
    sampling: Literal["uniform", "popularity"] = "uniform"
    alpha: NonNegativeFloat = 0.75  # popularity: probability proportional to (count + 1) ** alpha
    exclude_known: bool = False  # never draw an item the query has in the train split
    seed: NonNegativeInt = 7
