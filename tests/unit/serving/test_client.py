import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest

from serving.client import Request, RetrievalClient, RetrievalError
from serving.messages import feature_value
from serving.proto import retrieval_pb2, retrieval_pb2_grpc
from serving.proto.generate import ROOT
from tests.unit.serving.certificates import Pair, make


class Scripted(retrieval_pb2_grpc.RetrievalServiceServicer):
    """Ends one call after the other with the next of some statuses, the last one for ever; keeps what it was asked."""

    def __init__(self, *statuses: grpc.StatusCode) -> None:
        self.statuses = list(statuses)
        self.requests: list[retrieval_pb2.RecommendRequest] = []
        self.metadata: dict[str, str] = {}
        self.seconds_left: list[float] = []

    def Recommend(
        self, request: retrieval_pb2.RecommendRequest, context: grpc.ServicerContext
    ) -> retrieval_pb2.RecommendResponse:
        self.requests.append(request)
        self.metadata = dict(context.invocation_metadata())
        self.seconds_left.append(context.time_remaining())
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if status is not grpc.StatusCode.OK:
            context.abort(status, "as scripted")
        return retrieval_pb2.RecommendResponse(tower_version=7)


@contextmanager
def served(servicer: Scripted, credentials: grpc.ServerCredentials | None = None) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(2))
    retrieval_pb2_grpc.add_RetrievalServiceServicer_to_server(servicer, server)
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


def test_values_by_type() -> None:
    assert list(feature_value("f", "a").strings.values) == ["a"]
    assert list(feature_value("f", ["a", "b"]).strings.values) == ["a", "b"]
    assert list(feature_value("f", 3).int64s.values) == [3]
    assert list(feature_value("f", [1, 0.5]).floats.values) == [1.0, 0.5]
    assert feature_value("f", []).WhichOneof("kind") == "strings"


@pytest.mark.parametrize("value", [True, [b"a"], ["a", 1], [None]])
def test_values_of_other_types(value: object) -> None:
    with pytest.raises(TypeError, match="feature 'f': expected strings, integers or floats"):
        feature_value("f", value)  # type: ignore[arg-type]


def test_all_fields_of_a_request() -> None:
    message = Request(
        query_id="q",
        features={"w": 1.5},
        k=3,
        exclude_ids=["a"],
        exclude_seen=True,
        allow={"genre": ["x", "y"]},
        deny={"tags": ["z"]},
        min_score=0.0,
        search_effort=2.0,
        item_features=["title"],
        model="m",
        version=4,
        label="l",
    ).message()
    assert {descriptor.name for descriptor, _ in message.ListFields()} == {
        field.name for field in retrieval_pb2.RecommendRequest.DESCRIPTOR.fields
    }
    assert [(one.attribute, list(one.values)) for one in message.allow] == [("genre", ["x", "y"])]
    assert (message.min_score, message.HasField("min_score"), message.search_effort) == (0.0, True, 2.0)


def test_fields_left_out_are_not_sent() -> None:
    assert Request(query_id="q").message() == retrieval_pb2.RecommendRequest(query_id="q")


def test_one_text_is_not_a_sequence_of_values() -> None:
    with pytest.raises(TypeError, match="deny: the values of 'genre' must be a sequence of strings, got 'abc'"):
        Request(deny={"genre": "abc"}).message()


def test_unknown_field() -> None:
    with RetrievalClient("127.0.0.1:1") as client, pytest.raises(TypeError, match="'colour'"):
        client.recommend(colour="red")


def test_no_server() -> None:
    with RetrievalClient("127.0.0.1:1", timeout=5) as client, pytest.raises(RetrievalError) as raised:
        client.recommend(query_id="u")
    assert raised.value.status == grpc.StatusCode.UNAVAILABLE.name


def test_unavailable_is_asked_again() -> None:
    servicer = Scripted(grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.OK)
    with served(servicer) as address, RetrievalClient(address, timeout=30) as client:
        assert client.recommend(query_id="u").tower_version == 7
    assert [request.query_id for request in servicer.requests] == ["u"] * 3


def test_unavailable_is_given_up_after_four_attempts() -> None:
    servicer = Scripted(grpc.StatusCode.UNAVAILABLE)
    with (
        served(servicer) as address,
        RetrievalClient(address, timeout=30) as client,
        pytest.raises(RetrievalError, match="UNAVAILABLE: as scripted"),
    ):
        client.recommend(query_id="u")
    assert len(servicer.requests) == 4


def test_each_server_of_an_address_is_asked() -> None:
    servicers = [Scripted(grpc.StatusCode.OK) for _ in range(2)]
    with (
        served(servicers[0]) as first,
        served(servicers[1]) as second,
        RetrievalClient(f"ipv4:{first},{second}", timeout=30) as client,
    ):
        while not all(servicer.requests for servicer in servicers):
            client.recommend(query_id="u")
            assert len(servicers[0].requests) + len(servicers[1].requests) < 10_000


@pytest.mark.parametrize("name", ["INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "INTERNAL"])
def test_other_statuses_are_final(name: str) -> None:
    servicer = Scripted(grpc.StatusCode[name], grpc.StatusCode.OK)
    with (
        served(servicer) as address,
        RetrievalClient(address, timeout=30) as client,
        pytest.raises(RetrievalError) as raised,
    ):
        client.recommend(query_id="u")
    assert raised.value.status == name
    assert len(servicer.requests) == 1


def test_deadline_of_one_request() -> None:
    servicer = Scripted(grpc.StatusCode.OK)
    with served(servicer) as address, RetrievalClient(address, timeout=30) as client:
        client.recommend(query_id="u", timeout=600)
        client.recommend(query_id="u")
    assert servicer.seconds_left[0] > 500
    assert servicer.seconds_left[1] < 60


def test_names_that_a_newer_server_made_up() -> None:
    class Newer(Scripted):
        def Recommend(self, request: object, context: object) -> retrieval_pb2.RecommendResponse:
            return retrieval_pb2.RecommendResponse(truncated=True, truncated_by=[2, 99], fallbacks=[5])

    with served(Newer()) as address, RetrievalClient(address, timeout=30) as client:
        answer = client.recommend(query_id="u")
    assert (answer.truncated_by, answer.fallbacks) == (("filters", "99"), ("current_time",))


def test_token() -> None:
    servicer = Scripted(grpc.StatusCode.OK)
    with served(servicer) as address:
        with RetrievalClient(address, timeout=30, token="s3cret") as client:
            client.recommend(query_id="u")
        assert servicer.metadata["authorization"] == "Bearer s3cret"
        with RetrievalClient(address, timeout=30) as client:
            client.recommend(query_id="u")
        assert "authorization" not in servicer.metadata


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    """An authority, a server and a client that it vouches for, and a stranger."""
    folder = tmp_path_factory.mktemp("tls")
    authority = make(folder, "authority")
    known = {name: make(folder, name, authority) for name in ("server", "client")}
    return {"authority": authority, "stranger": make(folder, "stranger"), **known}


def root(pair: Pair) -> bytes:
    return pair.certificate.read_bytes()


def server_credentials(pairs: dict[str, Pair], *, knows_clients: bool) -> grpc.ServerCredentials:
    own = (pairs["server"].key.read_bytes(), pairs["server"].certificate.read_bytes())
    return grpc.ssl_server_credentials([own], root(pairs["authority"]) if knows_clients else None, knows_clients)


def test_tls(pairs: dict[str, Pair]) -> None:
    trusting = grpc.ssl_channel_credentials(root(pairs["authority"]))
    with served(Scripted(grpc.StatusCode.OK), server_credentials(pairs, knows_clients=False)) as address:
        with RetrievalClient(address, timeout=30, credentials=trusting) as client:
            assert client.recommend(query_id="u").tower_version == 7
        for credentials in (None, grpc.ssl_channel_credentials(root(pairs["stranger"]))):
            with (
                RetrievalClient(address, timeout=30, credentials=credentials) as client,
                pytest.raises(RetrievalError, match="UNAVAILABLE"),
            ):
                client.recommend(query_id="u")


def test_mutual_tls(pairs: dict[str, Pair]) -> None:
    def credentials(pair: Pair) -> grpc.ChannelCredentials:
        own = pair.key.read_bytes(), pair.certificate.read_bytes()
        return grpc.ssl_channel_credentials(root(pairs["authority"]), *own)

    with served(Scripted(grpc.StatusCode.OK), server_credentials(pairs, knows_clients=True)) as address:
        with RetrievalClient(address, timeout=30, credentials=credentials(pairs["client"])) as client:
            assert client.recommend(query_id="u").tower_version == 7
        for other in (credentials(pairs["stranger"]), grpc.ssl_channel_credentials(root(pairs["authority"]))):
            with (
                RetrievalClient(address, timeout=30, credentials=other) as client,
                pytest.raises(RetrievalError, match="UNAVAILABLE"),
            ):
                client.recommend(query_id="u")


@pytest.mark.slow
def test_imports_no_tensorflow() -> None:
    code = "import sys, serving.client; print([m for m in ('tensorflow', 'numpy', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
