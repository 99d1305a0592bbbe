"""TFX's AirflowDagRunner runs this pipeline: a task for each component, and a release only of a blessed model."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from serving.release import list_versions, verify_release
from tests.airflow.conftest import Airflow
from tests.spans import CONFIG, deliver, deliver_items

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

DAG = """
from datetime import datetime
from pipeline.airflow.tfx_runner import make_tfx_dag

dag = make_tfx_dag({config!r}, span=1, start_date=datetime(2026, 1, 1), schedule="@once")
"""


@pytest.mark.parametrize("blessed", [True, False], ids=["blessed", "refused"])
def test_a_run_with_a_task_for_each_component(airflow: Airflow, tmp_path: Path, blessed: bool) -> None:
    deliver_items(tmp_path)
    for span in range(2):
        deliver(tmp_path, span, users=60)
    least = 0.1 if blessed else 100.0
    evaluation = {**CONFIG["evaluation"], "thresholds": [{"metric": "HR@10", "min_ratio_to_popular": least}]}
    name = f"tfx_{'blessed' if blessed else 'refused'}"
    # The scheduler was started elsewhere.
    interactions = {**CONFIG["data"]["interactions"], "files": f"{tmp_path}/{{SPAN}}/*.csv"}
    interactions["ready"] = f"{tmp_path}/{{SPAN}}/_SUCCESS"
    data = {**CONFIG["data"], "interactions": interactions}
    data["items"] = {**data["items"], "files": f"{tmp_path}/items.csv"}
    config = {**CONFIG, "name": name, "root": f"{tmp_path}/runs", "data": data, "evaluation": evaluation}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    dag = airflow.home / "dags" / f"{name}.py"
    dag.parent.mkdir(exist_ok=True)
    dag.write_text(DAG.format(config=f"{tmp_path}/c.yaml"))
    try:
        states = airflow.wait_for_run(name, seconds=1500)
    finally:
        dag.unlink()
    assert set(states.values()) == {"success"}, states
    assert {"RetrievalExampleGen", "NegativeSampler", "Trainer", "ItemIndexer", "ReleasePusher"} <= states.keys()
    home = tmp_path / "runs" / name
    assert len(list((home / "artifacts" / "RetrievalEvaluator" / "evaluation").iterdir())) == 1
    released = list_versions(home / "releases") if (home / "releases").exists() else []
    # What is not blessed is no failure to TFX, but there is no release of it.
    assert len(released) == blessed
    for version in released:
        verify_release(home / "releases" / str(version))
