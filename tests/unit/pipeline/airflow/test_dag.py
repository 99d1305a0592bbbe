"""The DAG: its tasks and their commands, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import pytest
from airflow import DAG

from pipeline.airflow.dag import make_dag
from pipeline.config import ConfigError

DAILY = {"start": date(2000, 11, 8), "end": date(2000, 11, 30), "first_span": 7}
ORDER = ["wait_for_data", "ingest", "validate", "train", "evaluate", "release"]


def test_one_task_after_the_other(write_config: Callable[..., Path]) -> None:
    dag = make_dag("c.yaml", folder=write_config(DAILY).parent)
    assert dag.dag_id == "ta_feng"
    assert [task.task_id for task in dag.topological_sort()] == [*ORDER, "report"]
    following = {task.task_id: task.downstream_task_ids for task in dag.tasks}
    assert following == {**{a: {b} for a, b in zip(ORDER, [*ORDER[1:], "report"], strict=True)}, "report": set()}


def test_a_server_is_asked_after_the_release(write_config: Callable[..., Path]) -> None:
    dag = make_dag("c.yaml", folder=write_config({**DAILY, "server": "127.0.0.1:8500"}).parent)
    assert [task.task_id for task in dag.topological_sort()] == [*ORDER, "check_served", "report"]
    assert dag.get_task("check_served").command[3:] == [
        "check-served", "--address", "127.0.0.1:8500", "--config", "c.yaml",
    ]  # fmt: skip


def test_what_is_old_is_removed_after_the_release(write_config: Callable[..., Path]) -> None:
    keep = {"server": "127.0.0.1:8500", "keep_releases": 14, "keep_runs": 5}
    dag = make_dag("c.yaml", folder=write_config({**DAILY, **keep}).parent)
    order = [task.task_id for task in dag.topological_sort()]
    assert order == [*ORDER, "check_served", "prune", "clean", "report"]
    assert dag.get_task("prune").command[3:] == ["release", "prune", "--keep", "14", "--config", "c.yaml"]
    clean = dag.get_task("clean").command[3:]
    assert clean == ["clean", "--wait", "21600", "--keep", "5", "--config", "c.yaml"]  # a run by hand may be under way
    assert "older than the newest 14" in dag.doc_md


def _moments(dag: DAG) -> list[datetime]:
    """Of all runs there will be."""
    runs, info = [], dag.next_dagrun_info(None)
    while info is not None:
        runs.append(info.logical_date)
        info = dag.next_dagrun_info(info.data_interval)
    return runs


def test_runs_come_one_at_a_time_and_none_is_left_out(write_config: Callable[..., Path]) -> None:
    dag = make_dag("c.yaml", folder=write_config(DAILY).parent)
    assert (dag.catchup, dag.max_active_runs) == (True, 1)
    start = datetime(2000, 11, 8, tzinfo=timezone.utc)
    assert _moments(dag) == [start + timedelta(days=day) for day in range(23)]  # the 8th to the 30th


def test_all_periods_that_begin_on_the_last_day_are_run(write_config: Callable[..., Path]) -> None:
    hours = {"start": date(2000, 11, 8), "end": date(2000, 11, 9), "every_hours": 8}
    dag = make_dag("c.yaml", folder=write_config(hours).parent)
    start = datetime(2000, 11, 8, tzinfo=timezone.utc)
    assert _moments(dag) == [start + timedelta(hours=8 * period) for period in range(6)]


def test_commands_name_the_span_of_their_period(write_config: Callable[..., Path]) -> None:
    dag = make_dag("c.yaml", folder=write_config(DAILY).parent, command=["retrieval"])
    tenth = datetime(2000, 11, 10, tzinfo=timezone.utc)  # the third day: 7 + 2
    rendered = {}
    for task in dag.tasks:
        template = [dag.get_template_env().from_string(word) for word in task.command]
        rendered[task.task_id] = " ".join(word.render(data_interval_start=tenth) for word in template)
    assert rendered == {
        "wait_for_data": "retrieval ready --span 9 --config c.yaml",
        **{stage: f"retrieval run --span 9 --until {stage} --wait 21600 --config c.yaml" for stage in ORDER[1:]},
        "report": "retrieval history --config c.yaml",
    }


def test_the_schedules_settings_reach_the_tasks(write_config: Callable[..., Path]) -> None:
    changes = {"retries": 1, "retry_minutes": 2.0, "timeout_hours": 3.0, "release_by_hours": 6.0, "wait_hours": 12.0}
    dag = make_dag(
        "c.yaml", folder=write_config({**DAILY, **changes}).parent, default_args={"email": ["ops@example.org"]}
    )
    for task in dag.tasks:
        assert (task.retries, task.retry_delay) == (1, timedelta(minutes=2))
        assert task.execution_timeout == timedelta(hours=3)
        assert task.email == ["ops@example.org"]
        assert task.sla == (timedelta(hours=6) if task.task_id == "release" else None)
    sensor = dag.get_task("wait_for_data")
    assert (sensor.mode, sensor.timeout, sensor.poke_interval) == ("reschedule", 12 * 3600, 300)


def test_report_has_no_say_in_a_runs_success(write_config: Callable[..., Path]) -> None:
    dag = make_dag("c.yaml", folder=write_config(DAILY).parent)
    assert [task.task_id for task in dag.tasks if task.is_teardown] == ["report"]
    assert not dag.get_task("report").on_failure_fail_dagrun


def test_a_configuration_without_a_schedule_gives_no_dag(write_config: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match=r"c\.yaml: schedule: missing, but a DAG needs it"):
        make_dag("c.yaml", folder=write_config(None).parent)


def test_a_dag_file_loads_nothing_heavy(write_config: Callable[..., Path]) -> None:
    folder = write_config(DAILY).parent
    code = (
        "import sys; from pipeline.airflow.dag import make_dag; make_dag('c.yaml', folder=sys.argv[1]); "
        "print([m for m in ('tensorflow', 'tfx', 'apache_beam', 'tf_keras', 'scann', 'grpc') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"
