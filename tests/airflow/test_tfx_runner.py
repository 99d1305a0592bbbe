"""TFX's AirflowDagRunner still takes this pipeline."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.airflow.conftest import ROOT

pytestmark = pytest.mark.slow

CODE = """
from datetime import datetime
from pipeline.airflow.tfx_runner import make_tfx_dag

dag = make_tfx_dag("configs/movielens.yaml", start_date=datetime(2026, 1, 1), schedule="@daily")
print(dag.dag_id, dag.max_active_runs, *sorted(t.task_id for t in dag.tasks if not t.downstream_task_ids))
print(*sorted(dag.get_task("Trainer").upstream_task_ids))
"""


def test_a_task_for_each_component(tmp_path: Path) -> None:
    variables = {**os.environ, "AIRFLOW_HOME": str(tmp_path), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    dag, upstream = done.stdout.strip().splitlines()[-2:]
    assert dag == "movielens 1 ReleasePusher"
    assert "NegativeSampler" in upstream.split()
    assert "Transform" in upstream.split()
