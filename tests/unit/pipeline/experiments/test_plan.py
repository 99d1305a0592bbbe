from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.experiments import plan as plans
from pipeline.experiments.config import Grid, Row
from pipeline.experiments.plan import Plan, make_plan
from pipeline.run import RunError
from tests.unit.pipeline.experiments.toy import write_toy


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Grid:
    monkeypatch.chdir(tmp_path)
    return Grid.model_validate(write_toy(tmp_path))


def _plan(grid: Grid, **options: Any) -> Plan:
    return make_plan(grid, Path("g.yaml"), **{"evaluation": "test", **options})


def _keys(plan: Plan) -> list[str]:
    return [cell.key for cell in plan.cells]


def test_cells_come_seed_by_seed(grid: Grid) -> None:
    plan = _plan(grid, seeds=2)
    names = [(cell.row, cell.seed) for cell in plan.cells]
    assert names == [("DAT", 1), ("two-tower", 1), ("DAT", 2), ("two-tower", 2)]
    assert [(name, value, cell.seed) for name, value, cell in plan.points] == [("size", 0, 1), ("size", 0, 2)]
    # The sweep's first point is the two-tower: it is not trained twice.
    assert [cell.key for _, _, cell in plan.points] == [cell.key for cell in plan.of("toy", "two-tower")]
    assert plan.cells[0].preparation.config.name == "toy"
    assert plan.cells[0].preparation.config.data.deduplicate
    assert plan.cells[0].config["train"]["seed"] == 1


def test_a_sweeps_point_starts_from_its_row(grid: Grid) -> None:
    point = grid.sweeps[0].points[0].model_copy(update={"overrides": {"model": {"temperature": 0.3}}})
    sweep = grid.sweeps[0].model_copy(update={"row": "two-tower", "points": (point,)})
    ((_, _, cell),) = _plan(grid.model_copy(update={"sweeps": (sweep,)})).points
    assert (cell.config["model"]["kind"], cell.config["model"]["temperature"]) == ("two_tower", 0.3)


def test_equal_plans_have_equal_keys(grid: Grid) -> None:
    assert _keys(_plan(grid)) == _keys(_plan(grid))


def test_a_cells_key_changes_with_all_that_decides_its_result(grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    dat, two_tower = _keys(_plan(grid))
    assert dat != two_tower

    def changed(**overrides: Any) -> tuple[str, str]:
        row = Row(name="DAT", overrides={**grid.rows[0].overrides, **overrides})
        first, second = _keys(_plan(grid.model_copy(update={"rows": (row, grid.rows[1])})))
        return first, second

    for override in ({"model.temperature": 0.3}, {"train.epochs": 7}, {"negatives.per_positive": 3}):
        first, second = changed(**override)
        assert first != dat
        assert second == two_tower
    assert set(_keys(_plan(grid, evaluation="eval"))).isdisjoint({dat, two_tower})
    real = plans.source_fingerprint
    for package in (plans.CELL_CODE, plans.PREPARATION_CODE, ("components/ingestion",)):
        with monkeypatch.context() as patch:
            patch.setattr(plans, "source_fingerprint", lambda *p, of=package: "changed" if p == of else real(*p))
            assert set(_keys(_plan(grid))).isdisjoint({dat, two_tower})
    Path("interactions.csv").write_text(Path("interactions.csv").read_text() + "u0,i0,9\n")
    assert set(_keys(_plan(grid))).isdisjoint({dat, two_tower})


@pytest.mark.parametrize(
    ("package", "prepared"),
    [
        ("models", False),
        ("components/embedding", False),
        ("components/retrieval_evaluator", False),  # its ranks
        ("pipeline/experiments/cell", False),
        ("components/ingestion", True),
        ("components/schema", True),
        ("components/anomaly_gate", True),
        ("components/negative_sampler", True),
        ("models/preprocessing.py", True),
        ("pipeline/experiments/preparation", True),
    ],
)
def test_code_that_decides_a_result_is_part_of_its_key(
    grid: Grid, package: str, prepared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, real = _plan(grid).cells, plans.source_fingerprint
    monkeypatch.setattr(plans, "source_fingerprint", lambda *p: "changed" if package in p else real(*p))
    after = _plan(grid).cells
    assert {cell.key for cell in before}.isdisjoint(cell.key for cell in after)
    assert (before[0].preparation.key != after[0].preparation.key) is prepared


FEATURES = [{"name": "user", "kind": "id", "side": "query"}, {"name": "item", "kind": "id", "side": "item"}]


@pytest.mark.parametrize("override", [{"negatives": {"per_positive": 3}}, {"features": FEATURES}])
def test_rows_with_other_negatives_or_features_are_prepared_apart_and_share_the_exchange(
    grid: Grid, override: dict[str, Any]
) -> None:
    row = Row(name="two-tower", overrides={"model": {"kind": "two_tower"}, **override})
    dat, two_tower = _plan(grid.model_copy(update={"rows": (grid.rows[0], row)})).cells
    assert dat.preparation.key != two_tower.preparation.key
    assert dat.preparation.exchange == two_tower.preparation.exchange
    evaluated = _plan(grid, evaluation="eval").cells[0].preparation
    assert evaluated.exchange != dat.preparation.exchange
    assert (evaluated.held_out, dat.preparation.held_out) == ("eval", "test")


def test_rows_with_other_features_of_interactions_share_no_exchange(grid: Grid) -> None:
    # They break ties in time another way, so that peers would be given other train rows.
    device = {"name": "device", "kind": "categorical", "side": "interaction"}
    row = Row(name="two-tower", overrides={"model": {"kind": "two_tower"}, "features": [*FEATURES, device]})
    header, *lines = Path("interactions.csv").read_text().splitlines()
    Path("interactions.csv").write_text("\n".join([f"{header},device", *(f"{line},tv" for line in lines)]) + "\n")
    dat, two_tower = _plan(grid.model_copy(update={"rows": (grid.rows[0], row)})).cells
    assert dat.preparation.exchange != two_tower.preparation.exchange


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"user,item,at\nu0,i0,9\nu0,i1,9,more\n", "Expected 3 fields in line 3, saw 4"),
        (b"", "No columns"),
        (b"user,item,at\nu0,\xff,9\n", "can't decode byte 0xff"),
    ],
)
def test_a_file_that_is_no_csv_is_said(grid: Grid, content: bytes, message: str) -> None:
    Path("interactions.csv").write_bytes(content)
    with pytest.raises(RunError, match=f"^data set toy: a file cannot be read as CSV in UTF-8: .*{message}"):
        _plan(grid)


def test_only_the_data_sets_asked_for_are_read(grid: Grid) -> None:
    other = yaml.safe_load(Path("toy.yaml").read_text())
    other["data"]["interactions"]["files"] = "not_there.csv"
    Path("other.yaml").write_text(yaml.safe_dump(other))
    both = grid.model_copy(update={"datasets": {**grid.datasets, "other": "other.yaml"}})
    assert {cell.dataset for cell in _plan(both, datasets=["toy"]).cells} == {"toy"}
