"""The real pipeline on a real scheduler, on spans of a small shop: what its own gates and stores have to say."""

from __future__ import annotations

import sqlite3
import sys
from datetime import date
from pathlib import Path

import pytest
import yaml

from pipeline.airflow.local import write_dag_files
from pipeline.stages import Stage
from serving.release import list_versions, verify_release
from tests.airflow.conftest import ROOT, START, Airflow, Scheduled
from tests.spans import CONFIG, deliver, deliver_items

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_locked_metadata_is_retried_and_ten_times_the_usual_rows_are_refused(airflow: Airflow, tmp_path: Path) -> None:
    deliver_items(tmp_path)
    for span, users in enumerate((60, 60, 600)):
        deliver(tmp_path, span, users)
    schedule = {
        "start": START,
        "end": date(START.year, START.month, START.day + 1),
        "first_span": 1,
        "poke_minutes": 0.05,
        "retries": 2,
        "retry_minutes": 0.05,
        "alert": ["sh", "-c", f"cat >> {tmp_path}/alerts"],
    }
    # Spans by number: Airflow's days are not those of the rows.
    data = {**CONFIG["data"], "split": {"by": "span", "window": 2}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({**CONFIG, "data": data, "schedule": schedule}))
    home = tmp_path / "runs" / "spans"
    home.mkdir(parents=True)
    lock = sqlite3.connect(home / "metadata.sqlite")
    lock.execute("BEGIN EXCLUSIVE")
    command = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "pipeline"]
    write_dag_files(airflow.home, [Path("c.yaml")], tmp_path, command)
    scheduled = Scheduled(airflow, tmp_path, "spans")
    try:
        scheduled.wait(lambda: "runs/spans/metadata.sqlite" in scheduled.log(0, "ingest"))
    finally:
        lock.close()

    scheduled.wait_for_states("success", "failed", seconds=1500)
    assert scheduled.tasks(0) == {
        **dict.fromkeys(["wait_for_data", *(stage.value for stage in Stage), "report"], ("success", 1)),
        "ingest": ("success", 2),
    }
    # The second day stops at its first gate, at once, and the first day's release stays.
    assert scheduled.tasks(1)["validate"] == ("failed", 1)
    assert scheduled.tasks(1)["train"][0] == "upstream_failed"
    assert "validate failed: SpanGate refused: volume: span 2 has 3,000 rows" in scheduled.alerts
    assert "gates.volume.max_ratio is 2" in scheduled.alerts
    (version,) = list_versions(home / "releases")
    verify_release(home / "releases" / str(version))
