from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pipeline.run import RunError, RunResult, only_one


def test_two_runs_of_one_pipeline_do_not_overlap(tmp_path: Path) -> None:
    with only_one(tmp_path / "shop"):
        refused = pytest.raises(
            RunError, match=r"another run of shop is under way \(process \d+\); start this one when"
        )
        with refused, only_one(tmp_path / "shop"):
            pass
        with only_one(tmp_path / "other"):
            pass
    with only_one(tmp_path / "shop"):
        pass


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


def test_a_model_that_was_refused_says_why() -> None:
    def result(blessed: bool) -> RunResult:
        metrics = {"blessed": blessed, "reasons": ["a", "b"], "refused": [] if blessed else ["b is below c."]}
        return RunResult(metrics=metrics, index=None, release=None, note=None, log=Path("log"))

    assert result(True).refusal is None
    assert result(False).refusal == (
        "the model was not blessed, so nothing was released; earlier releases stay as they were: b is below c."
    )
