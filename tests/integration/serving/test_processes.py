"""Several server processes on one port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from serving.client import RetrievalClient, RetrievalError
from serving.config import ServingConfig
from serving.processes import serve_in_processes
from serving.proto.generate import ROOT
from serving.release import ReleaseError
from serving.server import ServerError
from tests.integration.serving.asking import Gated, refuses, wait_until
from tests.unit.serving import tiny

pytestmark = pytest.mark.slow


@contextmanager
def processes(releases: Path, stderr: Path, *more: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """Two server processes: their parent, and the address."""
    arguments = ["--releases", str(releases), "--model", "tiny", "--port", "0", "--processes", "2", *more]
    with stderr.open("w") as file:
        parent = subprocess.Popen(
            [sys.executable, "-m", "serving.server", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        )
    try:
        assert parent.stdout is not None
        line = parent.stdout.readline()
        assert line.startswith("serving tiny version "), stderr.read_text()
        yield parent, line.split()[-1]
    finally:
        for pid in children(parent.pid):
            os.kill(pid, signal.SIGKILL)
        parent.kill()
        parent.wait()


def children(parent: int) -> list[int]:
    """Its server processes; multiprocessing has one more, which looks after semaphores."""
    try:
        pids = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [int(pid) for pid in pids if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def listening(address: str) -> int:
    """How many sockets listen on a port. gRPC's are IPv6 ones that take IPv4 too."""
    port, listen = f":{int(address.split(':')[1]):04X}", "0A"
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()]
    return sum(row[1].endswith(port) and row[3] == listen for row in rows)


def recommended(address: str) -> list[str]:
    with RetrievalClient(address, timeout=30) as client:
        return [item.item_id for item in client.recommend(query_id="alice", k=2).items]


def test_they_share_a_port_and_a_dead_one_is_replaced(tmp_path: Path, model: Path) -> None:
    tiny.publish(tmp_path / "r", model, tmp_path / "index")
    with processes(tmp_path / "r", tmp_path / "stderr") as (parent, address):
        before = children(parent.pid)
        assert len(before) == listening(address) == 2
        assert [recommended(address) for _ in range(20)] == [["i5", "i4"]] * 20
        same = ServingConfig(port=int(address.split(":")[1]), processes=2)
        with pytest.raises(ServerError, match="the port is taken"):
            serve_in_processes(tmp_path / "r", "tiny", same)

        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda: listening(address) == 1)
        assert recommended(address) == ["i5", "i4"]
        wait_until(lambda: listening(address) == 2)
        after = children(parent.pid)
        assert before[1] in after
        assert before[0] not in after
        assert f"server process {before[0]} ended with -9: another is started" in (tmp_path / "stderr").read_text()

        parent.kill()
        wait_until(lambda: listening(address) == 0)
        with pytest.raises(RetrievalError, match="UNAVAILABLE"):
            recommended(address)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_both_drain(tmp_path: Path, number: signal.Signals) -> None:
    model = tiny.save_model(tmp_path / "model", Gated(tmp_path))
    tiny.publish(tmp_path / "r", model, tmp_path / "index")
    with processes(tmp_path / "r", tmp_path / "stderr") as (parent, address):
        pids = children(parent.pid)
        with RetrievalClient(address, timeout=60) as client, ThreadPoolExecutor(1) as pool:
            answer = pool.submit(client.recommend, query_id="slow", features={"w": 1.0}, k=2)
            wait_until((tmp_path / "started").exists)
            parent.send_signal(number)
            wait_until(lambda: refuses(address))
            assert not answer.done()
            assert parent.poll() is None
            (tmp_path / "go").touch()
            assert [(item.item_id, item.score) for item in answer.result(60).items] == [("i5", 5.0), ("i4", 4.0)]
        assert parent.wait(60) == 0
        assert parent.stdout is not None
        assert parent.stdout.read() == ""
        assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []


def cores(pid: int) -> dict[int, set[int]]:
    """Where each thread of a process may run."""
    threads = [int(folder.name) for folder in Path(f"/proc/{pid}/task").iterdir()]
    return {thread: os.sched_getaffinity(thread) for thread in threads}


def test_what_answers_stays_on_one_core_and_what_loads_does_not(tmp_path: Path, model: Path) -> None:
    tiny.publish(tmp_path / "r", model, tmp_path / "index")
    (tmp_path / "server.yaml").write_text("one_core: true\n")
    allowed = sorted(os.sched_getaffinity(0))
    with processes(tmp_path / "r", tmp_path / "stderr", "--config", str(tmp_path / "server.yaml")) as (parent, address):
        pids = children(parent.pid)
        before = [cores(pid).keys() for pid in pids]
        for _ in range(20):  # each on a connection of its own, so that both processes are asked
            assert recommended(address) == ["i5", "i4"]
        for number, pid in enumerate(pids):
            core = {allowed[number % len(allowed)]}
            threads = cores(pid)
            workers = [threads[thread] for thread in threads.keys() - before[number]]
            assert workers == [core] * len(workers) != []
            assert sum(where == core for where in threads.values()) > len(workers)  # and gRPC's polling thread
            assert threads[pid] == set(allowed)


def test_why_they_cannot_start_is_said_by_one(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="there is no release in"):
        serve_in_processes(tmp_path, "tiny", ServingConfig(port=0, processes=2))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"rest_port": 65535},
            "serving.rest_port is 65535, and each of the 2 processes takes one more; the last there is is 65535",
        ),
        ({"host": "a..b"}, r"cannot listen on a\.\.b:0: the port is taken, or the host is not this machine's"),
        ({"host": "a" * 70}, r"cannot listen on a{70}:0: "),
    ],
)
def test_ports_and_hosts_that_there_are_not(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ServerError, match=message):
        serve_in_processes(tmp_path, "tiny", ServingConfig(port=0, processes=2, **given))


def test_taken_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        config = ServingConfig(port=other.getsockname()[1], processes=2)
        with pytest.raises(ServerError, match=r"cannot listen on 127\.0\.0\.1:\d+: the port is taken"):
            serve_in_processes(tmp_path, "tiny", config)
