"""The retrieval service over gRPC, in this process."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2

from serving import loading
from serving.client import RetrievalClient, RetrievalError
from serving.config import ServingConfig
from serving.proto import retrieval_pb2, retrieval_pb2_grpc
from serving.release import ReleaseError, verify_release
from serving.server import HEALTH_NAMES, Server, ServerError
from tests.integration.serving.asking import health
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
