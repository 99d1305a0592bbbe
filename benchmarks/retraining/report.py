"""From what the runs recorded to one table. No TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.experiments.stats import t_interval
from pipeline.metadata import Metadata, entries

METRICS = ("HR@50", "HR@100", "MRR")


@dataclass(frozen=True)
class Trained:
    """One model: its metrics on the next span, and the wall seconds of its Trainer."""

    metrics: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class Pair:
    """The cold and the warm model of one span."""

    span: int
    cold: Trained
    warm: Trained


def pairs(metadata: Metadata) -> list[Pair]:
    """Spans that have both a model trained cold and one that went on from an earlier span's."""
    found: dict[int, dict[str, Trained]] = {}
    for entry in entries(metadata):
        if entry.model is None or not entry.metrics:
            continue
        trainer = metadata.producers[entry.model.id].proto
        seconds = (trainer.last_update_time_since_epoch - trainer.create_time_since_epoch) / 1000
        kind = "warm" if metadata.base_of(entry.model) is not None else "cold"
        found.setdefault(entry.span, {})[kind] = Trained(entry.metrics, seconds)
    return [Pair(span, of["cold"], of["warm"]) for span, of in sorted(found.items()) if len(of) == 2]


def _interval(values: Sequence[float]) -> str:
    mean, half = t_interval(values)
    return f"{mean:.3f}" + (f" ± {half:.3f}" if half is not None else "")


def report(rows: Sequence[Pair]) -> str:
    """Markdown: a line a span, and what it comes to.

    Raises:
      ValueError: there is no pair.
    """
    if not rows:
        raise ValueError("no span has both a cold and a warm model yet")
    lines = [
        "| span | " + " | ".join(f"{m} cold | warm" for m in METRICS) + " | Trainer cold, s | warm |",
        "|---|" + "---|" * (2 * len(METRICS) + 2),
    ]
    for row in rows:
        values = [f"{of.metrics[m]:.4f}" for m in METRICS for of in (row.cold, row.warm)]
        lines.append(f"| {row.span} | {' | '.join(values)} | {row.cold.seconds:.1f} | {row.warm.seconds:.1f} |")
    lines += ["", f"Over {len(rows)} spans, mean and 95 % interval (Student's t over spans) of warm / cold:", ""]
    for metric in METRICS:
        ratios = [row.warm.metrics[metric] / row.cold.metrics[metric] for row in rows if row.cold.metrics[metric]]
        if ratios:
            lines.append(f"- {metric}: {_interval(ratios)}")
    lines.append(f"- time of the Trainer: {_interval([row.warm.seconds / row.cold.seconds for row in rows])}")
    seconds = np.array([[row.cold.seconds, row.warm.seconds] for row in rows]).sum(axis=0)
    lines.append(f"- in all {seconds[0]:.0f} s cold, {seconds[1]:.0f} s warm")
    return "\n".join(lines) + "\n"
