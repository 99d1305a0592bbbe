"""A real scheduler on a real database, with a fast stand-in for the pipeline: what runs, and what goes wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.airflow.conftest import Scheduled
from tests.airflow.fake_pipeline import STAGES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

Schedule = Callable[..., Scheduled]


def _ends(*spans: int) -> list[str]:
    return [f"end {span} {stage}" for span in spans for stage in STAGES]


def _finished(scheduled: Scheduled) -> list[str]:
    return [line for line in scheduled.calls if line.startswith("end")]


def test_three_spans_one_after_the_other(schedule: Schedule) -> None:
    scheduled = schedule(3)
    scheduled.wait_for_states("success", "success", "success")
    # Begin and end of each stage alternate: nothing ran beside anything else, and nothing twice.
    assert [" ".join(line.split()[:3]) for line in scheduled.calls] == [
        f"{word} {span} {stage}" for span in range(3) for stage in STAGES for word in ("begin", "end")
    ]
    assert scheduled.released_spans == [0, 1, 2]
    assert scheduled.tasks(1) == dict.fromkeys(("wait_for_data", *STAGES, "report"), ("success", 1))
    assert "train of span 1 done" in scheduled.log(1, "train")
    assert "evaluate of span 1 from the cache" in scheduled.log(1, "release")
    assert scheduled.alerts == ""
