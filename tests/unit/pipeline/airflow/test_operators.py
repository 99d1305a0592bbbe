"""What the exit codes of a command make of a task, and what is said of it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.exceptions import AirflowException, AirflowFailException

from pipeline.airflow.alerts import alert_failure, alert_late
from pipeline.airflow.operators import CommandOperator, DataSensor

CONTEXT = {
    "task_instance": SimpleNamespace(dag_id="shop", task_id="evaluate", log_url="http://127.0.0.1/log"),
    "data_interval_start": datetime(2026, 1, 2, tzinfo=timezone.utc),
    "exception": AirflowFailException("HR@50 is 0.1, at least 0.2 is wanted"),
}
MESSAGE = (
    "shop, period from 2026-01-02 00:00: evaluate failed: HR@50 is 0.1, at least 0.2 is wanted\n"
    "Log: http://127.0.0.1/log\n"
)


def _operator(script: str, folder: Path) -> CommandOperator:
    return CommandOperator(task_id="evaluate", command=["sh", "-c", script], folder=str(folder))


def test_a_refusal_fails_without_a_retry(tmp_path: Path) -> None:
    with pytest.raises(AirflowFailException, match=r"^HR@50 is too low$"):
        _operator("echo HR@50 is too low >&2; exit 3", tmp_path).execute({})


def test_another_failure_may_be_retried(tmp_path: Path) -> None:
    with pytest.raises(AirflowException, match=r"disk full\n\(exit code 1 of: sh") as error:
        _operator("echo disk full >&2; exit 1", tmp_path).execute({})
    assert not isinstance(error.value, AirflowFailException)
    with pytest.raises(AirflowException, match=r"no message\n\(signal 9 of: sh"):
        _operator("kill -9 $$", tmp_path).execute({})


def test_success_says_nothing(tmp_path: Path) -> None:
    _operator("echo done", tmp_path).execute({})


@pytest.mark.parametrize(("code", "there"), [(0, True), (4, False)])
def test_the_sensor_waits_while_data_is_not_there(tmp_path: Path, code: int, there: bool) -> None:
    sensor = DataSensor(task_id="wait", command=["sh", "-c", f"exit {code}"], folder=str(tmp_path))
    assert sensor.poke({}) is there


def test_the_sensor_does_not_wait_for_what_is_broken(tmp_path: Path) -> None:
    sensor = DataSensor(task_id="wait", command=["sh", "-c", "echo no such bucket >&2; exit 1"], folder=str(tmp_path))
    with pytest.raises(AirflowException, match="no such bucket"):
        sensor.poke({})


def test_the_alert_command_gets_the_message(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # A script beside the configuration, by its relative path, like all others in it.
    (tmp_path / "page.sh").write_text("#!/bin/sh\ncat > alert\n")
    (tmp_path / "page.sh").chmod(0o755)
    alert_failure(CONTEXT, command=["./page.sh"], folder=str(tmp_path))
    assert (tmp_path / "alert").read_text() == MESSAGE
    assert MESSAGE.strip() in caplog.text


def test_an_alert_command_that_fails_is_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    alert_failure({**CONTEXT, "exception": None}, command=["false"], folder=str(tmp_path))
    assert "evaluate failed: it was killed or marked as failed" in caplog.text
    assert "the alert command failed" in caplog.text


def test_what_is_late_is_named(tmp_path: Path) -> None:
    # So Airflow dates a miss of the period from the 1st to the 2nd; tests/airflow/test_periods.py has Airflow itself.
    misses = [
        SimpleNamespace(task_id="release", execution_date=datetime(2026, 1, day, tzinfo=timezone.utc)) for day in (2, 3)
    ]
    alert_late(
        SimpleNamespace(dag_id="shop"), "", "", misses, [],
        period=timedelta(days=1), command=["sh", "-c", "cat > alert"], folder=str(tmp_path),
    )  # fmt: skip
    assert (tmp_path / "alert").read_text() == (
        "shop: late: release of the period from 2026-01-01 00:00; release of the period from 2026-01-02 00:00\n"
    )
