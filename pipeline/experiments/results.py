"""What the finished cells and peers say, as one tree: the content of results.json."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from components.retrieval_evaluator.metrics import activity_bucket
from pipeline.experiments.config import PEER, POPULAR, Grid
from pipeline.experiments.exchange import read_ranks
from pipeline.experiments.plan import Cell, Plan, Preparation
from pipeline.experiments.preparation.held_out import LIGHT, NEW_QUERY_ITEMS, HeldOut
from pipeline.experiments.stats import METRICS, gains, relative_gains, t_interval

NO_CATEGORY = "(none)"


def mean_and_interval(ranks: Sequence[np.ndarray]) -> dict[str, Any]:
    """By metric: the mean over seeds, half its 95 % interval (None for one seed), and each seed's value."""
    by_seed = np.stack([gains(rank).mean(axis=0) for rank in ranks])
    result = {}
    for metric, values in zip(METRICS, by_seed.T.tolist(), strict=True):
        mean, half = t_interval(values)
        result[metric] = {"mean": mean, "half": half, "values": values}
    return result


def _comparison(gain: np.ndarray) -> dict[str, Any]:
    """By metric {"gain", "low", "high"}; None is no number: the other row is 0, itself or in too many draws, or there
    is one query."""
    finite = [[value if math.isfinite(value) else None for value in values] for values in gain.tolist()]
    return {
        metric: dict(zip(("gain", "low", "high"), values, strict=True))
        for metric, values in zip(METRICS, finite, strict=True)
    }


def slices(held_out: HeldOut) -> dict[str, dict[str, tuple[np.ndarray, int]]]:
    """The parts of the held-out rows that are looked at by themselves.

    Returns:
      By dimension and value: bool [B], and the train rows of the items or queries it stands for.
      "category": the item's, largest first. "category size": the smaller half of the categories by train rows, the odd
      one counted to the larger, and the rest. "popularity decile" of the catalogue, 1 the most popular. "train rows of
      the query". "item": whether it has no train row.
    """
    size: dict[str, int] = {}
    names = np.where(held_out.category == "", NO_CATEGORY, held_out.category)
    for name, count in zip(names.tolist(), held_out.count.tolist(), strict=True):
        size[name] = size.get(name, 0) + count
    ordered = sorted(size, key=lambda name: (-size[name], name))
    smaller = np.isin(names, ordered[len(ordered) - len(ordered) // 2 :])
    half = np.where(smaller, "smaller half", "larger half")
    deciles = held_out.deciles
    fresh = np.where(held_out.count == 0, "new since training", "known")
    by_item = {
        "category": (names, ordered),
        "category size": (half, ["smaller half", "larger half"]),
        "popularity decile": (deciles.astype(np.str_), [str(d) for d in range(1, 11)]),
        "item": (fresh, ["known", "new since training"]),
    }
    result: dict[str, dict[str, tuple[np.ndarray, int]]] = {}
    for dimension, (labels, values) in by_item.items():
        of_row = labels[held_out.target]
        result[dimension] = {value: (of_row == value, int(held_out.count[labels == value].sum())) for value in values}
    activity = np.array([activity_bucket(rows) for rows in held_out.query_rows.tolist()])
    _, first = np.unique(held_out.query_id, return_index=True)
    result["train rows of the query"] = {
        value: (activity == value, int(held_out.query_rows[first][activity[first] == value].sum()))
        for value in (activity_bucket(rows) for rows in (0, 1, 3, 6, 21))
    }
    return {
        dimension: {value: part for value, part in parts.items() if part[0].any()}
        for dimension, parts in result.items()
    }


def dataset_results(grid: Grid, held_out: HeldOut, ranks: dict[str, list[np.ndarray]]) -> dict[str, Any]:
    """All figures of one data set.

    Args:
      grid: names reference and baseline.
      held_out: the rows, B of them.
      ranks: by row of the table, for each seed int64 [B]; rows without any are not there.

    Returns:
      {"held_out_rows", "queries", "items", "train_rows", "table": {row: {"seeds", "metrics", "reference_gain"}},
      "slices": {dimension: {value: {"rows", "train_rows", "metrics": {row: {metric: mean}}, "baseline_gain"}}}}.
      reference_gain and baseline_gain are None where one of the two rows is not there.
    """
    part = {row: np.mean([gains(rank) for rank in of_seeds], axis=0) for row, of_seeds in ranks.items()}
    others = [row for row in part if row != grid.reference] if grid.reference in part else []
    table: dict[str, Any] = {
        row: {"seeds": len(of_seeds), "metrics": mean_and_interval(of_seeds), "reference_gain": None}
        for row, of_seeds in ranks.items()
    }
    if others:
        stacked = np.stack([part[row] for row in others])
        for row, gain in zip(others, relative_gains(part[grid.reference], stacked, held_out.query_id), strict=True):
            table[row]["reference_gain"] = _comparison(gain)
    by_slice: dict[str, Any] = {}
    for dimension, parts in slices(held_out).items():
        for value, (mask, size) in parts.items():
            gain = None
            if {grid.reference, grid.baseline} <= part.keys():
                mine, theirs = part[grid.reference][mask], part[grid.baseline][np.newaxis, mask]
                gain = _comparison(relative_gains(mine, theirs, held_out.query_id[mask])[0])
            by_slice.setdefault(dimension, {})[value] = {
                "rows": int(mask.sum()),
                "train_rows": size,
                "metrics": {
                    row: dict(zip(METRICS, values[mask].mean(axis=0).tolist(), strict=True))
                    for row, values in part.items()
                },
                "baseline_gain": gain,
            }
    return {
        "held_out_rows": len(held_out.target),
        "queries": len(np.unique(held_out.query_id)),
        "items": len(held_out.catalogue),
        "train_rows": int(held_out.count.sum()),
        "table": table,
        "slices": by_slice,
    }


def new_query_results(grid: Grid, held_out: HeldOut, cells: dict[str, list[Cell]]) -> dict[str, Any]:
    """How the models answer queries that came after training, by how many interactions those had.

    Args:
      grid: names reference and baseline.
      held_out: the rows.
      cells: finished ones by row of the table.

    Returns:
      {"rows", "items": {number of items: {"metrics": {row: {metric: mean}}, "baseline_gain"}}}; baseline_gain is None
      where one of the two rows is not there. {} without cells.
    """
    files = {row: [np.load(cell.folder / LIGHT) for cell in of_row] for row, of_row in cells.items() if of_row}
    if not files:
        return {}
    rows = next(iter(files.values()))[0]["rows"]
    result: dict[str, Any] = {"rows": len(rows), "items": {}}
    for place, items in enumerate(NEW_QUERY_ITEMS):
        part = {row: np.mean([gains(file["rank"][place]) for file in of_row], axis=0) for row, of_row in files.items()}
        gain = None
        if {grid.reference, grid.baseline} <= part.keys():
            theirs = part[grid.baseline][np.newaxis]
            gain = _comparison(relative_gains(part[grid.reference], theirs, held_out.query_id[rows])[0])
        result["items"][str(items)] = {
            "metrics": {row: dict(zip(METRICS, v.mean(axis=0).tolist(), strict=True)) for row, v in part.items()},
            "baseline_gain": gain,
        }
    return result


def _curves(cells: Sequence[Cell]) -> dict[str, list[float]]:
    """Each recorded value by epoch, mean over seeds; empty for a model without epochs."""
    curves = [json.loads((cell.folder / "cell.json").read_text())["curve"] for cell in cells]
    return {name: np.mean([curve[name] for curve in curves], axis=0).tolist() for name in curves[0]}


def _ranks(folders: Sequence[Cell], held_out: HeldOut) -> list[np.ndarray]:
    queries, items = held_out.query_id.tolist(), held_out.item_id.tolist()
    return [read_ranks(cell.folder / "ranks.npz", queries, items) for cell in folders]


def _all_ranks(plan: Plan, preparation: Preparation, held_out: HeldOut) -> dict[str, list[np.ndarray]]:
    queries, items = held_out.query_id.tolist(), held_out.item_id.tolist()
    ranks = {POPULAR: [read_ranks(preparation.folder / "popular.npz", queries, items)]}
    for file in sorted(preparation.peers.glob("*.npz")):
        ranks[f"{PEER}{file.stem}"] = [read_ranks(file, queries, items)]
    for row in plan.grid.rows:
        done = [cell for cell in plan.of(preparation.dataset, row.name) if cell.done]
        if done:
            ranks[row.name] = _ranks(done, held_out)
    return ranks


def collect(plan: Plan) -> dict[str, Any]:
    """All figures of what is finished.

    Returns:
      {"grid": as JSON, "evaluation", "seeds": wanted, "datasets": {name: see dataset_results, and "new_queries": see
      new_query_results, "curves": {row: {value: by epoch}}}, "sweeps": {name: [{"value", "seeds", "metrics"}]}}. Data
      sets that were not prepared are left out.
    """
    datasets, held_outs = {}, {}
    for dataset, preparation in plan.preparations.items():
        if not (preparation.folder / "artifacts.json").exists():
            continue
        held_outs[dataset] = HeldOut.load(preparation.folder)
        ranks = _all_ranks(plan, preparation, held_outs[dataset])
        done = {row.name: [cell for cell in plan.of(dataset, row.name) if cell.done] for row in plan.grid.rows}
        datasets[dataset] = {
            **dataset_results(plan.grid, held_outs[dataset], ranks),
            "new_queries": new_query_results(plan.grid, held_outs[dataset], done),
            "curves": {row: _curves(cells) for row, cells in done.items() if cells},
        }
    sweeps: dict[str, list[dict[str, Any]]] = {}
    for sweep in plan.grid.sweeps:
        if sweep.dataset not in held_outs:
            continue
        points = [(value, cell) for name, value, cell in plan.points if name == sweep.name and cell.done]
        for value in sorted({value for value, _ in points}):
            cells = [cell for of, cell in points if of == value]
            metrics = mean_and_interval(_ranks(cells, held_outs[sweep.dataset]))
            sweeps.setdefault(sweep.name, []).append({"value": value, "seeds": len(cells), "metrics": metrics})
    return {
        "grid": plan.grid.model_dump(mode="json"),
        "evaluation": plan.evaluation,
        "seeds": plan.seeds,
        "datasets": datasets,
        "sweeps": sweeps,
    }
