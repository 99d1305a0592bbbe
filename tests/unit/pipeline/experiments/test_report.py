"""Results and report from cells and ranks made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.experiments.config import Grid
from pipeline.experiments.exchange import ExchangeError, write_ranks
from pipeline.experiments.plan import Cell, Plan, make_plan
from pipeline.experiments.plots import write_plots
from pipeline.experiments.preparation.held_out import HeldOut
from pipeline.experiments.report import markdown, write_report
from pipeline.experiments.results import collect, dataset_results, new_query_results, slices
from tests.unit.pipeline.experiments.toy import write_toy

# p has 3 train rows, q 2, r 1, s and t none. Query a has three train rows, b two, d one, c none.
TRAIN = {"a": ["p", "q", "r"], "b": ["p", "q"], "d": ["p"]}
CATEGORY = {"p": "x", "q": "y", "r": "z"}
HELD_OUT = HeldOut.build(TRAIN, [("a", "s"), ("b", "r"), ("c", "p"), ("c", "q")], list("pqrst"), CATEGORY)


def test_slices() -> None:
    """Rows in order: a/s, b/r, c/p, c/q."""
    parts = {
        dimension: {value: (mask.tolist(), size) for value, (mask, size) in values.items()}
        for dimension, values in slices(HELD_OUT).items()
    }
    assert parts["category"] == {
        "x": ([False, False, True, False], 3),
        "y": ([False, False, False, True], 2),
        "z": ([False, True, False, False], 1),
        "(none)": ([True, False, False, False], 0),
    }
    assert parts["category size"] == {
        "smaller half": ([True, True, False, False], 1),
        "larger half": ([False, False, True, True], 5),
    }
    assert parts["popularity decile"] == {
        "1": ([False, False, True, False], 3),
        "3": ([False, False, False, True], 2),
        "5": ([False, True, False, False], 1),
        "7": ([True, False, False, False], 0),
    }
    assert parts["item"] == {
        "known": ([False, True, True, True], 6),
        "new since training": ([True, False, False, False], 0),
    }
    # Two of the rows are c's, which has no train row; d has no held-out row, so its train row counts nowhere.
    assert parts["train rows of the query"] == {
        "0": ([False, False, True, True], 0),
        "1-2": ([False, True, False, False], 2),
        "3-5": ([True, False, False, False], 3),
    }


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.chdir(tmp_path)
    made = make_plan(Grid.model_validate(write_toy(tmp_path)), Path("g.yaml"), evaluation="test", seeds=2)
    preparation = made.preparations["toy"]
    HELD_OUT.save(preparation.folder)
    (preparation.folder / "artifacts.json").write_text("{}")
    _ranks(preparation.folder / "popular.npz", [100, 1, 200, 200])
    return made


def _ranks(path: Path, rank: list[int]) -> None:
    write_ranks(path, HELD_OUT.query_id.tolist(), HELD_OUT.item_id.tolist(), np.array(rank))


def _finish(cell: Cell, rank: list[int], curve: dict[str, list[float]]) -> None:
    _ranks(cell.folder / "ranks.npz", rank)
    # Of rows 0 and 2, as new queries with 0, 1, 2 and 5 items.
    of_new = np.array([[200, 200], [200, rank[2]], [rank[0], rank[2]], [rank[0], rank[2]]])
    np.savez(cell.folder / "light.npz", rows=np.array([0, 2]), rank=of_new)
    (cell.folder / "cell.json").write_text(json.dumps({"curve": curve, "seconds": {"train": 1.0, "rank": 0.5}}))


def test_from_cells_to_the_report(plan: Plan, tmp_path: Path) -> None:
    first, second = plan.of("toy", "DAT")
    _finish(first, [1, 1, 2, 200], {"retrieval_loss": [3.0, 1.0], "query_mimic_norm": [1.0, 2.0]})
    _finish(second, [1, 200, 2, 200], {"retrieval_loss": [2.0, 2.0], "query_mimic_norm": [1.0, 4.0]})
    _finish(plan.of("toy", "two-tower")[0], [1, 200, 200, 200], {"retrieval_loss": [2.0, 1.5]})
    _ranks(plan.preparations["toy"].peers / "item_knn.npz", [200, 200, 200, 200])

    results = collect(plan)
    toy = results["datasets"]["toy"]
    assert (toy["held_out_rows"], toy["queries"], toy["items"], toy["train_rows"]) == (4, 3, 5, 6)
    # HR@50 of the two seeds 3/4 and 2/4; t(0.975, 1) = 12.706, s = 0.25 / sqrt(2): half = 12.706 * 0.25 / 2.
    hits = toy["table"]["DAT"]["metrics"]["HR@50"]
    assert hits["values"] == [0.75, 0.5]
    assert (hits["mean"], hits["half"]) == (0.625, pytest.approx(1.58828, abs=1e-5))
    assert toy["table"]["two-tower"]["metrics"]["HR@50"] == {"mean": 0.25, "half": None, "values": [0.25]}
    assert toy["table"]["most popular"]["metrics"]["HR@100"]["mean"] == 0.5
    # Of DAT 2.5 hits, averaged over seeds, of the two-tower 1.
    assert toy["table"]["two-tower"]["reference_gain"]["HR@50"]["gain"] == pytest.approx(1.5)
    # A draw without query a, which has the two-tower's only hit, has no ratio: (2/3)^3 = 30 % of them.
    assert toy["table"]["two-tower"]["reference_gain"]["HR@50"]["high"] is None
    assert toy["table"]["peer: item_knn"]["reference_gain"]["HR@50"]["gain"] is None  # it has no hit
    assert toy["table"]["DAT"]["reference_gain"] is None
    assert toy["slices"]["category"]["x"]["metrics"]["DAT"]["HR@100"] == 1.0
    # One row, found by both: as good, but nothing is known of others.
    assert toy["slices"]["category"]["(none)"]["baseline_gain"]["HR@100"] == {"gain": 0.0, "low": None, "high": None}
    assert toy["curves"]["DAT"] == {"retrieval_loss": [2.5, 1.5], "query_mimic_norm": [1.0, 3.0]}
    # HR@100 of rows 0 and 2: DAT's ranks 1 and 2, the two-tower's 1 and 200.
    new = toy["new_queries"]
    assert new["rows"] == 2
    assert [new["items"][n]["metrics"]["DAT"]["HR@100"] for n in ("0", "1", "2", "5")] == [0, 0.5, 1, 1]
    assert new["items"]["5"]["metrics"]["two-tower"]["HR@100"] == 0.5
    assert new["items"]["5"]["baseline_gain"]["HR@100"]["gain"] == pytest.approx(1.0)
    assert results["sweeps"]["size"][0]["value"] == 0
    assert results["sweeps"]["size"][0]["seeds"] == 1

    files = write_report(results, ["toy, DAT, seed 3: it broke\n  Log: x"], tmp_path / "report")
    assert {file.name for file in files} == {
        "table.md", "results.json", "sweep-size.png", "curves-toy.png", "mimic-toy.png",
    }  # fmt: skip
    assert all(file.stat().st_size > 0 for file in files)
    assert json.loads((tmp_path / "report" / "results.json").read_text()) == json.loads(json.dumps(results))
    lines = (tmp_path / "report" / "table.md").read_text().splitlines()
    assert "4 held-out rows of 3 queries, 5 items, 6 train rows." in lines
    (dat,) = (line for line in lines if line.startswith("| DAT | 2 of 2 |"))
    assert "| 0.6250 ± 1.5883 |" in dat
    assert any(line.startswith("| two-tower | 1 of 2 | 0.2500 |") for line in lines)
    assert any(line.startswith("| two-tower | +150.0 % [+0.0, -] |") for line in lines)
    assert any(line.startswith("| peer: item_knn | - |") for line in lines)
    assert "| x | 3 | 1 | 0.000 | 0.000 | 1.000 | 0.000 | - % [-, -] |" in lines
    assert any(line.startswith("| 5 | 1.000 | 0.500 | +100.0 % [") for line in lines)
    assert lines[-1] == "- toy, DAT, seed 3: it broke"


def test_gains_by_category_are_drawn_whatever_the_categories_are_called(plan: Plan, tmp_path: Path) -> None:
    results = collect(plan)
    gain = {"HR@100": {"gain": 0.1, "low": 0.0, "high": 0.2}}
    results["datasets"]["toy"]["slices"]["category"] = {
        "Gifts under $5_$": {"train_rows": 3, "baseline_gain": gain},
        "one query": {"train_rows": 3, "baseline_gain": {"HR@100": {"gain": 0.1, "low": None, "high": None}}},
    }
    (plot,) = write_plots(results, tmp_path)
    assert plot.name == "categories-toy.png"
    assert plot.stat().st_size > 0


def test_gains_draw_queries_and_not_rows(plan: Plan) -> None:
    # One query with two rows: DAT's ranks 1 and 1, the two-tower's 1 and 2. MRR x10 is 10 + 10 against 10 + 5.
    one = HeldOut.build({}, [("a", "p"), ("a", "q")], list("pq"), {"p": "x", "q": "x"})
    made = dataset_results(plan.grid, one, {"DAT": [np.array([1, 1])], "two-tower": [np.array([1, 2])]})
    expected = {"gain": pytest.approx(1 / 3), "low": None, "high": None}
    assert made["table"]["two-tower"]["reference_gain"]["MRR x10"] == expected
    assert made["slices"]["category"]["x"]["baseline_gain"]["MRR x10"] == expected


def test_gains_on_new_queries_draw_the_queries_of_the_rows_that_were_ranked(plan: Plan) -> None:
    # Ranked are rows 1 and 2, both of query b: again 10 + 10 against 10 + 5.
    held_out = HeldOut.build({}, [("a", "p"), ("b", "p"), ("b", "q")], list("pq"), {})
    cells = {}
    for row, rank in (("DAT", [1, 1]), ("two-tower", [1, 2])):
        cells[row] = [cell] = plan.of("toy", row)[:1]
        cell.folder.mkdir(parents=True)
        np.savez(cell.folder / "light.npz", rows=np.array([1, 2]), rank=np.array([rank] * 4))
    made = new_query_results(plan.grid, held_out, cells)["items"]["0"]["baseline_gain"]
    assert made["MRR x10"] == {"gain": pytest.approx(1 / 3), "low": None, "high": None}


def test_a_sweeps_point_has_its_own_ranks(plan: Plan, tmp_path: Path) -> None:
    # Two temperatures in one sweep, in the other a size that is drawn at the first one's value.
    tree = write_toy(tmp_path)
    (sweep,) = tree["sweeps"]
    cold, warm = ({"value": value, "overrides": {"model.temperature": value}} for value in (0.3, 0.4))
    small = {"value": 0.3, "overrides": {"model.embedding_dim": 4}}
    tree["sweeps"] = [{**sweep, "name": "one", "points": [cold, warm]}, {**sweep, "name": "two", "points": [small]}]
    plan = make_plan(Grid.model_validate(tree), Path("g.yaml"), evaluation="test", seeds=1)
    for (_, _, cell), rank in zip(plan.points, (1, 2, 4), strict=True):
        _finish(cell, [rank] * 4, {})

    swept = {
        name: [(point["value"], point["seeds"], point["metrics"]["MRR x10"]["mean"]) for point in points]
        for name, points in collect(plan)["sweeps"].items()
    }
    assert swept == {"one": [(0.3, 1, 10.0), (0.4, 1, 5.0)], "two": [(0.3, 1, 2.5)]}


def test_before_anything_is_finished(plan: Plan, tmp_path: Path) -> None:
    results = collect(plan)
    assert set(results["datasets"]["toy"]["table"]) == {"most popular"}
    files = write_report(results, [], tmp_path / "report")
    assert [file.name for file in files] == ["table.md", "results.json"]


@pytest.mark.parametrize(
    ("split", "evaluation", "held_out"),
    [
        ("last", "test", "the last interaction of each query"),
        ("last", "eval", "the interaction before the last of each query"),
        ("time", "test", "the last tenth of time, every positive counted"),
        ("time", "eval", "the tenth of time before the last, every positive counted"),
    ],
)
def test_the_table_says_what_was_held_out(split: str, evaluation: str, held_out: str, plan: Plan) -> None:
    results = collect(plan)
    results["grid"]["split"], results["evaluation"] = split, evaluation
    assert markdown(results, []).startswith(f"Held out: {held_out} ({evaluation}). 5-core, ")


def test_a_sweep_that_is_finished_waits_for_its_data_set(plan: Plan) -> None:
    """The sweep starts from the two-tower, while the reference was given other negatives and is not prepared again."""
    dat, two_tower = plan.grid.rows
    changed = dat.model_copy(update={"overrides": {"negatives": {"per_positive": 3}}})
    sweep = plan.grid.sweeps[0].model_copy(update={"row": "two-tower"})
    grid = plan.grid.model_copy(update={"rows": (changed, two_tower), "sweeps": (sweep,)})
    plan = make_plan(grid, Path("g.yaml"), evaluation="test", seeds=1)
    _finish(plan.points[0][2], [1, 1, 1, 1], {})
    assert (collect(plan)["datasets"], collect(plan)["sweeps"]) == ({}, {})


def test_ranks_of_other_rows_are_refused(plan: Plan) -> None:
    write_ranks(plan.preparations["toy"].peers / "p.npz", ["a"], ["s"], np.array([1]))
    with pytest.raises(ExchangeError, match=r"p\.npz: no rank for query 'b', item 'r'"):
        collect(plan)
