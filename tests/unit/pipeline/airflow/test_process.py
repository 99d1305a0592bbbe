"""A command under a task: output, exit codes, and nothing left of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.airflow.process import run_command

ROOT = Path(__file__).resolve().parents[4]


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 30
    while not _gone(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.05)


def test_lines_come_as_they_are_written(tmp_path: Path) -> None:
    lines: list[str] = []
    script = "echo one; echo refused: too few rows >&2; sleep 0.2; echo $PWD; exit 3"
    code, message = run_command(["sh", "-c", script], folder=tmp_path, on_line=lines.append)
    assert code == 3
    assert message == "refused: too few rows"
    assert sorted(lines) == sorted(["one", "refused: too few rows", str(tmp_path)])


def test_a_signal_is_a_negative_exit_code(tmp_path: Path) -> None:
    assert run_command(["sh", "-c", "kill -9 $$"], folder=tmp_path, on_line=print)[0] == -9


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        run_command(["no-such-program"], folder=tmp_path, on_line=print)


def test_an_exception_ends_the_whole_group_even_if_it_ignores_the_first_signal(tmp_path: Path) -> None:
    pids: list[int] = []

    def on_line(line: str) -> None:
        pids.extend(map(int, line.split()))
        os.kill(os.getpid(), signal.SIGUSR1)  # as Airflow ends a task: by a signal whose handler raises

    def stop(*_: object) -> None:
        raise TimeoutError

    # Parent and child both ignore SIGTERM.
    script = "trap '' TERM; sleep 600 & echo $$ $!; wait"
    previous = signal.signal(signal.SIGUSR1, stop)
    try:
        with pytest.raises(TimeoutError):
            run_command(["sh", "-c", script], folder=tmp_path, on_line=on_line, grace_seconds=0.2)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert len(pids) == 2
    for pid in pids:
        wait_until_gone(pid)


def test_a_worker_that_is_left_over_is_ended_and_not_waited_for(tmp_path: Path) -> None:
    lines: list[str] = []
    code, _ = run_command(["sh", "-c", "sleep 600 & echo $!; kill -9 $$"], folder=tmp_path, on_line=lines.append)
    assert code == -9
    wait_until_gone(int(lines[0]))


def test_kill_9_of_the_task_kills_the_command(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from pipeline.airflow.process import run_command; "
        "run_command(['sh', '-c', 'echo $$ > pid; exec sleep 600'], folder=Path.cwd(), on_line=print)"
    )
    task = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    file = tmp_path / "pid"
    deadline = time.monotonic() + 60
    while not (file.exists() and file.read_text().strip()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    task.send_signal(signal.SIGKILL)
    task.wait()
    wait_until_gone(int(file.read_text()))
