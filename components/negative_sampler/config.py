"""Configuration of the negative sampler. Imports no TensorFlow."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from models.config import Frozen, NonNegativeFloat, NonNegativeInt, PositiveInt


class NegativesConfig(Frozen):
    """S negatives for each positive."""

    per_positive: NonNegativeInt = 4  # S
    sampling: Literal["uniform", "popularity"] = "uniform"
    alpha: NonNegativeFloat = 0.75  # popularity: probability proportional to (count + 1) ** alpha
    exclude_known: bool = False  # never draw an item the query has in the train split
    seed: NonNegativeInt = 7
    hard_per_positive: NonNegativeInt = 0  # H further negatives, of those the last blessed model ranks high
    # Ranks they are drawn from, from 1, both included, the query's train items not ranked. The very first are often
    # items it has yet to choose.
    hard_from: tuple[PositiveInt, PositiveInt] = Field(default=(10, 200), strict=False)

    @model_validator(mode="after")
    def _enough_ranks(self) -> NegativesConfig:
        first, last = self.hard_from
        if last - first + 1 < max(self.hard_per_positive, 1):
            raise ValueError(
                f"hard_from is [{first}, {last}]: expected the first rank and the last, with at least "
                f"hard_per_positive = {self.hard_per_positive} ranks between them, both included"
            )
        return self
