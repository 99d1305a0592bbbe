"""What is wrong with a span, as lines for the user. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from statistics import median_high, median_low

from tensorflow_metadata.proto.v0 import anomalies_pb2

from components.span_gate.config import VolumeGate

_MEASURES = {
    anomalies_pb2.DriftSkewInfo.Measurement.L_INFTY: "one value's share moved by",
    anomalies_pb2.DriftSkewInfo.Measurement.JENSEN_SHANNON_DIVERGENCE: "the Jensen-Shannon divergence is",
}


def volume_problems(rows: Mapping[int, int], span: int, gate: VolumeGate) -> Iterator[str]:
    """A line for each span with too few or too many rows against the median of the others.

    Each span of the window, and not the run's alone: what was refused then must not be trained on now. Of an even
    number of others the middle one that is nearer to the span counts, not their mean: of two, one may be the odd one
    out. Of two spans in all nobody can tell which one is odd: the run's is judged.

    Args:
      rows: of each span that was read.
      span: the run's.
      gate: the limits.
    """
    for judged, count in sorted(rows.items()):
        others = [of_other for other, of_other in rows.items() if other != judged]
        if judged != span and len(others) < 2:
            continue
        if count < gate.min_ratio * median_low(others):
            limit, usual = "min_ratio", median_low(others)
        elif count > gate.max_ratio * median_high(others):
            limit, usual = "max_ratio", median_high(others)
        else:
            continue
        ratio = count / usual if usual else math.inf
        yield (
            f"volume: span {judged} has {count:,} rows, {ratio:.2f} times the median of the {len(others)} other spans "
            f"({usual:,.0f}); gates.volume.{limit} is {getattr(gate, limit):g}. Deliver span {judged} again, or name "
            f"it in data.split.skip; if the change is real, set gates.volume.{limit} beyond it"
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
