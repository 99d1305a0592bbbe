"""Periods that are late, and periods from before the schedule: Airflow itself, with a stand-in for the pipeline."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.airflow.local import environment, write_dag_files
from pipeline.stages import Stage
from tests.integration.airflow.test_dags_test import FAKE, ROOT

pytestmark = pytest.mark.slow

# What Airflow does once a run of the first period has been released and a scheduler looks at the next one.
LOOK_FOR_LATE = """
from datetime import timedelta
from airflow.dag_processing.processor import DagFileProcessor
from airflow.models import DagBag
from airflow.utils.session import create_session
from airflow.utils.state import State
from airflow.utils.types import DagRunType

bag = DagBag(include_examples=False)
dag = bag.get_dag("ta_feng")
dag.sync_to_db()
start = dag.start_date
run = dag.create_dagrun(
    run_type=DagRunType.SCHEDULED, execution_date=start, data_interval=(start, start + timedelta(days=1)),
    state=State.SUCCESS,
)
with create_session() as session:
    run.get_task_instance("release", session=session).set_state(State.SUCCESS, session)
DagFileProcessor.manage_slas(bag.dag_folder, "ta_feng")
"""


class Scheduled:
    """A pipeline in a folder, and an Airflow whose database is a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            **environment(folder, f"sqlite:///{folder}/airflow.db", port=0),
            "AIRFLOW__CORE__EXECUTOR": "SequentialExecutor",
            "PYTHONPATH": str(ROOT),
        }
        self.call("airflow", "db", "migrate")

    def put(self, **schedule: Any) -> None:
        config = yaml.safe_load((ROOT / "configs" / "ta_feng.yaml").read_text())
        config["data"]["interactions"]["files"] = "{SPAN}.csv"
        config["schedule"] = schedule
        (self.folder / "c.yaml").write_text(yaml.safe_dump(config))
        write_dag_files(self.folder, [Path("c.yaml")], self.folder, [sys.executable, str(FAKE)])

    def call(self, *command: str) -> None:
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.fixture
def scheduled(tmp_path: Path) -> Scheduled:
    return Scheduled(tmp_path)


def test_a_late_release_is_told_with_its_own_period(scheduled: Scheduled) -> None:
    start = datetime.now(timezone.utc).date() - timedelta(days=3)
    scheduled.put(start=start, first_span=7, release_by_hours=0.5, alert=["sh", "-c", "cat >> alerts"])
    scheduled.call(sys.executable, "-c", LOOK_FOR_LATE)
    # The first period has its release. The second one's is due half an hour after its end, the day before today.
    told = (scheduled.folder / "alerts").read_text()
    assert told.startswith(f"ta_feng: late: release of the period from {start + timedelta(days=1)} 00:00")


def test_periods_from_before_the_schedule_are_run_in_order(scheduled: Scheduled) -> None:
    scheduled.put(start=date(2000, 11, 6), first_span=5)
    for span in (5, 6):
        (scheduled.folder / f"{span}.csv").write_text("user_id,item_id,timestamp\n")
    scheduled.call("airflow", "dags", "backfill", "ta_feng", "-s", "2000-11-06", "-e", "2000-11-07")
    calls = [line.split()[:3] for line in (scheduled.folder / "calls").read_text().splitlines()]
    assert [call[1:] for call in calls if call[0] == "end"] == [[n, stage.value] for n in "56" for stage in Stage]
