"""Configuration of the evaluation. Imports no TensorFlow."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from models.config import Frozen, PositiveInt

Metric = Annotated[str, Field(pattern=r"^(MRR|(HR|NDCG)@[1-9][0-9]*)$")]


class Threshold(Frozen):
    """What a metric of the eval split must reach for the model to be blessed."""

    metric: Metric
    min_value: float | None = None  # at least this
    min_ratio_to_popular: float | None = None  # at least so many times most-popular's value
    min_ratio_to_blessed: float | None = None  # the lower end of the ratio's 95 % interval is at least this


class SliceGate(Frozen):
    """No slice of the eval split may have become worse than this against the last blessed model."""

    by: Literal["category", "popularity", "activity"]
    metric: Metric
    min_rows: PositiveInt = 100  # smaller slices are not looked at
    min_ratio_to_blessed: Annotated[float, Field(gt=0, le=1)]  # refused where even the interval's upper end is below


class EvaluationConfig(Frozen):
    """Exact ranking of the whole catalogue for each held-out interaction."""

    ks: tuple[PositiveInt, ...] = Field(default=(10, 50, 100), min_length=1, strict=False)
    exclude_seen: bool = True  # items the query has in an earlier split are not ranked
    thresholds: tuple[Threshold, ...] = Field(default=(), strict=False)
    slices: tuple[SliceGate, ...] = Field(default=(), strict=False)

    @field_validator("thresholds")
    @classmethod
    def _each_bounds_something(cls, thresholds: tuple[Threshold, ...]) -> tuple[Threshold, ...]:
        for t in thresholds:
            if t.min_value is None and t.min_ratio_to_popular is None and t.min_ratio_to_blessed is None:
                raise ValueError(
                    f"{t.metric}: one of min_value, min_ratio_to_popular, min_ratio_to_blessed must be given"
                )
        return thresholds
