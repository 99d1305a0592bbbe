"""Configuration of the gates before training. Imports no TensorFlow."""

from __future__ import annotations

from pydantic import Field, model_validator

from models.config import FeatureSpec, Frozen, Kind, PositiveFloat, Side


class VolumeGate(Frozen):
    """How many rows each span of the window and the run's may have, as a ratio to the median of the others."""

    min_ratio: PositiveFloat = 0.5
    max_ratio: PositiveFloat = 3.0

    @model_validator(mode="after")
    def _ordered(self) -> VolumeGate:
        if self.min_ratio > self.max_ratio:
            raise ValueError("min_ratio is larger than max_ratio")
        return self


class DistanceGate(Frozen):
    """How far a feature's values may move, from 0 (not at all) to 1.

    For text the largest change of one value's share (L-infinity), for numbers the Jensen-Shannon divergence.
    """

    max: PositiveFloat  # of every categorical and number of the interactions' and the queries' side
    features: dict[str, PositiveFloat] = {}  # another one for these; here ids and histories may be named too


class GatesConfig(Frozen):
    """What stops a run before it trains or publishes. The gates of the spans are off unless they are given."""

    volume: VolumeGate | None = None
    drift: DistanceGate | None = None  # the run's span against the last one before it that passed
    skew: DistanceGate | None = None  # the run's span against the window it is trained on
    canary_queries: int = Field(default=32, ge=0)  # asked of the release before it is published


def distances(gate: DistanceGate | None, spec: FeatureSpec) -> dict[str, float]:
    """The largest distance of each feature that a gate looks at.

    Raises:
      ValueError: the gate names what is no feature of the interactions.
    """
    if gate is None:
        return {}
    names = [spec.query_id, spec.item_id, *(f.name for f in spec.query_features)]
    for name in gate.features:
        if name not in names:
            there = ", ".join(dict.fromkeys(names))
            raise ValueError(f"no feature {name!r} among those of the interactions ({there})")
    compared = (Kind.CATEGORICAL, Kind.MULTI_CATEGORICAL, Kind.NUMBER)
    default = {f.name: gate.max for f in spec.features if f.side is not Side.ITEM and f.kind in compared}
    return default | gate.features
