"""From the grid to the cells: what each one is made of, and the folder it is kept in. Imports no TensorFlow."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from components.fingerprint import TRANSFORM_CODE, source_fingerprint
from models.config import Side
from pipeline.config import PipelineConfig
from pipeline.experiments.config import Grid, Overrides, merge, resolve
from pipeline.experiments.core import Core, experiment_split, make_core
from pipeline.run import RunError

ROOT = Path("runs") / "experiments"

# What the prepared rows depend on, and what a cell's result depends on beside them.
PREPARATION_CODE = (
    "components/ingestion",
    "components/schema",
    "components/anomaly_gate",
    "components/negative_sampler",
    *TRANSFORM_CODE,
    "pipeline/experiments/preparation",
)
PEERS_CODE = "benchmarks/peers"
CELL_CODE = ("models", "components/embedding", "components/retrieval_evaluator", "pipeline/experiments/cell")


def digest(*parts: Any) -> str:
    """16 hex digits of what can be written as JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Preparation:
    """A data set's 5-core, ingested, transformed and with negatives.

    Attributes:
      dataset: its name in the grid.
      config: with the core's files and the experiment's split; name and root give the pipeline's home.
      held_out: the split that is ranked, "eval" or "test".
      key: of all that decides the outcome.
      exchange: folder of the CSV files for peers. Features and negatives don't change it.
    """

    dataset: str
    config: PipelineConfig
    held_out: str
    key: str
    exchange: Path

    @property
    def folder(self) -> Path:
        return ROOT / self.dataset / f"prepared-{self.key}"

    @property
    def peers(self) -> Path:
        """Folder of the peers' ranks, by the code that makes them."""
        return self.exchange / f"peers-{source_fingerprint(PEERS_CODE)[:8]}"


@dataclass(frozen=True)
class Cell:
    """One training run.

    Two rows with the same resolved config are one cell.

    Attributes:
      preparation: what it is trained on.
      row: the row's name; of a sweep's point "<sweep> <value>".
      config: features, negatives, model and train, resolved, as plain JSON.
      seed: of the training run.
      code: fingerprint of the code that trains and ranks.
    """

    preparation: Preparation
    row: str
    config: dict[str, Any]
    seed: int
    code: str

    @property
    def dataset(self) -> str:
        return self.preparation.dataset

    @cached_property
    def key(self) -> str:
        return digest(self.config, self.seed, self.preparation.key, self.code)

    @property
    def folder(self) -> Path:
        return ROOT / self.dataset / "cells" / f"{self.config['model']['kind']}-seed{self.seed}-{self.key}"

    @property
    def log(self) -> Path:
        slug = re.sub(r"[^a-z0-9]+", "-", self.row.lower()).strip("-")
        return ROOT / self.dataset / "logs" / f"{slug}-seed{self.seed}-{self.key}.log"

    @property
    def done(self) -> bool:
        return (self.folder / "cell.json").exists()


@dataclass(frozen=True)
class Plan:
    """All cells of a grid, in the order in which they run: the whole table once for each seed."""

    grid: Grid
    evaluation: str  # eval or test
    seeds: int
    preparations: dict[str, Preparation]  # by data set, of the reference row: for exchange and report
    cells: list[Cell]
    points: list[tuple[str, float, Cell]]  # (sweep, value, cell)

    def of(self, dataset: str, row: str) -> list[Cell]:
        """The cells of a row of the table, by seed."""
        return [cell for cell in self.cells if (cell.dataset, cell.row) == (dataset, row)]


def _preparation(config: PipelineConfig, dataset: str, core: Core, split: str, evaluation: str) -> Preparation:
    rule, held_out = experiment_split(core, split, evaluation)
    old = config.data
    data = old.model_copy(
        update={
            "interactions": old.interactions.model_copy(update={"files": str(core.folder / "interactions.csv")}),
            "items": old.items.model_copy(update={"files": str(core.folder / "items.csv")}),
            "queries": old.queries and old.queries.model_copy(update={"files": str(core.folder / "queries.csv")}),
            "split": rule,
            "deduplicate": True,
        }
    )
    resolved = config.model_copy(update={"name": dataset, "root": str(ROOT), "data": data})
    # An interaction's own features are part of what breaks ties in time.
    context = [f.model_dump_json() for f in config.features if f.side is Side.INTERACTION]
    rows = digest(core.fingerprint, data.model_dump_json(), context, source_fingerprint("components/ingestion"))
    parts = json.loads(resolved.model_dump_json(include={"features", "negatives"}))
    return Preparation(
        dataset=dataset,
        config=resolved,
        held_out=held_out,
        key=digest(rows, parts, source_fingerprint(*PREPARATION_CODE)),
        exchange=ROOT / dataset / "exchange" / f"{split}-{evaluation}-{rows[:8]}",
    )


def _cell(preparation: Preparation, row: str, config: PipelineConfig, code: str) -> Cell:
    parts = json.loads(config.model_dump_json(include={"features", "negatives", "model", "train"}))
    return Cell(preparation, row, parts, config.train.seed, code)


def _core(dataset: str, config: PipelineConfig) -> Core:
    try:
        return make_core(config.data, ROOT / dataset)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as e:
        raise RunError(f"data set {dataset}: a file cannot be read as CSV in UTF-8: {str(e).strip()}") from e


def make_plan(
    grid: Grid, source: Path, *, evaluation: str, seeds: int | None = None, datasets: Sequence[str] | None = None
) -> Plan:
    """Resolves all configurations and writes the data sets' 5-cores where they are missing.

    Args:
      grid: the validated grid.
      source: its file, for errors.
      evaluation: "eval" or "test".
      seeds: instead of the grid's.
      datasets: only these; default: all of the grid.

    Raises:
      ConfigError: a row's overrides don't fit a data set's configuration.
      RunError: a data set's files cannot be used.
    """
    code = source_fingerprint(*CELL_CODE)
    last = seeds or grid.seeds
    overrides = {row.name: row.overrides for row in grid.rows}
    chosen = {name: path for name, path in grid.datasets.items() if datasets is None or name in datasets}

    def config(dataset: str, row: str, changes: Overrides, seed: int) -> PipelineConfig:
        return resolve(grid.datasets[dataset], changes, seed, f"{source}: row {row!r}")

    # All configurations first: a fault in the last row should not wait for the first data set.
    wanted = [
        (d, row, config(d, row, overrides[row], s)) for s in range(1, last + 1) for d in chosen for row in overrides
    ]
    swept = []
    for sweep in grid.sweeps:
        for seed in range(1, last + 1) if sweep.dataset in chosen else ():
            for point in sweep.points:
                name = f"{sweep.name} {point.value:g}"
                changes = merge(overrides[sweep.row], point.overrides)
                swept.append((sweep.name, point.value, name, config(sweep.dataset, name, changes, seed)))

    cores = {d: _core(d, config(d, grid.reference, {}, 1)) for d in chosen}

    def cell(dataset: str, row: str, resolved: PipelineConfig) -> Cell:
        prepared = _preparation(resolved, dataset, cores[dataset], grid.split, evaluation)
        return _cell(prepared, row, resolved, code)

    cells = [cell(*parts) for parts in wanted]
    of_sweep = {sweep.name: sweep.dataset for sweep in grid.sweeps}
    points = [(sweep, value, cell(of_sweep[sweep], name, resolved)) for sweep, value, name, resolved in swept]
    reference = {c.dataset: c.preparation for c in cells if c.row == grid.reference}
    return Plan(grid, evaluation, last, reference, cells, points)
