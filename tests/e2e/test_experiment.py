"""A tiny grid run for real, and one that is killed and goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from pipeline.experiments.exchange import read_ranks
from pipeline.experiments.preparation.held_out import HeldOut
from tests.unit.pipeline.experiments.toy import QUERIES, ROWS, write_toy

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "pipeline", "experiment", "--grid", "grid.yaml"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def _call(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *options], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=540, check=False
    )


def _cells(folder: Path) -> dict[str, int]:
    """Finished cells and the moment each was written."""
    cells = (folder / "runs" / "experiments" / "toy" / "cells").glob("[!.]*/cell.json")
    return {cell.parent.name: cell.stat().st_mtime_ns for cell in cells}


def test_a_grid_that_is_interrupted_goes_on_where_it_was(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(write_toy(tmp_path)))
    done = _call(tmp_path, "--only-row", "DAT")
    assert done.returncode == 0, done.stdout + done.stderr
    (dat,) = _cells(tmp_path)

    home = tmp_path / "runs" / "experiments" / "toy"
    (prepared,) = home.glob("prepared-*")
    held_out = HeldOut.load(prepared)
    assert held_out.target.shape == (QUERIES,)
    assert held_out.count.sum() == ROWS - QUERIES
    assert held_out.query_rows.tolist() == [5] * QUERIES
    (exchange,) = (home / "exchange").iterdir()
    assert len((exchange / "train.csv").read_text().splitlines()) == 1 + ROWS - QUERIES
    # The toy's sixth item of each query is the last one, and the only one that is held out.
    sixth = {tuple(line.split(",")[:2]) for line in (tmp_path / "interactions.csv").read_text().splitlines()[6::6]}
    assert {tuple(line.split(",")) for line in (exchange / "test.csv").read_text().splitlines()[1:]} == sixth
    ranks = read_ranks(home / "cells" / dat / "ranks.npz", held_out.query_id.tolist(), held_out.item_id.tolist())
    assert ((ranks >= 1) & (ranks <= 15)).all()
    cell = json.loads((home / "cells" / dat / "cell.json").read_text())
    assert len(cell["curve"]["retrieval_loss"]) == 2

    before = _cells(tmp_path)
    process = subprocess.Popen(
        COMMAND, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list((home / "cells").glob(".tmp-*")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    process.wait(60)
    assert process.returncode != 0
    assert _cells(tmp_path) == before
    assert not list((home / "cells").glob(".tmp-*"))

    done = _call(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 cells, 1 of them finished" in done.stdout
    after = _cells(tmp_path)
    assert len(after) == 2
    assert after[dat] == before[dat]
    report = tmp_path / "runs" / "experiments" / "report" / "grid-test"
    table = json.loads((report / "results.json").read_text())["datasets"]["toy"]["table"]
    assert set(table) == {"most popular", "DAT", "two-tower"}
    assert {file.name for file in report.iterdir()} >= {"table.md", "sweep-size.png", "curves-toy.png"}


def test_what_the_command_refuses(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(write_toy(tmp_path)))
    done = _call(tmp_path, "--only-row", "DOT")
    assert (done.returncode, done.stderr.strip()) == (1, "--only-row: no 'DOT'; there is: DAT, two-tower")
