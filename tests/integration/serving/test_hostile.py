"""Ten thousand requests that nobody means well with, and two thousand over REST, against a server process."""

import json
import os
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.client import RetrievalClient
from serving.proto.generate import ROOT
from tests.integration.serving import hostile, hostile_rest
from tests.integration.serving.conformance import signatures
from tests.integration.serving.conformance.http import Http
from tests.unit.serving import tiny

pytestmark = pytest.mark.slow

FIFTHS, CLIENTS, EACH, REST_EACH = 5, 4, 500, 100
OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_metadata_size", 1 << 20)]


class Process:
    """A server process, what it writes and where it listens."""

    def __init__(self, folder: Path, releases: Path) -> None:
        (folder / "serving.yaml").write_text("port: 0\nrest_port: 0\nreceive_seconds: 5.0\n")
        arguments = ["--releases", releases, "--model", "tiny", "--config", folder / "serving.yaml"]
        self.log = folder / "stderr"
        with self.log.open("w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "serving.server", *map(str, arguments)],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), "MALLOC_ARENA_MAX": "2"},  # the latter as in the image
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().split()[-1]
        self.rest = Http(self.process.stdout.readline().split()[-1])

    @property
    def memory(self) -> int:
        return psutil.Process(self.process.pid).memory_info().rss


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Process]:
    tiny.publish(tmp_path / hostile.RELEASES, signatures.save(tmp_path / "model"), tmp_path / "index")
    process = Process(tmp_path, tmp_path / hostile.RELEASES)
    yield process
    process.process.kill()
    process.process.wait()


def send(channel: grpc.Channel, attack: hostile.Attack) -> str:
    """ "" where the answer is right, else what is wrong with it."""
    try:
        channel.unary_unary(attack.path)(attack.message, timeout=60)
        code, details = grpc.StatusCode.OK, ""
    except grpc.RpcError as error:
        code, details = error.code(), error.details()
    if code in attack.right:
        return ""
    return f"{code.name}: {str(details)[:200]!r} for {attack.path} {attack.message[:200]!r}"


def storm(address: str, seed: int) -> list[str]:
    chance = random.Random(seed)
    with grpc.insecure_channel(address, OPTIONS) as channel:
        return [wrong for _ in range(EACH) if (wrong := send(channel, hostile.attack(chance)))]


def send_rest(rest: Http, ask: hostile_rest.Ask) -> str:
    """As `send`: right is an answer, or the caller's mistake."""
    status, _, body = rest.ask(*ask)
    if status == 200 or (400 <= status < 500 and list(json.loads(body)) == ["error"]):
        return ""
    return f"{status}: {body[:200]!r} for {ask.path[:200]} {ask.body[:200]!r}"


def rest_storm(rest: Http, seed: int) -> list[str]:
    chance = random.Random(seed)
    return [wrong for _ in range(REST_EACH) if (wrong := send_rest(rest, hostile_rest.ask(chance)))]


def slow_calls(channel: grpc.Channel) -> set[grpc.StatusCode]:
    """How calls end whose message never comes, comes not at all, or that are left after a moment."""
    never = threading.Event()

    def silent() -> Iterator[bytes]:
        never.wait()
        yield b""

    calls = [channel.stream_unary(path).future(silent()) for path in hostile.PATHS * 2]
    calls += [channel.stream_unary(path).future(iter(())) for path in hostile.PATHS]
    calls += [channel.unary_unary(path).future(message, timeout=0.001) for path, message in hostile.GOOD]
    codes = {call.code() for call in calls}  # waits for the call's end
    never.set()
    return codes


def test_ten_thousand_hostile_requests(server: Process) -> None:
    wrong: list[str] = []
    memory = []
    heavy, heavy_asks = list(hostile.heavy()), list(hostile_rest.heavy())
    port = int(server.address.rsplit(":", 1)[1])
    with ThreadPoolExecutor(CLIENTS) as clients, grpc.insecure_channel(server.address, OPTIONS) as channel:
        for fifth in range(FIFTHS):
            # At first by all clients at once, so that what malloc keeps of it for each thread is there from the start.
            attacks = [attack for attack in heavy for _ in range(1 if fifth else CLIENTS)]
            wrong += [problem for problem in clients.map(send, [channel] * len(attacks), attacks) if problem]
            asks = [ask for ask in heavy_asks for _ in range(1 if fifth else CLIENTS)]
            wrong += [problem for problem in clients.map(send_rest, [server.rest] * len(asks), asks) if problem]
            seeds = range(fifth * CLIENTS, (fifth + 1) * CLIENTS)
            connections = hostile.rude_connections(port, random.Random(fifth))
            wrong += [problem for found in clients.map(storm, [server.address] * CLIENTS, seeds) for problem in found]
            wrong += [problem for found in clients.map(rest_storm, [server.rest] * CLIENTS, seeds) for problem in found]
            if fifth % 2 == 0:
                wrong += [f"{code.name} for a slow call" for code in slow_calls(channel) & hostile.NEVER]
            for connection in connections:
                connection.close()
            memory.append(server.memory)
    assert server.process.poll() is None
    assert wrong == [], (len(wrong), Counter(problem[:60] for problem in wrong), wrong[:20])
    assert "Traceback" not in server.log.read_text()
    assert max(memory[2:]) < 1.05 * memory[1], memory
    with RetrievalClient(server.address, timeout=30) as client:
        answer = client.recommend(query_id="alice", k=2)
    assert [(item.item_id, item.score) for item in answer.items] == [("i5", 5.0), ("i4", 4.0)]
    with grpc.insecure_channel(server.address) as channel:
        status = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30).status
    assert status == health_pb2.HealthCheckResponse.SERVING
