"""TFX's own AirflowDagRunner on this pipeline: a task for each TFX component. For those who want just that.

    from datetime import datetime
    from pipeline.airflow.tfx_runner import make_tfx_dag

    dag = make_tfx_dag("configs/movielens.yaml", start_date=datetime(2026, 1, 1), schedule="@daily")

What it lacks beside pipeline.airflow.dag is in docs/airflow.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow import DAG
from tfx import types
from tfx.dsl.components.base.base_driver import BaseDriver
from tfx.orchestration.airflow.airflow_dag_runner import AirflowDagRunner, AirflowPipelineConfig

from pipeline.config import load_config
from pipeline.pipeline import create_pipeline


class _Driver(BaseDriver):
    """Names artifacts after their component too.

    TFX calls them by output and run alone, and ML Metadata refuses a name that stands twice: InteractionValidator and
    ItemValidator both put out anomalies. What reads an artifact finds it by its component, whatever its name.
    """

    def _prepare_output_artifacts(self, *arguments: Any, **named: Any) -> dict[str, list[types.Artifact]]:
        prepared = super()._prepare_output_artifacts(*arguments, **named)
        for artifacts in prepared.values():
            for artifact in artifacts:
                artifact.name = f"{artifact.producer_component}:{artifact.name}"
        return prepared


def make_tfx_dag(config_file: str | Path, *, span: int = 0, **airflow_dag_config: Any) -> DAG:
    """Makes the DAG of a configuration, all of whose runs read the same span.

    Args:
      config_file: the YAML file; its relative paths start where Airflow's scheduler and workers were started.
      span: known when the DAG is made: TFX puts it into its components then, not when they run.
      airflow_dag_config: arguments of airflow.DAG, such as start_date and schedule.

    Returns:
      The DAG, named like the pipeline.

    Raises:
      ConfigError: the configuration is not valid.
    """
    config = load_config(config_file)
    settings = {"max_active_runs": 1, "catchup": False, **airflow_dag_config}
    pipeline = create_pipeline(config, span=span)
    for component in pipeline.components:
        if component.driver_class is BaseDriver:
            component.driver_class = _Driver
    return AirflowDagRunner(AirflowPipelineConfig(settings)).run(pipeline)
