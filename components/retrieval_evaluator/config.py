"""Configuration of the evaluation. Imports no TensorFlow."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from models.config import Frozen, PositiveInt


class Threshold(Frozen):
    """What a metric of the eval split must reach for the model to be blessed."""

    metric: Annotated[str, Field(pattern=r"^(MRR|(HR|NDCG)@[1-9][0-9]*)$")]
    min_value: float | None = None  # at least this
    min_ratio_to_popular: float | None = None  # at least so many times most-popular's value
    min_ratio_to_blessed: float | None = None  # at least so many times the last blessed model's value


class EvaluationConfig(Frozen):
    """Exact ranking of the whole catalogue for each held-out interaction."""

    ks: tuple[PositiveInt, ...] = Field(default=(10, 50, 100), min_length=1, strict=False)
    exclude_seen: bool = True  # items the query had before are not ranked
    thresholds: tuple[Threshold, ...] = Field(default=(), strict=False)

    @field_validator("thresholds")
    @classmethod
    def _each_bounds_something(cls, thresholds: tuple[Threshold, ...]) -> tuple[Threshold, ...]:
        for t in thresholds:
            if t.min_value is None and t.min_ratio_to_popular is None and t.min_ratio_to_blessed is None:
                raise ValueError(
                    f"{t.metric}: one of min_value, min_ratio_to_popular, min_ratio_to_blessed must be given"
                )
        return thresholds
