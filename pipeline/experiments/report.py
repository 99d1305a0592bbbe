"""The report of a grid: table.md, results.json and plots."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.experiments.plots import write_plots
from pipeline.experiments.stats import METRICS, RESAMPLES

SLICE_METRIC = "HR@100"


def _line(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _header(*cells: str) -> list[str]:
    return [_line(*cells), "|---" * len(cells) + "|"]


def _figure(value: dict[str, Any]) -> str:
    half = value["half"]
    return f"{value['mean']:.4f}" if half is None else f"{value['mean']:.4f} ± {half:.4f}"


def _gain(value: dict[str, float | None]) -> str:
    gain, low, high = (
        "-" if part is None else f"{100 * part:+.1f}" for part in (value["gain"], value["low"], value["high"])
    )
    return f"{gain} % [{low}, {high}]"


def _dataset(name: str, figures: dict[str, Any], grid: dict[str, Any], seeds: int) -> list[str]:
    rows = {row["name"] for row in grid["rows"]}
    lines = [
        f"## {name}",
        "",
        f"{figures['held_out_rows']:,} held-out rows of {figures['queries']:,} queries, {figures['items']:,} items, "
        f"{figures['train_rows']:,} train rows.",
        "",
        *_header("row", "seeds", *METRICS),
    ]
    for row, entry in figures["table"].items():
        count = f"{entry['seeds']} of {seeds}" if row in rows else "-"
        lines.append(_line(row, count, *(_figure(entry["metrics"][metric]) for metric in METRICS)))
    compared = {row: entry["reference_gain"] for row, entry in figures["table"].items() if entry["reference_gain"]}
    if compared:
        lines += ["", f"{grid['reference']} over", "", *_header("row", *METRICS)]
        lines += [_line(row, *(_gain(gain[metric]) for metric in METRICS)) for row, gain in compared.items()]
    shown = list(figures["table"])
    for dimension, parts in figures["slices"].items():
        if len(parts) < 2:
            continue
        gain_column = f"{grid['reference']} over {grid['baseline']}"
        lines += ["", f"{SLICE_METRIC} by {dimension}", ""]
        lines += _header(dimension, "train rows", "held-out rows", *shown, gain_column)
        for value, part in parts.items():
            gain = part["baseline_gain"]
            lines.append(
                _line(
                    value,
                    f"{part['train_rows']:,}",
                    f"{part['rows']:,}",
                    *(f"{part['metrics'][row][SLICE_METRIC]:.3f}" for row in shown),
                    _gain(gain[SLICE_METRIC]) if gain else "-",
                )
            )
    if figures["new_queries"]:
        lines += ["", *_new_queries(figures["new_queries"], grid)]
    return [*lines, ""]


def _new_queries(figures: dict[str, Any], grid: dict[str, Any]) -> list[str]:
    rows = list(next(iter(figures["items"].values()))["metrics"])
    lines = [
        f"{SLICE_METRIC} of {figures['rows']:,} held-out rows, had their queries come after training and had so many "
        "items at most (their last ones)",
        "",
        *_header("items of the query", *rows, f"{grid['reference']} over {grid['baseline']}"),
    ]
    for items, part in figures["items"].items():
        gain = part["baseline_gain"]
        means = (f"{part['metrics'][row][SLICE_METRIC]:.3f}" for row in rows)
        lines.append(_line(items, *means, _gain(gain[SLICE_METRIC]) if gain else "-"))
    return lines


def markdown(results: dict[str, Any], failed: list[str]) -> str:
    """table.md of what `results.collect` returns.

    Args:
      results: the figures.
      failed: one line for each cell that failed.
    """
    grid = results["grid"]
    held_out = {
        ("last", "test"): "the last interaction of each query",
        ("last", "eval"): "the interaction before the last of each query",
        ("time", "test"): "the last tenth of time, every positive counted",
        ("time", "eval"): "the tenth of time before the last, every positive counted",
    }
    evaluation = results["evaluation"]
    lines = [
        f"Held out: {held_out[grid['split'], evaluation]} ({evaluation}). 5-core, the whole catalogue ranked, seen "
        "items left out, ties count against the model.",
        f"Mean ± half of the 95 % interval over seeds (Student's t). Gains: relative, with a paired bootstrap 95 % "
        f"interval over the held-out queries ({RESAMPLES:,} resamples, each row's metric averaged over seeds).",
        "",
    ]
    for name, figures in results["datasets"].items():
        lines += _dataset(name, figures, grid, results["seeds"])
    for name, points in results["sweeps"].items():
        (sweep,) = (sweep for sweep in grid["sweeps"] if sweep["name"] == name)
        lines += [f"## {name}: {sweep['dataset']}", "", *_header(sweep["label"], "seeds", *METRICS)]
        for point in points:
            figures = [_figure(point["metrics"][metric]) for metric in METRICS]
            lines.append(_line(f"{point['value']:g}", f"{point['seeds']} of {results['seeds']}", *figures))
        lines.append("")
    if failed:
        lines += ["## Failed", "", *(f"- {line.splitlines()[0]}" for line in failed), ""]
    return "\n".join(lines)


def write_report(results: dict[str, Any], failed: list[str], folder: Path) -> list[Path]:
    """Writes the report, over one that is there.

    Args:
      results: what `results.collect` returns.
      failed: one line for each cell that failed.
      folder: created if need be.

    Returns:
      The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table, tree = folder / "table.md", folder / "results.json"
    table.write_text(markdown(results, failed), encoding="utf-8")
    tree.write_text(json.dumps(results, indent=1, allow_nan=False), encoding="utf-8")
    return [table, tree, *write_plots(results, folder)]
