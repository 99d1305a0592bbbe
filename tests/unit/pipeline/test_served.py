"""check-served: what the server must answer, and what is said when it does not."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest

from pipeline.served import ServedError, check_served
from serving.client import RetrievalClient
from serving.config import VersionPolicy
from serving.proto import retrieval_pb2, retrieval_pb2_grpc
from serving.queries import write_queries
from serving.state import ServingState, change_state

LATEST = VersionPolicy()


class _Server(retrieval_pb2_grpc.RetrievalServiceServicer):
    """Answers with `versions`, one after the other, then with the last of them again."""

    def __init__(self) -> None:
        self.versions = [(0, 0)]
        self.known, self.items = True, ["a"]
        self.labels: dict[str, int] = {}
        self.asked: list[str] = []

    def Recommend(self, request, context):
        self.asked.append(request.query_id)
        label = request.label
        if label in self.labels:
            self.versions = [(self.labels[label], self.labels[label])]
        tower, index = self.versions.pop(0) if len(self.versions) > 1 else self.versions[0]
        return retrieval_pb2.RecommendResponse(
            items=[retrieval_pb2.Recommendation(item_id=item) for item in self.items],
            tower_version=tower,
            index_version=index,
            known_query=self.known,
        )


@pytest.fixture
def served() -> Iterator[tuple[_Server, RetrievalClient]]:
    server, servicer = grpc.server(futures.ThreadPoolExecutor(1)), _Server()
    retrieval_pb2_grpc.add_RetrievalServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with RetrievalClient(f"127.0.0.1:{port}") as client:
        yield servicer, client
    server.stop(0)


@pytest.fixture
def releases(tmp_path: Path) -> Path:
    """Versions 5 and 7, the newer with queries u and v."""
    for version in (5, 7):
        write_queries(tmp_path / str(version) / "queries", [(b"u", b""), (b"v", b"")])
    return tmp_path


def test_a_server_with_the_newest_release(served: tuple[_Server, RetrievalClient], releases: Path) -> None:
    server, client = served
    server.versions = [(7, 7)]
    assert check_served(releases, "m", LATEST, client, wait_seconds=0) == {"": 7}
    assert server.asked == ["u", "v"]


def test_a_server_gets_time_to_load_it(served: tuple[_Server, RetrievalClient], releases: Path) -> None:
    server, client = served
    server.versions = [(5, 5), (7, 7)]
    assert check_served(releases, "m", LATEST, client, wait_seconds=60) == {"": 7}


def test_an_older_release_or_a_mixed_pair(served: tuple[_Server, RetrievalClient], releases: Path) -> None:
    server, client = served
    for pair in ((5, 5), (7, 5)):
        server.versions = [pair]
        text = f"answers with tower {pair[0]} and index {pair[1]}; release 7 should answer"
        with pytest.raises(ServedError, match=text):
            check_served(releases, "m", LATEST, client, wait_seconds=0)


def test_what_an_operator_pinned_or_split_should_answer(
    served: tuple[_Server, RetrievalClient], releases: Path
) -> None:
    server, client = served
    change_state(releases, lambda _: ServingState(pinned=5))
    server.versions = [(5, 5)]
    assert check_served(releases, "m", LATEST, client, wait_seconds=0) == {"": 5}
    write_queries(releases / "9" / "queries", [(b"w", b"")])
    labels = {"stable": 5, "canary": 7}
    change_state(releases, lambda _: ServingState(labels=labels, traffic={"stable": 90, "canary": 10}))
    server.labels = labels
    assert check_served(releases, "m", LATEST, client, wait_seconds=0) == labels
    server.labels = {"stable": 5, "canary": 5}
    with pytest.raises(ServedError, match="label 'canary': answers with tower 5 and index 5; release 7 should answer"):
        check_served(releases, "m", LATEST, client, wait_seconds=0)


def test_a_label_whose_release_is_gone(served: tuple[_Server, RetrievalClient], releases: Path) -> None:
    change_state(releases, lambda _: ServingState(labels={"stable": 6}, traffic={"stable": 100}))
    with pytest.raises(ServedError, match="label 'stable' has traffic and names release 6, which is gone"):
        check_served(releases, "m", LATEST, served[1], wait_seconds=0)


def test_a_damaged_release(served: tuple[_Server, RetrievalClient], releases: Path) -> None:
    (releases / "7" / "queries" / "ids" / "offsets.npy").unlink()
    with pytest.raises(ServedError, match=r"release 7 is damaged: blob table .*ids"):
        check_served(releases, "m", LATEST, served[1], wait_seconds=0)


def test_a_policy_that_chooses_no_release(served: tuple[_Server, RetrievalClient], releases: Path) -> None:
    with pytest.raises(ServedError, match="version_policy chooses none of 5, 7"):
        check_served(releases, "m", VersionPolicy(kind="specific", versions=(6,)), served[1], wait_seconds=0)


def test_a_server_that_knows_nobody_or_nothing(served: tuple[_Server, RetrievalClient], releases: Path) -> None:
    server, client = served
    server.versions, server.items = [(7, 7)], []
    with pytest.raises(ServedError, match="query 'u' is in release 7, but the answer has 0 items for it"):
        check_served(releases, "m", LATEST, client, wait_seconds=0)
    server.known, server.items = False, ["a"]
    with pytest.raises(ServedError, match="query 'u' is in release 7, but the server does not know it"):
        check_served(releases, "m", LATEST, client, wait_seconds=0)


def test_no_server_and_no_release(releases: Path, tmp_path: Path) -> None:
    with RetrievalClient("127.0.0.1:1") as client:
        with pytest.raises(ServedError, match=r"^UNAVAILABLE"):
            check_served(releases, "m", LATEST, client, wait_seconds=0)
        with pytest.raises(ServedError, match="there is no release yet"):
            check_served(tmp_path / "none", "m", LATEST, client, wait_seconds=0)
