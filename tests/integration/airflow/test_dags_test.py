"""One run of the DAG by `airflow dags test`, with a fast stand-in for the pipeline: no scheduler, no server."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
import yaml

from pipeline.airflow.local import environment, write_dag_files
from pipeline.stages import Stage

ROOT = Path(__file__).resolve().parents[3]
FAKE = ROOT / "tests" / "airflow" / "fake_pipeline.py"

pytestmark = pytest.mark.slow


def test_a_run_goes_through_all_stages(tmp_path: Path) -> None:
    config = yaml.safe_load((ROOT / "configs" / "ta_feng.yaml").read_text())
    config["data"]["interactions"]["files"] = "{SPAN}.csv"
    config["schedule"] = {"start": date(2000, 11, 8), "first_span": 7}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "9.csv").write_text("user_id,item_id,timestamp\n")
    write_dag_files(tmp_path, [Path("c.yaml")], tmp_path, [sys.executable, str(FAKE)])
    variables = {
        **os.environ,
        **environment(tmp_path, f"sqlite:///{tmp_path}/airflow.db", port=0),
        "AIRFLOW__CORE__EXECUTOR": "SequentialExecutor",
        "PYTHONPATH": str(ROOT),
    }
    subprocess.run(["airflow", "db", "migrate"], env=variables, capture_output=True, check=True)
    # A run by hand is of the last whole period before its moment: the 10th, the third day of the schedule.
    command = ["airflow", "dags", "test", "ta_feng", "2000-11-11"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    calls = [line.split()[:3] for line in (tmp_path / "calls").read_text().splitlines()]
    assert [call[1:] for call in calls if call[0] == "end"] == [["9", stage.value] for stage in Stage]
    assert "train of span 9 done" in done.stdout
    assert "history of ta_feng" in done.stdout
