"""The grid: what is accepted, how overrides are put in, and the one line that each fault gets."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config import ConfigError
from pipeline.experiments.config import expand, load_grid, merge, resolve

ROOT = Path(__file__).resolve().parents[4]
TREE: dict[str, Any] = {
    "datasets": {"movielens": "configs/movielens.yaml"},
    "split": "last",
    "seeds": 2,
    "reference": "DAT",
    "baseline": "two-tower",
    "rows": [{"name": "DAT"}, {"name": "two-tower", "overrides": {"model.kind": "two_tower"}}],
    "sweeps": [
        {
            "name": "size",
            "label": "size",
            "dataset": "movielens",
            "row": "DAT",
            "points": [{"value": 8, "overrides": {"model.augmented_dim": 8, "model.output_dim": 8}}],
        }
    ],
}


@pytest.mark.parametrize("file", sorted((ROOT / "configs" / "experiments").glob("*.yaml")), ids=lambda f: f.name)
def test_shipped_grids_are_valid_on_every_data_set_they_name(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    grid = load_grid(file)
    for path in grid.datasets.values():
        for row in grid.rows:
            assert resolve(path, row.overrides, 3, row.name).train.seed == 3
    for sweep in grid.sweeps:
        start = next(row.overrides for row in grid.rows if row.name == sweep.row)
        for point in sweep.points:
            resolve(grid.datasets[sweep.dataset], merge(start, point.overrides), 1, sweep.name)


def test_dotted_and_nested_keys_are_the_same() -> None:
    nested = {"model": {"kind": "dat", "mimic": {"query_weight": 0.0, "item_weight": 2.0}}}
    assert expand(nested) == nested
    dotted = {"model.kind": "dat", "model.mimic.query_weight": 0.0, "model": {"mimic.item_weight": 2.0}}
    assert expand(dotted) == nested


def test_mappings_are_merged_and_lists_replaced() -> None:
    tree = {"model": {"kind": "dat", "hidden_units": [256, 128]}, "name": "x"}
    merged = merge(tree, {"model": {"hidden_units": [64]}, "train": {"epochs": 1}})
    assert merged == {"model": {"kind": "dat", "hidden_units": [64]}, "name": "x", "train": {"epochs": 1}}
    assert tree["model"]["hidden_units"] == [256, 128]


def test_overrides_and_seed_reach_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    config = resolve("configs/movielens.yaml", {"model": {"mimic": {"query_weight": 0.25}}}, 4, "g: row 'r'")
    assert (config.model.mimic.query_weight, config.model.mimic.normalise, config.train.seed) == (0.25, True, 4)


def _with(place: tuple[Any, ...], value: object) -> dict[str, Any]:
    tree = copy.deepcopy(TREE)
    node: Any = tree
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    return tree


@pytest.mark.parametrize(
    ("place", "value", "line"),
    [
        (("sedes",), 3, "sedes: unknown key"),
        (("split",), "random", "split: input should be 'last' or 'time'"),
        (("seeds",), 0, "seeds: input should be greater than 0 (given: 0)"),
        (("reference",), "DOT", "reference: no row is called 'DOT'; there is: DAT, two-tower"),
        (("baseline",), "x", "baseline: no row is called 'x'"),
        (("rows", 1, "name"), "DAT", "rows: the name 'DAT' stands twice"),
        (("rows", 1, "name"), "most popular", "rows[1].name: 'most popular' is the name of a row that each table has"),
        (("rows", 1, "name"), "peer: als", "rows[1].name: 'peer: als' is the name of a row"),
        (
            ("sweeps", 0, "points"),
            [{"value": 8, "overrides": {}}, {"value": 8.0, "overrides": {"model.dropout": 0.1}}],
            "sweeps[0].points: the value 8 stands twice",
        ),
        (("rows", 0, "overrides"), {"data.deduplicate": True}, "rows[0].overrides: data cannot be overridden, only"),
        (("rows", 0, "overrides"), {"train.seed": 1}, "rows[0].overrides: train.seed cannot be overridden"),
        (("sweeps", 0, "row"), "x", "sweeps[0].row: no row is called 'x'"),
        (("sweeps", 0, "dataset"), "x", "sweeps[0].dataset: no data set 'x'"),
        (("rows",), [], "rows: list should have at least 1 item"),
    ],
)
def test_a_fault_is_named_with_file_and_key(place: tuple[Any, ...], value: object, line: str, tmp_path: Path) -> None:
    file = tmp_path / "g.yaml"
    file.write_text(yaml.safe_dump(_with(place, value)))
    with pytest.raises(ConfigError, match=re.escape(line)) as e:
        load_grid(file)
    assert str(e.value).startswith(f"{file}: ")
    assert "\n" not in str(e.value)


def test_an_override_that_does_not_fit_is_named_with_grid_row_file_and_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError) as e:
        resolve("configs/movielens.yaml", {"model": {"kindd": "x"}}, 1, "g.yaml: row 'DAT'")
    assert str(e.value) == "g.yaml: row 'DAT', on configs/movielens.yaml: model.kindd: unknown key"
