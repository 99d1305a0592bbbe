"""Where the command `experiment` writes its report."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from pipeline import cli
from tests.unit.pipeline.experiments.toy import write_toy


def test_a_part_of_the_grid_leaves_the_whole_ones_report_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("grid.yaml").write_text(yaml.safe_dump(write_toy(tmp_path)))
    reports = Path("runs/experiments/report")
    for options, folder in {
        (): "grid-test",
        ("--only-row", "DAT"): "grid-test",  # the report has all rows that are finished
        ("--seeds", "3"): "grid-test-3seeds",
        ("--only-dataset", "toy", "--seeds", "2", "--split", "eval"): "grid-eval-toy-2seeds",
    }.items():
        before = {path: path.read_text() for path in reports.rglob("table.md")}
        done = CliRunner().invoke(cli.app, ["experiment", "--grid", "grid.yaml", "--report-only", *options])
        assert done.exit_code == 0, done.output
        assert str(reports / folder / "table.md") in done.output
        after = {path: path.read_text() for path in reports.rglob("table.md")}
        assert before.items() <= after.items()
    assert sorted(path.name for path in reports.iterdir()) == ["grid-eval-toy-2seeds", "grid-test", "grid-test-3seeds"]
