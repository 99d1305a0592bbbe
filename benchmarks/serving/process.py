"""Processes of the benchmark, and what they take of the machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from benchmarks.serving import synthetic

ENVIRONMENT = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_USE_LEGACY_KERAS": "1"}
TICKS = os.sysconf("SC_CLK_TCK")


class BenchmarkError(RuntimeError):
    """A process of the benchmark failed."""


@dataclass
class Server:
    """A running server."""

    process: subprocess.Popen
    address: str
    version: int
    start_seconds: float  # from its start to the line that says it is ready

    def cpu_seconds(self) -> float:
        """Processor time of all its processes so far."""
        fields = [_read(pid, "stat").rsplit(")", 1)[1].split() for pid in self._pids()]
        return sum(int(values[11]) + int(values[12]) for values in fields) / TICKS

    def memory_mib(self) -> float:
        """Resident memory of all its processes; what they share counts once for each."""
        found = [re.search(r"VmRSS:\s+(\d+) kB", _read(pid, "status")) for pid in self._pids()]
        return sum(int(match.group(1)) for match in found if match) / 1024

    def _pids(self) -> list[int]:
        parent = self.process.pid
        return [parent, *map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())]


def _read(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


@contextmanager
def serving(releases: Path, scratch: Path, processes: int = 1, one_core: bool = False) -> Iterator[Server]:
    """The retrieval server over a folder of releases. Its configuration and log go to the folder `scratch`.

    Raises:
      BenchmarkError: it does not start, or does not use a TensorFlow Lite model that is there.
    """
    config, log = scratch / "server.yaml", scratch / "server.log"
    config.write_text(json.dumps({"processes": processes, "one_core": one_core}))
    options = ["--releases", releases, "--model", synthetic.MODEL_NAME, "--port", 0, "--config", config]
    with started("serving.server", *options, log=log) as server:
        if "not used" in log.read_text():
            raise BenchmarkError(f"the server falls back to the signature:\n{log.read_text()}")
        yield server


@contextmanager
def started(module: str, *arguments: object, log: Path) -> Iterator[Server]:
    """A server that says when it is ready, stopped in the end.

    Raises:
      BenchmarkError: it does not start.
    """
    start = time.perf_counter()
    with log.open("w") as stderr:
        process = _python(module, *arguments, stderr=stderr)
    try:
        assert process.stdout is not None
        ready = re.match(r"serving \S+ version (\d+) on (\S+)", process.stdout.readline())
        if ready is None:
            raise BenchmarkError(f"the server did not start:\n{log.read_text()}")
        yield Server(process, ready.group(2), int(ready.group(1)), time.perf_counter() - start)
    finally:
        process.terminate()
        process.wait()


def ask(server: Server, how: str, number: float, seconds: float) -> dict:
    """Runs benchmarks.serving.load against a server; adds the server's processor time and memory.

    Raises:
      BenchmarkError: the generator failed, or an answer was wrong or missing.
    """
    generator = _python("benchmarks.serving.load", server.address, server.version, how, number, seconds)
    assert generator.stdout is not None
    generator.stdout.readline()
    before = server.cpu_seconds()
    generator.stdout.readline()
    cpu = server.cpu_seconds() - before
    measured = _result(generator)
    errors = dict(measured.pop("errors"))
    # At random moments more may come at once than the server takes: that it then refuses is its answer.
    refused = errors.pop("RESOURCE_EXHAUSTED", 0) if how == "open" else 0
    if errors:
        raise BenchmarkError(f"{how} {number:.0f}: not answered: {errors}")
    return {
        **measured,
        "refused": refused,
        "cpu_us": cpu / measured["answers"] * 1e6,
        "memory_mib": server.memory_mib(),
    }


def run(module: str, *arguments: object) -> dict:
    """Runs a module that prints JSON.

    Raises:
      BenchmarkError: it failed.
    """
    return _result(_python(module, *arguments))


def tensorflow_seconds() -> float:
    """How long a process takes that imports TensorFlow and nothing else, its files in memory as for the servers."""
    seconds = 0.0
    for _ in range(2):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import tensorflow"], env=ENVIRONMENT, check=True, capture_output=True)
        seconds = time.perf_counter() - start
    return seconds


def _python(module: str, *arguments: object, stderr: IO[str] | None = None) -> subprocess.Popen:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=stderr or subprocess.DEVNULL, text=True
    )


def _result(process: subprocess.Popen) -> dict:
    output, _ = process.communicate()
    if process.returncode:
        raise BenchmarkError(f"{process.args}: failed; run it by hand to see why")
    last = output.splitlines()[-1:]
    return json.loads(last[0]) if last else {}
