"""What goes wrong, done for real: the release before stays, and the run is resumed or fails with a clear word."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.airflow.conftest import FAKE, HEADER, Airflow, Scheduled
from tests.airflow.fake_pipeline import STAGES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

Schedule = Callable[..., Scheduled]


def _finished(scheduled: Scheduled) -> list[str]:
    return [line for line in scheduled.calls if line.startswith("end")]


def _ends(*spans: int) -> list[str]:
    """Each stage of each span once: nothing lost, nothing doubled."""
    return [f"end {span} {stage}" for span in spans for stage in STAGES]


def _command_pid(scheduled: Scheduled, call: str) -> int:
    """Process of the newest beginning of a stage."""
    return int([line for line in scheduled.calls if line.startswith(call)][-1].split()[-1])


def test_bad_spans_between_good_ones(schedule: Schedule) -> None:
    # Runs are counted from 0, and are of span 1 and on: span 0 is there for the first to train on. The wait is 29 s.
    split = {"by": "span", "window": 6}
    scheduled = schedule(6, deliver=False, split=split, first_span=1, retries=1, wait_hours=0.008)
    for span in (0, 1, 2):
        scheduled.deliver(span)
    (scheduled.folder / "refuse-2").write_text("HR@50 is 0.10, at least 0.20 is wanted")  # of the model, by a gate
    scheduled.deliver(3, "\x01\x02\x03")
    scheduled.deliver(4, HEADER)
    # 5 never comes.
    scheduled.deliver(6)
    scheduled.wait_for_states("success", "failed", "failed", "failed", "failed", "success")
    assert scheduled.released_spans == [1, 6]
    assert scheduled.tasks(1)["evaluate"] == ("failed", 1)  # no retry of what was refused
    assert scheduled.tasks(1)["release"][0] == "upstream_failed"
    assert scheduled.tasks(1)["report"][0] == "success"
    assert "evaluate failed: HR@50 is 0.10, at least 0.20 is wanted" in scheduled.alerts
    assert scheduled.tasks(2)["ingest"] == ("failed", 2)
    assert "data/3/interactions.csv: no column 'user_id'" in scheduled.alerts
    assert scheduled.tasks(3)["ingest"] == ("failed", 2)
    assert "has a header but no row: there is nothing to evaluate span 4 on" in scheduled.alerts
    assert scheduled.tasks(4)["wait_for_data"][0] == "failed"
    assert "wait_for_data failed: span 5 is not there yet: data.interactions.files: no file matches" in scheduled.alerts
    assert scheduled.alerts.count(" failed: ") == 4
    # Half of its window of six is there.
    ingest = scheduled.log(5, "ingest")
    assert "span 3 is not trained on: data.interactions.files: data/3/interactions.csv: no column 'user_id'" in ingest
    assert (
        "span 4 is not trained on: data.interactions.files: data/4/interactions.csv has a header but no row" in ingest
    )
    assert "span 5 is not trained on: data.interactions.files: no file matches data/5/interactions.csv" in ingest
    # It came after all: clearing the run is all there is to do. What is released is of a later span, and stays.
    scheduled.deliver(5)
    scheduled.airflow.command("tasks", "clear", scheduled.name, "-s", "2000-11-05", "-e", "2000-11-05", "--yes")
    scheduled.wait_for_states("success", "failed", "failed", "failed", "success", "success")
    assert scheduled.released_spans == [1, 6]
    assert "of span 6 is later than span 5" in scheduled.log(4, "release")


def test_late_data_is_waited_for(schedule: Schedule) -> None:
    scheduled = schedule(2, deliver=False)
    scheduled.deliver(1)
    scheduled.wait(lambda: scheduled.tasks(0).get("wait_for_data", ("",))[0] == "up_for_reschedule")
    assert scheduled.states == ["running"]  # the next span waits its turn
    scheduled.deliver(0)
    scheduled.wait_for_states("success", "success")
    assert _finished(scheduled) == _ends(0, 1)


def test_kill_9_of_a_task(schedule: Schedule) -> None:
    scheduled = schedule(1, slow="train 20")
    scheduled.wait_for_call("begin 0 train")
    command = psutil.Process(_command_pid(scheduled, "begin 0 train"))
    task = command.parent()
    (scheduled.folder / "slow").unlink()
    task.send_signal(signal.SIGKILL)
    scheduled.wait_for_states("success")
    assert not command.is_running() or command.status() == psutil.STATUS_ZOMBIE
    assert scheduled.tasks(0)["train"] == ("success", 2)
    assert _finished(scheduled) == _ends(0)
    assert scheduled.released_spans == [0]


def test_kill_9_of_the_scheduler(schedule: Schedule, airflow: Airflow) -> None:
    scheduled = schedule(2, slow="train 10")
    scheduled.wait_for_call("begin 0 train")
    airflow.supervisor.processes["scheduler"].kill()
    scheduled.wait_for_states("success", "success")
    assert _finished(scheduled) == _ends(0, 1)
    assert scheduled.released_spans == [0, 1]


def test_kill_9_of_the_database(schedule: Schedule, airflow: Airflow) -> None:
    scheduled = schedule(2, slow="train 10")
    scheduled.wait_for_call("begin 0 train")
    for process in [airflow.database.process, *airflow.database.process.children()]:
        process.kill()
    scheduled.wait_for_states("success", "success")
    assert _finished(scheduled) == _ends(0, 1)
    assert scheduled.released_spans == [0, 1]


def test_two_schedulers(schedule: Schedule, airflow: Airflow) -> None:
    second = subprocess.Popen(["airflow", "scheduler", "--skip-serve-logs"], env=airflow.environment)
    try:
        statement = "select count(*) from job where job_type = 'SchedulerJob' and state = 'running'"
        scheduled = schedule(3)
        scheduled.wait(lambda: airflow.query(statement) == [(2,)])
        scheduled.wait_for_states("success", "success", "success")
    finally:
        second.terminate()
        second.wait()
    assert _finished(scheduled) == _ends(0, 1, 2)
    assert scheduled.released_spans == [0, 1, 2]
    assert all(tries == 1 for span in range(3) for _, tries in scheduled.tasks(span).values())


def test_a_full_disk_while_releasing(schedule: Schedule) -> None:
    # Files of span 1's release may have 100 KB, and need three times that.
    script = (
        'case "$*" in *"--span 1 --until release"*) [ -e roomy ] || ulimit -f 200;; esac; '
        f'exec {sys.executable} {FAKE} "$@"'
    )
    scheduled = schedule(3, retries=1, command=["sh", "-c", script, "pipeline"])
    scheduled.wait_for_states("success", "failed", "success")
    assert scheduled.released_spans == [0, 2]
    assert scheduled.tasks(1)["release"] == ("failed", 2)
    assert "release failed: [Errno 27] File too large" in scheduled.alerts
    (scheduled.folder / "roomy").touch()
    scheduled.airflow.command(
        "tasks", "clear", scheduled.name, "-s", "2000-11-02", "-e", "2000-11-02", "--only-failed", "--yes"
    )
    scheduled.wait_for_states("success", "success", "success")
    assert _finished(scheduled)[-1] == "end 1 release"
    assert scheduled.released_spans == [0, 2]
    assert "of span 2 is later than span 1" in scheduled.log(1, "release")


def test_a_task_that_takes_too_long_is_ended_with_all_its_processes(schedule: Schedule) -> None:
    scheduled = schedule(1, slow="train 600", retries=1, timeout_hours=0.01)  # 36 s
    scheduled.wait_for_call("begin 0 train")
    first = _command_pid(scheduled, "begin 0 train")
    scheduled.wait(lambda: _command_pid(scheduled, "begin 0 train") != first)
    (scheduled.folder / "slow").write_text("train 0")
    assert not psutil.pid_exists(first)
    scheduled.wait_for_states("failed")
    assert "train failed: Timeout" in scheduled.alerts
    assert scheduled.released_spans == []


def test_a_task_cleared_while_it_runs_is_ended_and_runs_again(schedule: Schedule) -> None:
    scheduled = schedule(1, slow="train 600")
    scheduled.wait_for_call("begin 0 train")
    first = _command_pid(scheduled, "begin 0 train")
    (scheduled.folder / "slow").unlink()
    scheduled.airflow.command("tasks", "clear", scheduled.name, "-t", "train", "--downstream", "--yes")
    scheduled.wait_for_states("success")
    assert not psutil.pid_exists(first)
    assert _finished(scheduled) == _ends(0)


def test_a_run_started_by_hand_is_waited_for(schedule: Schedule) -> None:
    scheduled = schedule(1, deliver=False, slow="validate 15")
    scheduled.wait(lambda: scheduled.tasks(0).get("wait_for_data", ("",))[0] == "up_for_reschedule")
    scheduled.deliver(0)
    arguments = ["run", "--config", "c.yaml", "--span", "0", "--until", "release", "--wait", "60"]
    by_hand = subprocess.Popen(
        [sys.executable, str(FAKE), *arguments],
        cwd=scheduled.folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    scheduled.wait_for_states("success")
    assert by_hand.wait(timeout=60) == 0
    assert _finished(scheduled) == _ends(0)
    assert scheduled.released_spans == [0]
    assert all(tries == 1 for task, (_, tries) in scheduled.tasks(0).items() if task != "wait_for_data")
