from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from pipeline.experiments import runner
from pipeline.experiments.config import Grid, Row
from pipeline.experiments.plan import Cell, Plan, make_plan
from pipeline.experiments.preparation.held_out import HeldOut
from pipeline.run import RunError
from tests.unit.pipeline.experiments.toy import write_toy


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.chdir(tmp_path)
    grid = Grid.model_validate(write_toy(tmp_path) | {"peers": ["knn"]})
    return make_plan(grid, Path("g.yaml"), evaluation="test", seeds=2)


class Processes:
    """Stands in for the processes that prepare, train and rank; `broken` names modules or rows that fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started: list[str] = []
        self.broken: set[str] = set()
        self.threads: set[str] = set()
        monkeypatch.setattr(subprocess, "run", self._run)
        monkeypatch.setattr(subprocess, "Popen", self._popen)

    def _popen(self, command: list[str], **options: Any) -> AbstractContextManager[Any]:
        code = self._run(command, **options).returncode
        return nullcontext(SimpleNamespace(returncode=code, poll=lambda: code))

    def _run(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        module = command[2].rpartition(".")[2]
        name = module
        if module == "cell":
            job = json.loads(Path(command[3]).read_text())
            name = f"{job['row']} {job['seed']}"
            self.threads.add(options["env"]["TF_NUM_INTRAOP_THREADS"])
            (Path(job["folder"]) / "cell.json").write_text(json.dumps({"seconds": {"train": 60.0}}))
        elif module == "preparation":
            job = json.loads(Path(command[3]).read_text())
            (Path(job["folder"]) / "artifacts.json").write_text("{}")
        self.started.append(name)
        if name in self.broken:
            options["stdout"].write("ValueError: too small\nand more\n")
        return subprocess.CompletedProcess(command, int(name in self.broken))


def test_everything_runs_once(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    processes = Processes(monkeypatch)
    console = Console(record=True, width=200)
    assert runner.run_plan(plan, console) == []
    # The sweep's point is the two-tower's cell.
    assert processes.started == ["preparation", "peers", "DAT 1", "two-tower 1", "DAT 2", "two-tower 2"]
    assert all(cell.done for cell in plan.cells)
    text = console.export_text()
    assert "4 cells, 0 of them finished" in text
    assert "[  4/4] toy, two-tower, seed 2" in text

    processes.started.clear()
    peers = plan.preparations["toy"].peers
    peers.mkdir(parents=True)
    (peers / "knn.npz").touch()
    assert runner.run_plan(plan, console) == []
    assert processes.started == []
    # What other code ranked is not what this one would.
    peers.rename(peers.with_name("peers-00000000"))
    assert runner.run_plan(plan, console) == []
    assert processes.started == ["peers"]


def test_a_cell_that_fails_does_not_stop_the_others(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    processes = Processes(monkeypatch)
    processes.broken = {"DAT 1", "peers"}
    peer, cell = runner.run_plan(plan, Console(quiet=True))
    assert peer.startswith("toy, peer knn: ValueError: too small\n  Log: ")
    assert cell.startswith("toy, DAT, seed 1: ValueError: too small\n  Log: ")
    assert Path(cell.rpartition("Log: ")[2]).read_text().startswith("ValueError")
    assert [c.done for c in plan.cells] == [False, True, True, True]
    assert not list(plan.cells[0].folder.parent.glob(".tmp-*"))

    processes.broken = set()
    processes.started.clear()
    assert runner.run_plan(plan, Console(quiet=True), only_rows=["DAT"]) == []
    assert processes.started == ["DAT 1"]


def test_a_row_that_holds_out_others_is_refused_before_anything_trains(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where ties in time are broken by a feature of side interaction that one row leaves out."""
    row = Row(name="two-tower", overrides={"model": {"kind": "two_tower"}, "negatives": {"per_positive": 3}})
    grid = plan.grid.model_copy(update={"rows": (plan.grid.rows[0], row), "sweeps": ()})
    plan = make_plan(grid, Path("g.yaml"), evaluation="test", seeds=1)
    dat, two_tower = (cell.preparation.folder for cell in plan.cells)
    processes = Processes(monkeypatch)
    HeldOut.build({"a": ["r"]}, [("a", "p")], list("pqr"), {}).save(dat)
    HeldOut.build({"a": ["r"]}, [("a", "q")], list("pqr"), {}).save(two_tower)
    with pytest.raises(RunError, match="toy, two-tower: other rows are held out than for the grid's reference"):
        runner.run_plan(plan, Console(quiet=True))
    assert processes.started == ["preparation", "preparation"]
    HeldOut.load(dat).save(two_tower)
    assert runner.run_plan(plan, Console(quiet=True)) == []
    assert processes.started[2:] == ["peers", "DAT 1", "two-tower 1"]


def test_cells_at_a_time_share_the_processors(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    processes = Processes(monkeypatch)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert runner.run_plan(plan, Console(quiet=True), jobs=2) == []
    assert sorted(processes.started[2:]) == ["DAT 1", "DAT 2", "two-tower 1", "two-tower 2"]
    assert processes.threads == {"3"}


def test_time_left_is_that_of_the_row_else_of_the_data_set_else_of_all(plan: Plan) -> None:
    first, second = plan.cells[:2]
    assert runner.seconds_left([second], []) is None
    assert runner.seconds_left([second], [(first, 10.0)]) == 10.0
    # DAT took 10 and 20, two-tower 4; to come are DAT 2 and two-tower 2.
    assert runner.seconds_left(plan.cells[2:], [(first, 10.0), (plan.cells[2], 20.0), (second, 4.0)]) == 19.0

    elsewhere = Cell(
        preparation=first.preparation.__class__(**{**vars(first.preparation), "dataset": "other"}),
        row="DAT", config=first.config, seed=1, code="",
    )  # fmt: skip
    assert runner.seconds_left([elsewhere], [(first, 10.0), (second, 4.0)]) == 7.0


def test_why_a_process_ended(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("W noise\nTraceback\n  x\nmodels.Bad.SomeError: no\nnoise at exit\n")
    assert runner.failure(log, 1) == "models.Bad.SomeError: no"
    log.write_text("starting\nKilled\n")
    assert runner.failure(log, -9) == "Killed (exit code -9)"
    log.write_text("")
    assert runner.failure(log, 2) == "it printed nothing (exit code 2)"


def test_an_interrupt_ends_a_cell_whose_process_did_not_get_it(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    (prepared := plan.preparations["toy"].folder).mkdir(parents=True)
    (prepared / "artifacts.json").write_text("{}")
    endless = Path("endless")
    endless.write_text("#!/bin/sh\nexec sleep 300\n")
    endless.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(endless.resolve()))

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        runner.run_plan(plan, Console(quiet=True), only_rows=["DAT"])
    assert not list(plan.cells[0].folder.parent.glob("*"))
