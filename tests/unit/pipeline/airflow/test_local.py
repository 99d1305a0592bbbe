"""The local Airflow: its DAG files, its settings, and that what dies comes back."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from pipeline.airflow.local import Supervisor, check_port, environment, look_after, write_dag_files
from pipeline.config import ConfigError
from tests.unit.pipeline.airflow.test_process import wait_until_gone

DAILY = {"start": date(2000, 11, 8)}


def test_a_dag_file_for_each_pipeline_and_none_of_ours_from_before(
    write_config: Callable[..., Path], tmp_path: Path
) -> None:
    folder = write_config(DAILY).parent
    other = folder / "other.yaml"
    other.write_text((folder / "c.yaml").read_text().replace("name: ta_feng\n", "name: other\n"))
    home = tmp_path / "home"
    (home / "dags").mkdir(parents=True)
    (home / "dags" / "payroll.py").write_text("import airflow\n")
    write_dag_files(home, [Path("c.yaml")], folder)
    (home / "dags" / "ta_feng.py").rename(home / "dags" / "gone.py")
    write_dag_files(home, [Path("c.yaml"), Path("other.yaml")], folder)
    assert sorted(p.name for p in (home / "dags").iterdir()) == ["other.py", "payroll.py", "ta_feng.py"]
    assert (home / "dags" / "payroll.py").read_text() == "import airflow\n"
    head, rest = (home / "dags" / "other.py").read_text().split("\n", 1)
    assert head.startswith("# Written by `python -m pipeline.airflow.local`")
    assert rest == (
        "from pipeline.airflow.dag import make_dag\n\n"
        f"dag = make_dag('other.yaml', folder='{folder}')\n"
    )  # fmt: skip


def test_two_pipelines_of_one_name_are_refused(write_config: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_config(DAILY).parent
    with pytest.raises(ConfigError, match=r"c\.yaml: name: there is another pipeline 'ta_feng'"):
        write_dag_files(tmp_path / "home", [Path("c.yaml"), Path("c.yaml")], folder)


def test_a_file_of_somebody_elses_is_not_overwritten(write_config: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_config(DAILY).parent
    file = tmp_path / "home" / "dags" / "ta_feng.py"
    file.parent.mkdir(parents=True)
    file.write_text("import airflow\n")
    with pytest.raises(ConfigError, match=r"c\.yaml: name: .*ta_feng\.py is not of this program's making"):
        write_dag_files(tmp_path / "home", [Path("c.yaml")], folder)
    assert file.read_text() == "import airflow\n"


def test_a_configuration_without_a_schedule_is_refused(write_config: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_config(None).parent
    with pytest.raises(ConfigError, match=r"c\.yaml: schedule: missing"):
        write_dag_files(tmp_path / "home", [Path("c.yaml")], folder)


def test_only_this_machine_reaches_it() -> None:
    variables = environment(Path("/home"), "postgresql://", 8080)
    assert variables["AIRFLOW__WEBSERVER__WEB_SERVER_HOST"] == "127.0.0.1"
    assert variables["AIRFLOW__USAGE_DATA_COLLECTION__ENABLED"] == "False"


def _wait_for(file: Path, text: str) -> None:
    deadline = time.monotonic() + 30
    while file.read_text() != text:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_dies_is_started_again_and_leaves_nothing_behind(tmp_path: Path) -> None:
    supervisor = Supervisor(os.environ, tmp_path)
    supervisor.start("sleeper", ["sh", "-c", f"sleep 600 & echo $! >> {tmp_path}/children; echo up; exec sleep 600"])
    _wait_for(tmp_path / "sleeper.log", "up\n")
    assert supervisor.revive() == []
    first = supervisor.processes["sleeper"]
    first.kill()
    first.wait()
    assert supervisor.revive() == ["sleeper"]
    _wait_for(tmp_path / "sleeper.log", "up\nup\n")
    supervisor.stop()
    assert supervisor.processes["sleeper"].poll() is not None
    for child in (tmp_path / "children").read_text().split():
        wait_until_gone(int(child))


def test_a_database_that_does_not_start_at_once_ends_nothing_else(tmp_path: Path) -> None:
    class Recovering:
        def revive(self) -> bool:
            raise subprocess.TimeoutExpired("pg_ctl", 10)

    supervisor = Supervisor(os.environ, tmp_path)
    supervisor.start("sleeper", ["true"])
    supervisor.processes["sleeper"].wait()
    told = look_after(Recovering(), supervisor)  # type: ignore[arg-type]
    supervisor.stop()
    assert told == [
        "the database does not start yet, which is tried again: Command 'pg_ctl' timed out after 10 seconds",
        "sleeper had ended and was started again",
    ]


def test_a_port_that_is_taken_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(RuntimeError, match=rf"port {port} cannot be used \(Address already in use\): give another"):
            check_port(port)
    check_port(port)
