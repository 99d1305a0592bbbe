from __future__ import annotations

import contextlib
import runpy
import sqlite3
import threading
from pathlib import Path

import pytest

from pipeline import run
from pipeline.report import print_run
from pipeline.run import RunError, RunResult, check_metadata, only_one

ROOT = Path(__file__).resolve().parents[3]


def test_two_runs_of_one_pipeline_do_not_overlap(tmp_path: Path) -> None:
    with only_one(tmp_path / "shop"):
        refused = pytest.raises(RunError, match=r"another run of shop is under way \(process \d+\); start this one")
        with refused, only_one(tmp_path / "shop"):
            pass
        with only_one(tmp_path / "other"):
            pass
    with only_one(tmp_path / "shop"):
        pass


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with (
        pytest.raises(RunError, match=r"runs/shop cannot be written \(.*: Not a directory\)"),
        only_one(tmp_path / "runs" / "shop"),
    ):
        pass


@pytest.mark.slow
def test_the_entry_of_the_tfx_command_takes_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRIEVAL_CONFIG", str(ROOT / "configs" / "movielens.yaml"))
    monkeypatch.chdir(tmp_path)
    with only_one(Path("runs/movielens")), pytest.raises(SystemExit, match="another run of movielens is under way"):
        runpy.run_path(str(ROOT / "local_runner.py"), run_name="__main__")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("RETRIEVAL_CONFIG", "gone.yaml", r"gone\.yaml: cannot be read: No such file or directory"),
        ("RETRIEVAL_SPAN", "-1", r"RETRIEVAL_SPAN: expected a number, 0 or more \(given: '-1'\)"),
    ],
)
def test_the_entry_of_the_tfx_command_says_what_is_wrong(
    variable: str, value: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETRIEVAL_CONFIG", str(ROOT / "configs" / "movielens.yaml"))
    monkeypatch.setenv(variable, value)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=message):
        runpy.run_path(str(ROOT / "local_runner.py"), run_name="__main__")


def test_a_run_may_wait_for_another(tmp_path: Path) -> None:
    held, order = threading.Event(), []
    release = threading.Event()

    def other() -> None:
        with only_one(tmp_path):
            held.set()
            release.wait(30)
            order.append("other")

    thread = threading.Thread(target=other)
    thread.start()
    assert held.wait(30)
    threading.Timer(0.2, release.set).start()
    with only_one(tmp_path, wait=60):
        order.append("mine")
    thread.join()
    assert order == ["other", "mine"]


def test_metadata_that_another_program_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "METADATA_SECONDS", 0.01)
    file = tmp_path / "metadata.sqlite"
    check_metadata(file)  # a first run has none
    assert not file.exists()
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("CREATE TABLE t (c)")
        check_metadata(file)
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(
            RunError, match=r"metadata\.sqlite cannot be written \(database is locked\): nothing was run"
        ):
            check_metadata(file)
        other.execute("ROLLBACK")
    check_metadata(file)


def test_metadata_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "metadata.sqlite").write_bytes(b"half of a copy" * 100)
    with pytest.raises(RunError, match=r"cannot be written \(file is not a database\)"):
        check_metadata(tmp_path / "metadata.sqlite")


def test_a_blessed_model_that_was_left_out_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for left_out in (None, "the last blessed model is not compared with, for it reads 'price'"):
        metrics = {"splits": {}, "blessed": True, "blessed_left_out": left_out}
        print_run(RunResult(metrics=metrics, index=None, release=None, note=None, put_aside=None, log=Path("log")))
    assert capsys.readouterr().out == "The last blessed model is not compared with, for it reads 'price'\n"


def test_a_model_that_was_refused_says_why() -> None:
    def result(blessed: bool) -> RunResult:
        metrics = {"blessed": blessed, "reasons": ["a", "b"], "refused": [] if blessed else ["b is below c."]}
        return RunResult(metrics=metrics, index=None, release=None, note=None, put_aside=None, log=Path("log"))

    assert result(True).refusal is None
    assert result(False).refusal == (
        "the model was not blessed, so nothing was released; earlier releases stay as they were: b is below c."
    )
