"""One Airflow with a real scheduler on a real PostgreSQL, and pipelines to schedule on it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import yaml

from pipeline.airflow.local import Database, Supervisor, environment, prepare_database, write_dag_files

ROOT = Path(__file__).resolve().parents[2]
FAKE = Path(__file__).with_name("fake_pipeline.py")
START = date(2000, 11, 1)
HEADER = "user_id,item_id,timestamp\n"
CATALOGUES = {"items": "item_id,category,subgroup,subclass", "queries": "user_id,age_group,pin_code"}


@dataclass
class Airflow:
    """A running Airflow; what dies in it is started again, as `make airflow` does."""

    home: Path
    database: Database
    supervisor: Supervisor
    environment: dict[str, str]

    def command(self, *arguments: str) -> None:
        """Runs `airflow` with some arguments to its end."""
        subprocess.run(["airflow", *arguments], env=self.environment, capture_output=True, check=True)

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of Airflow's database; none while it is down."""
        try:
            connection = psycopg2.connect(self.database.url.replace("+psycopg2", ""))
        except psycopg2.OperationalError:
            return []
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, values)
                return cursor.fetchall()
        except psycopg2.OperationalError:
            return []
        finally:
            connection.close()

    def wait_for_run(self, dag: str, seconds: float) -> dict[str, str | None]:
        """Waits for the end of a DAG's only run; returns each task's state and prints the logs of those failed."""
        deadline = time.monotonic() + seconds
        statement = "select task_id, state from task_instance where dag_id = %s"
        while self.query("select state from dag_run where dag_id = %s", dag) not in ([("success",)], [("failed",)]):
            if time.monotonic() > deadline:
                pytest.fail(f"{dag} not within {seconds:.0f} s: {self.query(statement, dag)}")
            time.sleep(0.5)
        states = dict(self.query(statement, dag))
        for task in (task for task, state in states.items() if state == "failed"):
            for file in (self.home / "logs").glob(f"dag_id={dag}/run_id=*/task_id={task}/attempt=*.log"):
                print(f"--- {task}", *file.read_text().splitlines()[-60:], sep="\n")
        return states


@dataclass
class Scheduled:
    """A pipeline in a folder of its own, scheduled daily; spans are counted from 0 here."""

    airflow: Airflow
    folder: Path
    name: str
    first_day: date = START

    def deliver(self, span: int, text: str = HEADER + "u,i,1\n") -> None:
        file = self.folder / "data" / str(span) / "interactions.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    @property
    def states(self) -> list[str]:
        """Of the runs, in order of their spans."""
        rows = self.airflow.query("select state from dag_run where dag_id = %s order by execution_date", self.name)
        return [state for (state,) in rows]

    def tasks(self, span: int) -> dict[str, tuple[str | None, int]]:
        """State and number of tries of each task of a span's run."""
        day = self.first_day + timedelta(days=span)
        rows = self.airflow.query(
            "select t.task_id, t.state, t.try_number from task_instance t join dag_run r using (dag_id, run_id) "
            "where dag_id = %s and date(r.execution_date at time zone 'UTC') = %s",
            self.name,
            day,
        )
        return {task: (state, tries) for task, state, tries in rows}

    def log(self, span: int, task: str) -> str:
        """All tries of a task, one after the other."""
        day = self.first_day + timedelta(days=span)
        files = (self.airflow.home / "logs").glob(f"dag_id={self.name}/run_id=*{day}T*/task_id={task}/attempt=*.log")
        return "".join(file.read_text() for file in sorted(files))

    @property
    def calls(self) -> list[str]:
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def released_spans(self) -> list[int]:
        """Of each release, oldest first."""
        root = self.folder / "runs" / self.name / "releases"
        versions = sorted(int(p.name) for p in root.iterdir()) if root.exists() else []
        return [yaml.safe_load((root / str(v) / "release.json").read_text())["span"] for v in versions]

    @property
    def alerts(self) -> str:
        file = self.folder / "alerts"
        return file.read_text() if file.exists() else ""

    def wait(self, what: Callable[[], object], seconds: float = 600) -> None:
        """Waits until something is true; fails with what the runs look like."""
        deadline = time.monotonic() + seconds
        while not what():
            if time.monotonic() > deadline:
                spans = {span: self.tasks(span) for span in range(len(self.states))}
                pytest.fail(f"not within {seconds:.0f} s; runs {self.states}, tasks {spans}, calls {self.calls}")
            time.sleep(0.5)

    def wait_for_states(self, *states: str, seconds: float = 600) -> None:
        """Waits until the runs have ended like this; the first that ended otherwise fails at once."""

        def ended() -> bool:
            now = self.states
            wrong = [
                is_ for is_, wanted in zip(now, states, strict=False) if is_ in ("success", "failed") and is_ != wanted
            ]
            if wrong:
                pytest.fail(f"runs {now}, wanted {list(states)}; alerts: {self.alerts}")
            return now == list(states)

        self.wait(ended, seconds)

    def wait_for_call(self, call: str) -> None:
        self.wait(lambda: any(line.startswith(call) for line in self.calls))


@pytest.fixture(scope="session")
def airflow() -> Iterator[Airflow]:
    # Not below pytest's own folder: another pytest of the same user closes that to the user that PostgreSQL runs as.
    with tempfile.TemporaryDirectory(prefix="airflow-", ignore_cleanup_errors=True) as folder:
        yield from _run(Path(folder))


def _run(home: Path) -> Iterator[Airflow]:
    database = Database(home / "postgres")
    variables = {
        **environment(home, database.url, port=0),
        "AIRFLOW__SCHEDULER__MIN_FILE_PROCESS_INTERVAL": "30",
        "AIRFLOW__SCHEDULER__DAG_DIR_LIST_INTERVAL": "1",
        "AIRFLOW__SCHEDULER__PARSING_PROCESSES": "1",
        # A DAG of TFX's runner imports TensorFlow.
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",
        "AIRFLOW__CORE__DAG_FILE_PROCESSOR_TIMEOUT": "330",
        # Deaths are noticed in seconds instead of minutes; a busy machine may keep a heartbeat waiting as long as that.
        "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "2",
        "AIRFLOW__SCHEDULER__LOCAL_TASK_JOB_HEARTBEAT_SEC": "2",
        "AIRFLOW__SCHEDULER__SCHEDULER_ZOMBIE_TASK_THRESHOLD": "30",
        "AIRFLOW__SCHEDULER__ZOMBIE_DETECTION_INTERVAL": "2",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "20",
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
        "PYTHONPATH": str(ROOT),
    }
    prepare_database(variables)
    supervisor = Supervisor(variables, home / "logs" / "processes")
    supervisor.start("scheduler", ["airflow", "scheduler", "--skip-serve-logs"])
    stop = threading.Event()

    def revive() -> None:
        while not stop.wait(1):
            database.revive()
            supervisor.revive()

    reviver = threading.Thread(target=revive)
    reviver.start()
    yield Airflow(home, database, supervisor, {**os.environ, **variables})
    stop.set()
    reviver.join()
    supervisor.stop()


@pytest.fixture
def schedule(airflow: Airflow, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Scheduled]:
    """Puts a pipeline on the schedule, once, for so many spans: schedule(spans, slow=..., split=..., **keys)."""

    def put(
        spans: int,
        *,
        deliver: bool = True,
        slow: str = "",
        command: Sequence[str] = (),
        split: dict[str, Any] | None = None,
        **changes: Any,
    ) -> Scheduled:
        config = yaml.safe_load((ROOT / "configs" / "ta_feng.yaml").read_text())
        config["name"] = request.node.name.removeprefix("test_")
        config["data"]["interactions"]["files"] = "data/{SPAN}/interactions.csv"
        config["data"]["split"] = split or config["data"]["split"]
        for kind, columns in CATALOGUES.items():
            config["data"][kind]["files"] = f"data/{kind}.csv"
            (tmp_path / "data").mkdir(exist_ok=True)
            (tmp_path / "data" / f"{kind}.csv").write_text(f"{columns}\n{','.join('x' * len(columns.split(',')))}\n")
        config["schedule"] = {
            "start": START,
            "end": START + timedelta(days=spans - 1),
            "poke_minutes": 0.05,
            "retries": 2,
            "retry_minutes": 0.05,
            "alert": ["sh", "-c", f"cat >> {tmp_path}/alerts"],
            **changes,
        }
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
        if slow:
            (tmp_path / "slow").write_text(slow)
        scheduled = Scheduled(airflow, tmp_path, config["name"])
        if deliver:
            for span in range(spans):
                scheduled.deliver(span)
        write_dag_files(airflow.home, [Path("c.yaml")], tmp_path, command or [sys.executable, str(FAKE)])
        return scheduled

    return put
