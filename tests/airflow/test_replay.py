"""The real pipeline on a real scheduler: Ta-Feng day by day. AIRFLOW_TEST_SPANS says how many days, 3 by default."""

from __future__ import annotations

import json
import os
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest
import yaml

from pipeline.airflow.local import write_dag_files
from pipeline.datasets import ta_feng, ta_feng_daily
from pipeline.stages import Stage
from serving.release import list_versions, verify_release
from tests.airflow.conftest import ROOT, Airflow, Scheduled

SPANS = int(os.environ.get("AIRFLOW_TEST_SPANS", "3"))
FIRST_SPAN, FIRST_DAY = 7, date(2000, 11, 8)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 + 900 * SPANS)]


def _replay(folder: Path) -> None:
    source = ROOT / "data" / "ta_feng"
    if not (source / "interactions.csv").exists():
        source = folder / "ta_feng"
        ta_feng(source)
    ta_feng_daily(source, folder / "data" / "ta_feng_daily")
    config = yaml.safe_load((ROOT / "configs" / "ta_feng_daily.yaml").read_text())
    config["schedule"].update(end=FIRST_DAY + timedelta(days=SPANS - 1), poke_minutes=0.05, retry_minutes=0.05)
    (folder / "c.yaml").write_text(yaml.safe_dump(config))


def test_days_of_retraining(airflow: Airflow, tmp_path: Path) -> None:
    _replay(tmp_path)
    command = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "pipeline"]
    write_dag_files(airflow.home, [Path("c.yaml")], tmp_path, command)
    scheduled = Scheduled(airflow, tmp_path, "ta_feng_daily", first_day=FIRST_DAY)
    scheduled.wait_for_states(*["success"] * SPANS, seconds=900 * SPANS)

    releases = tmp_path / "runs" / "ta_feng_daily" / "releases"
    versions = list_versions(releases)
    assert len(versions) == SPANS
    for version in versions:
        verify_release(releases / str(version))
    names = ["wait_for_data", *(stage.value for stage in Stage), "prune", "clean", "report"]
    for day in range(SPANS):
        assert scheduled.tasks(day) == dict.fromkeys(names, ("success", 1))
        # The first day starts cold; two weeks later it would again.
        assert ("warm start, item_id_vocabulary" in scheduled.log(day, "train")) == (day % 14 > 0)
        assert "ReleasePusher" in scheduled.log(day, "release")  # the pipeline's own progress
    # Each run ranked the day after its week, beside most-popular and the model before. What stays of them: five runs.
    evaluations = (tmp_path / "runs" / "ta_feng_daily" / "artifacts").glob("RetrievalEvaluator/evaluation/*")
    newest = sorted((folder for folder in evaluations if any(folder.iterdir())), key=lambda folder: int(folder.name))
    for day, evaluation in zip(range(SPANS)[-len(newest) :], newest, strict=True):
        metrics = json.loads((evaluation / "metrics.json").read_text())["splits"]["eval"]
        sold = len((tmp_path / f"data/ta_feng_daily/{FIRST_SPAN + day}/interactions.csv").read_text().splitlines()) - 1
        assert metrics["rows"] + metrics["repeats_left_out"] == sold
        assert set(metrics["models"]) == {"candidate", "popular", *(["blessed"] if day else [])}
