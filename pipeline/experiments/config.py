"""The grid: which data sets, which rows of the table, how many seeds. Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from models.config import Frozen, PositiveInt
from pipeline.config import PipelineConfig, read_tree, validate

# What a row may change. Data and split are the same for all rows, or they could not stand in one table.
OVERRIDABLE = ("features", "negatives", "model", "train")

# Rows of the table that are there beside the grid's own; a peer's name follows.
POPULAR, PEER = "most popular", "peer: "

Overrides = dict[str, Any]


def expand(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested mappings: {"model.kind": "dat"} becomes {"model": {"kind": "dat"}}."""
    tree: dict[str, Any] = {}
    for dotted, value in overrides.items():
        *outer, last = dotted.split(".")
        nested: dict[str, Any] = {last: expand(value) if isinstance(value, Mapping) else value}
        for key in reversed(outer):
            nested = {key: nested}
        tree = merge(tree, nested)
    return tree


def merge(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a tree with changes put in: mappings are merged, all else, lists too, is replaced."""
    merged = dict(tree)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _overridable(overrides: Overrides) -> Overrides:
    tree = expand(overrides)
    for key in tree:
        if key not in OVERRIDABLE:
            raise ValueError(f"{key} cannot be overridden, only {', '.join(OVERRIDABLE)}")
    if isinstance(tree.get("train"), Mapping) and "seed" in tree["train"]:
        raise ValueError("train.seed cannot be overridden, for it runs from 1 to seeds")
    return tree


class Row(Frozen):
    """A row of the table: the data set's own config with changes."""

    name: Annotated[str, Field(min_length=1)]
    overrides: Overrides = {}

    _checked = field_validator("overrides")(_overridable)


class Point(Frozen):
    """A point of a sweep: the start row's overrides with further ones."""

    value: float
    overrides: Overrides

    _checked = field_validator("overrides")(_overridable)


class Sweep(Frozen):
    """One setting over several values on one data set, for a plot."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]
    label: Annotated[str, Field(min_length=1)]  # of the plot's x axis
    dataset: str
    row: str  # where it starts from
    points: Annotated[tuple[Point, ...], Field(strict=False, min_length=1)]


class Grid(Frozen):
    """All cells: each data set x each row x seeds 1..seeds, and the sweeps' points x seeds."""

    datasets: Annotated[dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")], str], Field(min_length=1)]
    # last: the last interaction of each query is held out. time: the last 10 % of time, and before it another 10 % for
    # choosing settings.
    split: Literal["last", "time"]
    seeds: PositiveInt
    rows: Annotated[tuple[Row, ...], Field(strict=False, min_length=1)]
    reference: str  # the row that all others are compared with
    baseline: str  # the row over which the reference's gain is shown by category, popularity and activity
    sweeps: tuple[Sweep, ...] = Field(default=(), strict=False)
    peers: tuple[str, ...] = Field(default=(), strict=False)  # names that `python -m benchmarks.peers` knows

    @model_validator(mode="after")
    def _names_exist(self) -> Grid:
        names = [row.name for row in self.rows]
        for kind, given in (("rows", names), ("sweeps", [sweep.name for sweep in self.sweeps])):
            twice = sorted({name for name in given if given.count(name) > 1})
            if twice:
                raise ValueError(f"{kind}: the name {twice[0]!r} stands twice")
        for i, name in enumerate(names):
            if name == POPULAR or name.startswith(PEER):
                raise ValueError(f"rows[{i}].name: {name!r} is the name of a row that each table has, or of a peer's")
        wanted = [("reference", self.reference), ("baseline", self.baseline)]
        wanted += [(f"sweeps[{i}].row", sweep.row) for i, sweep in enumerate(self.sweeps)]
        for key, name in wanted:
            if name not in names:
                raise ValueError(f"{key}: no row is called {name!r}; there is: {', '.join(names)}")
        for i, sweep in enumerate(self.sweeps):
            if sweep.dataset not in self.datasets:
                raise ValueError(f"sweeps[{i}].dataset: no data set {sweep.dataset!r}")
            values = [point.value for point in sweep.points]
            again = [value for value in values if values.count(value) > 1]
            if again:
                raise ValueError(f"sweeps[{i}].points: the value {again[0]:g} stands twice")
        return self


def load_grid(path: Path) -> Grid:
    """Reads and validates a grid.

    Raises:
      ConfigError: as `load_config`; one line for each fault.
    """
    return validate(Grid, read_tree(path), str(path))


def resolve(path: str, overrides: Overrides, seed: int, source: str) -> PipelineConfig:
    """A data set's configuration with a row's overrides and a seed.

    Args:
      path: the data set's YAML file.
      overrides: nested, as `Row` holds them.
      seed: becomes train.seed.
      source: names grid and row in errors.

    Raises:
      ConfigError: the file cannot be read, or the result is not a valid configuration; one line for each fault.
    """
    tree = merge(read_tree(Path(path)), overrides)
    return validate(PipelineConfig, merge(tree, {"train": {"seed": seed}}), f"{source}, on {path}")
