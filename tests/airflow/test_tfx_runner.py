"""TFX's AirflowDagRunner runs this pipeline: a task for each component, and a release only of a blessed model."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from serving.release import list_versions, verify_release
from tests.airflow.conftest import Airflow
from tests.spans import CONFIG, deliver, deliver_items

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

DAG = """
from datetime import datetime
from pipeline.airflow.tfx_runner import make_tfx_dag

dag = make_tfx_dag({config!r}, span=1, start_date=datetime(2026, 1, 1), schedule="@once", max_active_tasks=2)
"""


def _write(folder: Path, name: str, least: float) -> Path:
    """A configuration, read by Airflow in another folder than the data's, whose model must be so good."""
    interactions = {**CONFIG["data"]["interactions"], "files": f"{folder}/{{SPAN}}/*.csv"}
    interactions["ready"] = f"{folder}/{{SPAN}}/_SUCCESS"
    data = {**CONFIG["data"], "interactions": interactions}
    data["items"] = {**data["items"], "files": f"{folder}/items.csv"}
    evaluation = {**CONFIG["evaluation"], "thresholds": [{"metric": "HR@10", "min_ratio_to_popular": least}]}
    file = folder / f"{name}.yaml"
    changes = {"name": name, "root": f"{folder}/runs", "data": data, "evaluation": evaluation}
    file.write_text(yaml.safe_dump({**CONFIG, **changes}))
    return file


@pytest.mark.parametrize(("name", "least", "released"), [("blessed", 0.1, 1), ("refused", 100.0, 0)])
def test_a_task_for_each_component_and_a_release_if_blessed(
    airflow: Airflow, tmp_path: Path, name: str, least: float, released: int
) -> None:
    deliver_items(tmp_path)
    for span in range(2):
        deliver(tmp_path, span, users=60)
    dag = airflow.home / "dags" / f"{name}.py"
    dag.parent.mkdir(exist_ok=True)
    dag.write_text(DAG.format(config=str(_write(tmp_path, name, least))))
    try:
        tasks = airflow.wait_for_run(name, seconds=3000)
    finally:
        dag.unlink()
    # What is not blessed is no failure to TFX.
    assert set(tasks.values()) == {"success"}, tasks
    assert {"RetrievalExampleGen", "NegativeSampler", "Trainer", "ItemIndexer", "ReleasePusher"} <= tasks.keys()
    home = tmp_path / "runs" / name
    assert len(list((home / "artifacts" / "RetrievalEvaluator" / "evaluation").iterdir())) == 1
    versions = list_versions(home / "releases")
    assert len(versions) == released
    for version in versions:
        verify_release(home / "releases" / str(version))
