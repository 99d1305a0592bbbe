"""The plots of a report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

LOSS = "retrieval_loss"
MIMIC = {"query_mimic_norm": "norm of a_u", "query_mimic_cosine": "cosine of a_u to the p_v of its positives"}


def _plain(text: str) -> str:
    """What is between two dollar signs Matplotlib would read as a formula."""
    return text.replace("$", r"\$")


@contextmanager
def _figure(path: Path, axes: int = 1) -> Iterator[list[Axes]]:
    figure, made = plt.subplots(1, axes, figsize=(7 * axes, 4.5), squeeze=False, layout="constrained")
    try:
        yield list(made[0])
        # Without the date and version that Matplotlib writes, equal results are equal files.
        figure.savefig(path, dpi=120, metadata={"Software": None})
    finally:
        plt.close(figure)


def _sweep(path: Path, points: list[dict[str, Any]], label: str) -> None:
    with _figure(path, 2) as axes:
        for axis, metric in zip(axes, ("HR@100", "MRR x10"), strict=True):
            values = [point["value"] for point in points]
            means = [point["metrics"][metric]["mean"] for point in points]
            halves = [point["metrics"][metric]["half"] or 0.0 for point in points]
            axis.errorbar(values, means, yerr=halves, marker="o", capsize=3)
            axis.set(xlabel=_plain(label), ylabel=metric)
            axis.grid(alpha=0.3)


def _by_epoch(axis: Axes, curves: dict[str, dict[str, list[float]]], value: str, label: str) -> None:
    for row, curve in curves.items():
        if value in curve:
            axis.plot(range(1, len(curve[value]) + 1), curve[value], marker=".", label=_plain(row))
    axis.set(xlabel="epoch", ylabel=label)
    axis.grid(alpha=0.3)
    if axis.lines:
        axis.legend(fontsize="small")


def _categories(path: Path, parts: dict[str, Any], reference: str, baseline: str) -> None:
    with _figure(path) as (axis,):
        for name, part in parts.items():
            gain = part["baseline_gain"]["HR@100"]
            error = [[100 * (gain["gain"] - gain["low"])], [100 * (gain["high"] - gain["gain"])]]
            axis.errorbar(
                max(part["train_rows"], 1), 100 * gain["gain"], yerr=error, marker="o", alpha=0.6, color="tab:blue"
            )
            axis.annotate(_plain(name), (max(part["train_rows"], 1), 100 * gain["gain"]), fontsize="x-small")
        axis.axhline(0, color="grey", linewidth=1)
        axis.set_xscale("log")
        axis.set(xlabel="train rows of the category", ylabel=_plain(f"HR@100, {reference} over {baseline}, %"))


def write_plots(results: dict[str, Any], folder: Path) -> list[Path]:
    """Draws what there is data for.

    sweep-<name>.png: HR@100 and MRR x10 over the sweep's values. curves-<data set>.png: the objective's loss by epoch.
    categories-<data set>.png: the reference's gain over the baseline by category, against the category's train rows,
    without those where the baseline finds nothing. mimic-<data set>.png: norm and cosine of the augmented vectors by
    epoch, of the rows whose model records them.

    Args:
      results: of `results.collect`.
      folder: where to write.

    Returns:
      The files.
    """
    grid = results["grid"]
    labels = {sweep["name"]: sweep["label"] for sweep in grid["sweeps"]}
    written = []
    for name, points in results["sweeps"].items():
        written.append(folder / f"sweep-{name}.png")
        _sweep(written[-1], points, labels[name])
    for dataset, figures in results["datasets"].items():
        curves = figures["curves"]
        if any(LOSS in curve for curve in curves.values()):
            written.append(folder / f"curves-{dataset}.png")
            with _figure(written[-1]) as (axis,):
                _by_epoch(axis, curves, LOSS, "loss of the objective")
        if any(MIMIC.keys() & curve.keys() for curve in curves.values()):
            written.append(folder / f"mimic-{dataset}.png")
            with _figure(written[-1], len(MIMIC)) as axes:
                for axis, (value, label) in zip(axes, MIMIC.items(), strict=True):
                    _by_epoch(axis, curves, value, label)
                    axis.set_ylim(bottom=min(0.0, axis.get_ylim()[0]))
        compared = {
            category: part
            for category, part in figures["slices"]["category"].items()
            if part["baseline_gain"] and None not in part["baseline_gain"]["HR@100"].values()
        }
        if compared:
            written.append(folder / f"categories-{dataset}.png")
            _categories(written[-1], compared, grid["reference"], grid["baseline"])
    return written
