"""The retrieval service over gRPC: in this process, and as a process of its own."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving import loading
from serving.client import RetrievalClient, RetrievalError
from serving.config import ServingConfig
from serving.proto import retrieval_pb2, retrieval_pb2_grpc
from serving.proto.generate import ROOT
from serving.release import ReleaseError, verify_release
from serving.server import HEALTH_NAMES, Server, ServerError, main
from tests.unit.serving import tiny

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Running:
    """A server in this process with a client, and the release it serves."""

    def __init__(self, server: Server, client: RetrievalClient, release: Path) -> None:
        self.server, self.client, self.release = server, client, release


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("server")
    version = tiny.publish(folder / "r", model, folder / "index", titles={"i5": "Five", "i4": 'Fo"ur,\n'})
    server = Server(folder / "r", "tiny", ServingConfig(port=0, max_k=100))
    server.start()
    with RetrievalClient(server.address, timeout=30) as client:
        yield Running(server, client, folder / "r" / str(version))
    server.stop()


def health(address: str, service: str = "") -> int:
    with grpc.insecure_channel(address) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        return health_pb2_grpc.HealthStub(channel).Check(request, timeout=30).status


def test_answer_of_a_known_query(running: Running) -> None:
    answer = running.client.recommend(query_id="alice", k=2, item_features=["title"], model="tiny")
    assert [(item.item_id, item.score) for item in answer.items] == [("i5", 5.0), ("i4", 4.0)]
    assert [item.features for item in answer.items] == [{"title": "Five"}, {"title": 'Fo"ur,\n'}]
    manifest = verify_release(running.release)
    assert answer.tower_version == answer.index_version == manifest.version
    assert answer.fingerprint == manifest.fingerprint
    assert answer.known_query
    assert not answer.truncated


def test_attributes_are_sent_only_when_asked_for(running: Running) -> None:
    answer = running.client.recommend(query_id="alice", k=5)
    assert [item.features for item in answer.items] == [{}] * 5
    answer = running.client.recommend(query_id="alice", k=5, item_features=["title"])
    assert [item.features.get("title") for item in answer.items][2:] == [None] * 3


def test_default_k_is_ten(running: Running) -> None:
    answer = running.client.recommend(query_id="alice")
    assert len(answer.items) == 5
    assert answer.truncated
    answer = running.client.recommend(query_id="alice", k=5)
    assert not answer.truncated


def test_exclusions(running: Running) -> None:
    answer = running.client.recommend(query_id="alice", k=2, exclude_ids=["i3", "i3", "none"], exclude_seen=True)
    assert [item.item_id for item in answer.items] == ["i2", "i1"]
    answer = running.client.recommend(query_id="alice", k=3, exclude_ids=list(tiny.ITEMS))
    assert answer.items == ()
    assert answer.truncated


def test_unknown_query_and_features(running: Running) -> None:
    answer = running.client.recommend(query_id="nobody", features={"w": 1, "tags": [], "history": ["i1"]}, k=1)
    assert [item.item_id for item in answer.items] == ["i5"]
    assert not answer.known_query
    answer = running.client.recommend(features={"tags": "x"}, k=1)
    assert [item.item_id for item in answer.items] == ["i1"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ({"query_id": "u", "k": -1}, "INVALID_ARGUMENT", "k is -1, must be 1 to 100, or 0 for the default"),
        ({"query_id": "u", "k": 101}, "INVALID_ARGUMENT", "k is 101, must be 1 to 100, or 0 for the default"),
        ({"query_id": "u", "model": "m"}, "NOT_FOUND", "Servable not found for request: Latest(m)"),
        ({}, "INVALID_ARGUMENT", "the request needs a query_id, features or both"),
        (
            {"features": {"colour": "red"}},
            "INVALID_ARGUMENT",
            "feature 'colour' is not one of the query's, which are: history, tags, time, w",
        ),
        ({"features": {"w": "1"}}, "INVALID_ARGUMENT", "feature 'w' must be given as floats, got str '1'"),
        (
            {"features": {"w": float("inf")}},
            "INVALID_ARGUMENT",
            "the query's embedding has NaN or infinity",
        ),
        (
            {"query_id": "u", "item_features": ["year"]},
            "INVALID_ARGUMENT",
            "item feature 'year' is not one of the index's, which are: title",
        ),
    ],
)
def test_refused_requests(running: Running, arguments: dict, status: str, message: str) -> None:
    with pytest.raises(RetrievalError) as raised:
        running.client.recommend(**arguments)
    assert (raised.value.status, raised.value.message) == (status, message)


def test_nan_is_the_missing_marker(running: Running) -> None:
    answer = running.client.recommend(features={"w": float("nan"), "tags": "x"}, k=1)
    assert [item.item_id for item in answer.items] == ["i1"]


def test_feature_without_a_value(running: Running) -> None:
    request = retrieval_pb2.RecommendRequest(query_id="u", features={"w": retrieval_pb2.FeatureValue()})
    with grpc.insecure_channel(running.server.address) as channel, pytest.raises(grpc.RpcError) as raised:
        retrieval_pb2_grpc.RetrievalServiceStub(channel).Recommend(request, timeout=30)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert raised.value.details() == "feature 'w' has no value: set strings, floats or int64s"


@pytest.mark.parametrize("content", [b"\x2a\x02\xff\xfe", b"\xff\xff\xff", b"\x32\x05abc"])
def test_bytes_that_are_no_request_do_no_harm(running: Running, content: bytes) -> None:
    # The first is a query_id that is not UTF-8.
    with grpc.insecure_channel(running.server.address) as channel:
        call = channel.unary_unary("/retrieval.v1.RetrievalService/Recommend")
        with pytest.raises(grpc.RpcError) as raised:
            call(content, timeout=30)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert len(running.client.recommend(query_id="alice", k=1).items) == 1


def test_many_clients_at_once(running: Running) -> None:
    answers = []

    def ask() -> None:
        answers.extend(running.client.recommend(query_id="alice", k=5).items[0].item_id for _ in range(20))

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["i5"] * 240


def test_awkward_ids_end_to_end(tmp_path: Path, model: Path) -> None:
    ids = ["007", "7", 'a,"b"', "a\nb\r\n", "日本語", " x ", "e\u0301", "\u00e9", "'; --", "\x00", "😀"]
    items = {item_id: [float(n), 0, 0, 0] for n, item_id in enumerate(ids)}
    tiny.publish(tmp_path / "r", model, tmp_path / "index", items=items, titles={item_id: item_id for item_id in ids})
    server = Server(tmp_path / "r", "tiny", ServingConfig(port=0))
    server.start()
    with RetrievalClient(server.address, timeout=30) as client:
        answer = client.recommend(query_id='\n,"ü', features={"w": 1.0}, k=len(ids), item_features=["title"])
        assert [item.item_id for item in answer.items] == ids[::-1]
        assert [item.features["title"] for item in answer.items] == ids[::-1]
        answer = client.recommend(features={"w": 1.0}, k=len(ids), exclude_ids=["7", "e\u0301", "\x00", "a\nb\r\n"])
        assert [item.item_id for item in answer.items] == [
            item_id for item_id in ids[::-1] if item_id not in ("7", "e\u0301", "\x00", "a\nb\r\n")
        ]
    server.stop()


def test_health(running: Running) -> None:
    assert [health(running.server.address, name) for name in HEALTH_NAMES] == [SERVING] * 4
    with pytest.raises(grpc.RpcError) as raised:
        health(running.server.address, "other")
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


def test_not_serving_while_loading(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.publish(tmp_path / "r", model, tmp_path / "index")
    server = Server(tmp_path / "r", "tiny", ServingConfig(port=0))
    load, seen = loading.open_release, []

    def observed(*arguments: object) -> object:
        seen.extend(health(server.address, service) for service in HEALTH_NAMES)
        with RetrievalClient(server.address, timeout=30) as client:
            try:
                client.recommend(query_id="alice")
            except RetrievalError as error:
                seen.append((error.status, error.message))
        return load(*arguments)

    monkeypatch.setattr(loading, "open_release", observed)
    server.start()
    assert seen == [NOT_SERVING] * 4 + [("UNAVAILABLE", "no release is loaded yet")]
    assert health(server.address) == SERVING
    server.stop()


def test_rest_is_stopped_before_a_load_is_waited_for(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.publish(tmp_path / "r", model, tmp_path / "index")
    server = Server(tmp_path / "r", "tiny", ServingConfig(port=0, rest_port=0))
    server.start()
    assert server.rest_address is not None
    host, port = server.rest_address.split(":")
    stop, refused = server._manager.stop, []

    def observed() -> None:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)), timeout=30)
        refused.append(True)
        stop()

    monkeypatch.setattr(server._manager, "stop", observed)
    server.stop()
    assert refused == [True]


def test_taken_port(running: Running) -> None:
    port = int(running.server.address.rsplit(":", 1)[1])
    with pytest.raises(ServerError, match=f"cannot listen on 127.0.0.1:{port}: the port is taken"):
        Server(running.release.parent, "tiny", ServingConfig(port=port))


def test_no_release(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="there is no release in"):
        Server(tmp_path, "tiny", ServingConfig(port=0)).start()


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "serving.server", *map(str, arguments)]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_process_stops_in_order(running: Running, tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "serving.yaml").write_text("max_k: 3\nport: 1\nrest_port: 0")
    arguments = command(
        "--releases", running.release.parent, "--model", "tiny", "--port", 0, "--config", tmp_path / "serving.yaml"
    )
    with (tmp_path / "stderr").open("w") as stderr:
        process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith(f"serving tiny version {running.release.name} on 127.0.0.1:")
        address = line.split()[-1]
        assert health(address) == SERVING
        line = process.stdout.readline()
        assert line.startswith("REST and metrics on 127.0.0.1:")
        with urllib.request.urlopen(f"http://{line.split()[-1]}/v1/models/tiny", timeout=30) as page:
            assert json.load(page)["model_version_status"][0]["state"] == "AVAILABLE"
        with RetrievalClient(address, timeout=30) as client:
            assert len(client.recommend(query_id="alice", k=3).items) == 3
            with pytest.raises(RetrievalError, match="k is 4, must be 1 to 3"):
                client.recommend(query_id="alice", k=4)
        os.kill(process.pid, number)
        assert process.wait(60) == 0
        assert process.stdout.read() == ""
    finally:
        process.kill()
        process.wait()


class Gated(tiny.TinyModel):
    """Stays in TensorFlow with the query "slow" from `folder`/started to `folder`/go."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._started, self._go = str(folder / "started"), str(folder / "go")

    @tf.function(input_signature=tiny.TinyModel.serving_default.input_signature)
    def serving_default(self, user_id, w, tags, history, time):
        rounds = 0
        if tf.reduce_any(user_id == "slow"):
            tf.io.write_file(self._started, "")
            # The pattern hangs on the loop's variable, and the answer on the rounds, lest TensorFlow leaves them out.
            while tf.size(tf.io.matching_files(tf.strings.substr(tf.strings.as_string(rounds), 0, 0) + self._go)) == 0:
                rounds += 1
        return super().serving_default(user_id, tf.where(rounds < 0, math.nan, w), tags, history, time)


@pytest.mark.slow
def test_request_under_way_at_a_stop_is_answered(tmp_path: Path) -> None:
    model = tiny.save_model(tmp_path / "model", Gated(tmp_path))
    tiny.publish(tmp_path / "r", model, tmp_path / "index")
    process = subprocess.Popen(
        command("--releases", tmp_path / "r", "--model", "tiny", "--port", 0),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        with RetrievalClient(address, timeout=60) as client, ThreadPoolExecutor(1) as pool:
            answer = pool.submit(client.recommend, query_id="slow", features={"w": 1.0}, k=2)
            wait_until((tmp_path / "started").exists)
            process.terminate()
            wait_until(lambda: refuses(address))
            assert not answer.done()
            assert process.poll() is None
            (tmp_path / "go").touch()
            assert [(item.item_id, item.score) for item in answer.result(60).items] == [("i5", 5.0), ("i4", 4.0)]
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("a minute went by in vain")


def refuses(address: str) -> bool:
    with RetrievalClient(address, timeout=30) as client:
        try:
            client.recommend(query_id="alice", k=1)
        except RetrievalError as error:
            return error.status == "UNAVAILABLE"
    return False


@pytest.mark.slow
def test_help_does_not_wait_for_tensorflow() -> None:
    code = (
        "import sys, serving.server\n"
        "try: serving.server.main(['--help'])\n"
        "finally: print([m for m in ('tensorflow', 'scann') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: python -m serving.server")
    assert done.stdout.endswith("\n[]\n")
    assert done.stderr == ""


@pytest.mark.slow
def test_process_without_releases_says_so_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "nowhere"
    arguments = command("--releases", folder, "--model", "tiny", "--port", 0)
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: there is no release in {folder}\n"


@pytest.mark.slow
def test_process_says_why_it_cannot_start(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            command("--releases", tmp_path, "--model", "tiny", "--port", port),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith(f"error: cannot listen on 127.0.0.1:{port}: the port is taken")
    assert "Traceback" not in done.stderr


def test_main_without_a_release(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert main(["--releases", str(tmp_path), "--model", "tiny", "--port", "0"]) == 1
    assert capsys.readouterr().err.endswith(f"error: there is no release in {tmp_path}\n")
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("max_kk: 3", "error: max_kk: Extra inputs are not permitted"),
        ("tls: {certificate: a}", "error: tls.key: Field required"),
        ("- port", "serving.yaml: 'list' object is not a mapping"),
        ("port: [", "serving.yaml: while parsing a flow node"),
        (None, "serving.yaml: [Errno 2] No such file or directory"),
    ],
)
def test_main_with_a_file_that_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, message: str
) -> None:
    file = tmp_path / "serving.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SystemExit) as raised:
        main(["--releases", str(tmp_path), "--model", "tiny", "--config", str(file)])
    assert raised.value.code == 2
    assert message in capsys.readouterr().err


def test_main_with_a_port_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["--releases", str(tmp_path), "--model", "tiny", "--port", "70000"])
    assert raised.value.code == 2
    assert "error: port: Input should be less than or equal to 65535" in capsys.readouterr().err
