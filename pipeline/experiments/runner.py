"""Runs what a grid still lacks, each part in a process of its own, and says how far it is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
from rich.console import Console

from pipeline.experiments.plan import ROOT, Cell, Plan, Preparation
from pipeline.experiments.preparation.held_out import HeldOut
from pipeline.run import RunError, only_one

_ERROR = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception|Interrupt)\b.*$", re.MULTILINE)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def failure(log: Path, code: int) -> str:
    """Why a process ended: the last exception in its log, or else its last line and exit code."""
    text = log.read_text(errors="replace")
    errors = _ERROR.findall(text)
    if errors:
        return errors[-1]
    last = (text.strip().splitlines() or ["it printed nothing"])[-1]
    return f"{last} (exit code {code})"


def seconds_left(todo: Sequence[Cell], spent: Sequence[tuple[Cell, float]]) -> float | None:
    """What the remaining cells will take: as long as those of the same row, else data set, else all so far.

    Args:
      todo: the remaining cells.
      spent: finished cells with their seconds.

    Returns:
      Seconds; None if nothing has finished.
    """

    def mean(cells: Iterable[float]) -> float | None:
        found = list(cells)
        return sum(found) / len(found) if found else None

    overall = mean(seconds for _, seconds in spent)
    if overall is None:
        return None
    total = 0.0
    for cell in todo:
        of_set = [(c, seconds) for c, seconds in spent if c.dataset == cell.dataset]
        own = mean(seconds for c, seconds in of_set if c.row == cell.row)
        total += own or mean(seconds for _, seconds in of_set) or overall
    return total


def earlier(cells: Iterable[Cell]) -> list[tuple[Cell, float]]:
    """The finished ones with the seconds they took."""
    return [
        (cell, sum(json.loads((cell.folder / "cell.json").read_text())["seconds"].values()))
        for cell in cells
        if cell.done
    ]


def run_preparation(preparation: Preparation) -> None:
    """Prepares a data set, unless that was done.

    Raises:
      RunError: it failed; what and where the log is has been printed.
    """
    if (preparation.folder / "artifacts.json").exists():
        return
    preparation.folder.mkdir(parents=True, exist_ok=True)
    job = preparation.folder / "job.json"
    job.write_text(
        json.dumps(
            {
                "config": preparation.config.model_dump_json(),
                "held_out": preparation.held_out,
                "folder": str(preparation.folder),
                "exchange": str(preparation.exchange),
            }
        )
    )
    command = [sys.executable, "-m", "pipeline.experiments.preparation", str(job)]
    if subprocess.run(command, check=False).returncode:
        raise RunError(f"data set {preparation.dataset} could not be prepared")


def check_rows(cell: Cell, reference: Preparation) -> None:
    """Whether a cell's held-out rows are those of its data set's table.

    Raises:
      RunError: they are others, so its ranks could not stand there.
    """
    if cell.preparation.key == reference.key:
        return
    own, expected = (HeldOut.load(preparation.folder) for preparation in (cell.preparation, reference))
    if not (np.array_equal(own.query_id, expected.query_id) and np.array_equal(own.item_id, expected.item_id)):
        raise RunError(
            f"{cell.dataset}, {cell.row}: other rows are held out than for the grid's reference; ties in time are "
            "broken by all features of side interaction, so these must be the same in all rows of the grid"
        )


def run_cell(cell: Cell, jobs: int, interrupted: threading.Event) -> None:
    """Trains and ranks one cell. Its folder appears when it is complete.

    Args:
      cell: which.
      jobs: as many cells run at a time and share the processors.
      interrupted: once set, the cell's process is ended.

    Raises:
      RunError: the cell's process failed or was ended; the text says why and names the log.
    """
    temporary = cell.folder.with_name(f".tmp-{cell.folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    cell.log.parent.mkdir(parents=True, exist_ok=True)
    spec = cell.preparation.config.feature_spec
    job = {
        "row": cell.row,
        "seed": cell.seed,
        "config": cell.config,
        "columns": spec.model_dump(include={"query_id", "item_id", "timestamp", "category"}),
        "prepared": str(cell.preparation.folder),
        "folder": str(temporary),
    }
    (temporary / "job.json").write_text(json.dumps(job, indent=2))
    command = [sys.executable, "-m", "pipeline.experiments.cell", str(temporary / "job.json")]
    threads = {"TF_NUM_INTRAOP_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))}
    try:
        with (
            cell.log.open("w") as log,
            subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **threads}) as process,
        ):
            while process.poll() is None:
                if interrupted.wait(0.2):
                    process.terminate()
                    process.wait()
        if process.returncode:
            raise RunError(f"{failure(cell.log, process.returncode)}\n  Log: {cell.log}")
        shutil.rmtree(temporary / "checkpoints", ignore_errors=True)
        temporary.rename(cell.folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def run_peer(preparation: Preparation, peer: str) -> None:
    """Lets `benchmarks.peers` rank the held-out rows, unless it did.

    Raises:
      RunError: it failed; the text names the log.
    """
    folder = preparation.peers
    if (folder / f"{peer}.npz").exists():
        return
    log = ROOT / preparation.dataset / "logs" / f"peer-{peer}-{preparation.exchange.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "benchmarks.peers", "--exchange", str(preparation.exchange)]
    with log.open("w") as file:
        done = subprocess.run(
            [*command, "--output", str(folder), "--peer", peer], stdout=file, stderr=subprocess.STDOUT, check=False
        )
    if done.returncode:
        raise RunError(f"{failure(log, done.returncode)}\n  Log: {log}")


def _run_cells(todo: Sequence[Cell], spent: list[tuple[Cell, float]], console: Console, jobs: int) -> list[str]:
    """Runs cells, some at a time, and prints a line for each; returns one for each that failed."""
    failed: list[str] = []
    begun = time.monotonic()
    interrupted = threading.Event()

    def timed(cell: Cell) -> float:
        started = time.monotonic()
        run_cell(cell, jobs, interrupted)
        return time.monotonic() - started

    pool = ThreadPoolExecutor(jobs)
    try:
        running = {pool.submit(timed, cell): cell for cell in todo}
        with console.status(f"{len(todo)} cells, {jobs} at a time"):
            while running:
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in [future for future in running if future in finished]:
                    cell = running.pop(future)
                    try:
                        taken = future.result()
                        spent.append((cell, taken))
                        said = f"{taken:5.0f} s"
                    except RunError as e:
                        failed.append(f"{cell.dataset}, {cell.row}, seed {cell.seed}: {e}")
                        said = "FAILED"
                    left = seconds_left(list(running.values()), spent)
                    console.print(
                        f"  [{len(todo) - len(running):3d}/{len(todo)}] "
                        f"{f'{cell.dataset}, {cell.row}, seed {cell.seed}':<60} {said}; "
                        f"{_duration(time.monotonic() - begun)} so far"
                        + (f", about {_duration(left / jobs)} left" if running and left is not None else ""),
                        soft_wrap=True,
                    )
    finally:
        # A terminal's interrupt reaches the cells' processes too, but for one that is only being started.
        interrupted.set()
        pool.shutdown(wait=True, cancel_futures=True)
    return failed


def run_plan(plan: Plan, console: Console, only_rows: Collection[str] | None = None, jobs: int = 1) -> list[str]:
    """Runs all cells and peers that are not finished, and goes on after one that failed.

    Interrupting loses the cell that runs, and no other.

    Args:
      plan: the grid's cells.
      console: gets a line for each cell.
      only_rows: run no other rows, sweeps or peers.
      jobs: cells at a time.

    Returns:
      One line for each cell or peer that failed.

    Raises:
      RunError: a data set could not be prepared, a row holds out other rows, or another grid runs in this folder.
    """
    wanted = plan.cells if only_rows else [*plan.cells, *(cell for _, _, cell in plan.points)]
    cells: dict[str, Cell] = {}
    for cell in wanted:
        if not only_rows or cell.row in only_rows:
            cells.setdefault(cell.key, cell)
    todo = [cell for cell in cells.values() if not cell.done]
    console.print(f"{len(cells)} cells, {len(cells) - len(todo)} of them finished. Everything is in {ROOT}")
    failed = []
    with only_one(ROOT):
        prepared = {cell.preparation.key: cell.preparation for cell in todo}
        for preparation in (prepared | {p.key: p for p in plan.preparations.values()}).values():
            run_preparation(preparation)
        for cell in todo:
            check_rows(cell, plan.preparations[cell.dataset])
        for dataset, preparation in plan.preparations.items() if not only_rows else ():
            for peer in plan.grid.peers:
                with console.status(f"{dataset}, peer {peer}"):
                    try:
                        run_peer(preparation, peer)
                    except RunError as e:
                        failed.append(f"{dataset}, peer {peer}: {e}")
        failed += _run_cells(todo, earlier(cells.values()), console, jobs)
    return failed
