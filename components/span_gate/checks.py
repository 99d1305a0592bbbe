"""What is wrong with a span, as lines for the user. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import median

from tensorflow_metadata.proto.v0 import anomalies_pb2

from components.span_gate.config import VolumeGate

_MEASURES = {
    anomalies_pb2.DriftSkewInfo.Measurement.L_INFTY: "one value's share moved by",
    anomalies_pb2.DriftSkewInfo.Measurement.JENSEN_SHANNON_DIVERGENCE: "the Jensen-Shannon divergence is",
}


def volume_problems(rows: Mapping[int, int], span: int, gate: VolumeGate) -> Iterator[str]:
    """A line if a span has too few or too many rows.

    Args:
      rows: of each span of the window and of the run's; a span without rows may be missing.
      span: the run's.
      gate: the limits.
    """
    earlier = [count for other, count in rows.items() if other < span]
    usual = median(earlier)
    ratio = rows.get(span, 0) / usual
    limit = "min_ratio" if ratio < gate.min_ratio else "max_ratio" if ratio > gate.max_ratio else None
    if limit is None:
        return
    yield (
        f"volume: span {span} has {rows.get(span, 0):,} rows, {ratio:.2f} times the median of the {len(earlier)} spans "
        f"before it ({usual:,.0f}); gates.volume.{limit} is {getattr(gate, limit):g}. Deliver the span again; if the "
        f"change is real, set gates.volume.{limit} beyond it"
    )


def distance_problems(anomalies: anomalies_pb2.Anomalies, gate: str, compared: str) -> Iterator[str]:
    """A line for each feature that is further away than its schema allows.

    Args:
      anomalies: of TFDV, with `drift_skew_info`.
      gate: "drift" or "skew".
      compared: what with what, for the text.
    """
    for info in sorted(anomalies.drift_skew_info, key=lambda info: list(info.path.step)):
        name = ".".join(info.path.step)
        for measurement in info.drift_measurements if gate == "drift" else info.skew_measurements:
            if measurement.value > measurement.threshold:
                yield (
                    f"{gate}: feature {name!r}, {compared}: {_MEASURES[measurement.type]} {measurement.value:.3f}, "
                    f"gates.{gate} allows {measurement.threshold:g}. Look at what changed in its source; if the change "
                    f"is real, set gates.{gate}.features.{name} beyond it"
                )
