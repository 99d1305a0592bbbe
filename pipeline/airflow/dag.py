"""The DAG of one configuration: a run for each period of its schedule, a task for each stage of the pipeline."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from airflow import DAG
from airflow.models.baseoperator import chain

from pipeline.airflow.alerts import alert_failure, alert_late
from pipeline.airflow.operators import CommandOperator, DataSensor
from pipeline.config import ConfigError, load_config
from pipeline.stages import Stage

_SPAN = "{{ span(data_interval_start) }}"

_DOC = """Retrains `{name}` on one span of data a period, of {config}.

| task | does | fails without a retry when |
|---|---|---|
| wait_for_data | looks for the span's files every {poke:g} min, for {wait:g} h at most | the time is over |
| ingest | reads the span and the window before it | too many rows are bad |
| validate | schema, drift, skew and volume | a gate refuses the data |
| train | from the last blessed model | |
| evaluate | against the last blessed model | the model is not blessed |
| release | publishes query tower and index as one version | a gate refuses the release |
{check}{clean}| report | prints the history of runs; runs whatever the others did | |

Whatever fails, the release before stays served. Clear a task to run it and what follows again: what is done
already comes from the cache.
"""
_CHECK_DOC = "| check_served | asks {server} for recommendations of that version | |\n"
_CLEAN_DOCS = {
    "prune": "| prune | removes releases older than the newest {keep} that nothing uses | |\n",
    "clean": "| clean | removes artifacts and logs of runs older than the newest {keep} that nothing uses | |\n",
}


def make_dag(
    config_file: str | Path,
    *,
    folder: str | Path,
    command: Sequence[str] = (sys.executable, "-m", "pipeline"),
    default_args: Mapping[str, Any] | None = None,
) -> DAG:
    """Makes the DAG of a configuration that has a schedule. Reads the YAML file and no data.

    Args:
      config_file: the YAML file; relative to `folder`.
      folder: where the commands run and the configuration's relative paths start.
      command: the pipeline's command line, which may be of another environment than Airflow's.
      default_args: Airflow's own settings for all tasks, such as email, pool, queue or notifiers; an
        on_failure_callback among them is called instead of schedule.alert.

    Returns:
      The DAG, named like the pipeline.

    Raises:
      ConfigError: the configuration is not valid or has no schedule.
    """
    path = Path(folder) / config_file
    config = load_config(path)
    schedule = config.schedule
    if schedule is None:
        raise ConfigError(f"{path}: schedule: missing, but a DAG needs it")
    to: dict[str, Any] = {"command": schedule.alert, "folder": str(folder)}
    clean_up = {
        task: keep
        for task, keep in (("prune", schedule.keep_releases), ("clean", schedule.keep_runs))
        if keep is not None
    }
    dag = DAG(
        dag_id=config.name,
        schedule=schedule.period,
        start_date=schedule.first_moment,
        end_date=schedule.last_moment,
        # Spans come in order, and all of them: none is skipped after a pause, and none overtakes another.
        catchup=True,
        max_active_runs=1,
        default_args={
            # A refused span must not stop those after it, so none depends on the one before.
            "depends_on_past": False,
            "retries": schedule.retries,
            "retry_delay": timedelta(minutes=schedule.retry_minutes),
            "execution_timeout": timedelta(hours=schedule.timeout_hours),
            "on_failure_callback": partial(alert_failure, **to),
            **(default_args or {}),
        },
        sla_miss_callback=partial(alert_late, period=schedule.period, **to),
        user_defined_macros={"span": schedule.span},
        doc_md=_DOC.format(
            name=config.name,
            config=config_file,
            poke=schedule.poke_minutes,
            wait=schedule.wait_hours,
            check=_CHECK_DOC.format(server=schedule.server) if schedule.server else "",
            clean="".join(_CLEAN_DOCS[task].format(keep=keep) for task, keep in clean_up.items()),
        ),
        tags=["retrieval"],
    )

    def call(*arguments: str) -> dict[str, Any]:
        return {"command": [*command, *arguments, "--config", str(config_file)], "folder": str(folder)}

    # A run that was started by hand is waited for, as long as a try may take.
    wait = ("--wait", str(int(schedule.timeout_hours * 3600)))
    removing = {"prune": ("release", "prune"), "clean": ("clean", *wait)}
    with dag:
        tasks: list[Any] = [
            DataSensor(
                task_id="wait_for_data",
                poke_interval=timedelta(minutes=schedule.poke_minutes),
                timeout=timedelta(hours=schedule.wait_hours),
                **call("ready", "--span", _SPAN),
            )
        ]
        for stage in Stage:
            by = schedule.release_by_hours if stage is Stage.RELEASE else None
            tasks.append(
                CommandOperator(
                    task_id=stage.value,
                    sla=None if by is None else timedelta(hours=by),
                    **call("run", "--span", _SPAN, "--until", stage.value, *wait),
                )
            )
        if schedule.server is not None:
            tasks.append(CommandOperator(task_id="check_served", **call("check-served", "--address", schedule.server)))
        for task, keep in clean_up.items():
            tasks.append(CommandOperator(task_id=task, **call(*removing[task], "--keep", str(keep))))
        # A teardown runs whatever came before and has no say in whether the run succeeded.
        chain(*tasks, CommandOperator(task_id="report", **call("history")).as_teardown())
    return dag
