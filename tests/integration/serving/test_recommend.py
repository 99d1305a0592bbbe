"""Every field of Recommend and RecommendBatch over gRPC, against releases worked out by hand."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import grpc
import pytest

from serving.client import Recommendations, Request, RetrievalClient, RetrievalError
from serving.config import ServingConfig
from serving.metrics import Metrics
from serving.proto import retrieval_pb2, retrieval_pb2_grpc
from serving.retriever import Answer, Retriever, load_release
from serving.served import Current, Served
from serving.service import RetrievalService
from tests.unit.serving import tiny

MANY = 2000


class Running:
    """A server of two releases, the first by its label "stable" too, with a client."""

    def __init__(
        self, client: RetrievalClient, service: RetrievalService, address: str, first: int, second: int
    ) -> None:
        self.client, self.service, self.address, self.first, self.second = client, service, address, first, second


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Running]:
    """The first release has MANY items 0 to 1999 with scores 0 to 1999 for "alice", the second the five of tiny."""
    folder = tmp_path_factory.mktemp("recommend")
    many = {f"{n:04d}": [float(n), 0.0, 0.0, 0.0] for n in range(MANY)}
    first = tiny.publish(folder / "r", model, folder / "first", items=many)  # type: ignore[arg-type]
    second = tiny.publish(folder / "r", model, folder / "second", attributes=tiny.ATTRIBUTES)
    current = Current("tiny")
    current.served = Served(
        "tiny",
        {version: load_release(folder / "r" / str(version)) for version in (first, second)},
        {"stable": first},
    )
    server = grpc.server(ThreadPoolExecutor(2))
    config = ServingConfig(max_k=100, max_exclude=1500, max_batch=6)
    service = RetrievalService(current, config, Metrics(current))
    service.add_to(server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    with RetrievalClient(address, timeout=30) as client:
        yield Running(client, service, address, first, second)
    server.stop(None)


def ids(answer: Recommendations | RetrievalError) -> list[str]:
    assert isinstance(answer, Recommendations)
    return [item.item_id for item in answer.items]


@pytest.mark.parametrize(
    ("request_", "items", "truncated_by"),
    [
        ({"allow": {"genre": ["a"]}}, ["i2", "i1"], ()),
        ({"allow": {"genre": ["a", "b"], "tags": ["y"]}}, ["i3", "i2"], ()),
        ({"allow": {"tags": ["\u00e9|\n日本"]}}, ["i5"], ("filters",)),
        ({"deny": {"genre": ["b"], "tags": ["y"]}}, ["i4", "i1"], ()),
        ({"allow": {"genre": ["b"]}, "deny": {"genre": ["b"]}}, [], ("filters",)),
        ({"allow": {"genre": ["none"]}}, [], ("filters",)),
        ({"min_score": 4.0}, ["i5", "i4"], ()),
        ({"min_score": 4.5}, ["i5"], ("min_score",)),
        ({"min_score": -1.0}, ["i5", "i4"], ()),
        ({"exclude_ids": ["i5", "i5", "none", ""]}, ["i4", "i3"], ()),
        ({"exclude_seen": True, "deny": {"genre": ["a"]}}, ["i3"], ("exclusions",)),
        ({"search_effort": 0.1}, ["i5", "i4"], ()),
        ({"search_effort": 10}, ["i5", "i4"], ()),
        ({"k": 100}, ["i5", "i4", "i3", "i2", "i1"], ("catalogue",)),
    ],
)
def test_fields(running: Running, request_: dict, items: list[str], truncated_by: tuple[str, ...]) -> None:
    answer = running.client.recommend(**{"query_id": "alice", "k": 2, **request_})
    assert ids(answer) == items
    assert (answer.truncated, answer.truncated_by) == (bool(truncated_by), truncated_by)


def test_min_score_of_zero_is_one(running: Running) -> None:
    # [-1, 0, 0, 0] scores -1 to -5.
    answer = running.client.recommend(features={"w": -1.0}, k=2, min_score=0.0)
    assert (ids(answer), answer.truncated_by) == ([], ("min_score",))
    assert ids(running.client.recommend(features={"w": -1.0}, k=2)) == ["i1", "i2"]


def test_item_features_are_the_values_joined(running: Running) -> None:
    answer = running.client.recommend(query_id="alice", k=2, item_features=["tags", "genre", "tags"])
    assert [item.features for item in answer.items] == [{"tags": "x|x|\u00e9|\n日本", "genre": "b"}, {}]


def test_1024_exclusions_lose_nothing(running: Running) -> None:
    excluded = [f"{n:04d}" for n in range(MANY - 1024, MANY)]
    answer = running.client.recommend(query_id="alice", label="stable", k=3, exclude_ids=excluded)
    assert [(item.item_id, item.score) for item in answer.items] == [("0975", 975.0), ("0974", 974.0), ("0973", 973.0)]
    assert not answer.truncated


def test_versions_and_labels(running: Running) -> None:
    def chosen(**more: object) -> tuple[int, int, str]:
        answer = running.client.recommend(query_id="alice", k=1, **more)
        return answer.tower_version, answer.index_version, answer.label

    assert chosen() == (running.second, running.second, "")
    assert chosen(version=running.first) == (running.first, running.first, "")
    assert chosen(version=running.second) == (running.second, running.second, "")
    assert chosen(label="stable") == (running.first, running.first, "stable")


@pytest.mark.parametrize(
    ("request_", "status", "message"),
    [
        ({"version": 7}, "NOT_FOUND", r"Servable not found for request: Specific\(tiny, 7\)"),
        ({"version": -1}, "NOT_FOUND", r"Servable not found for request: Specific\(tiny, -1\)"),
        ({"label": "canary"}, "INVALID_ARGUMENT", "Unrecognized servable version label: canary"),
        ({"label": "stable", "version": 7}, "INVALID_ARGUMENT", "a request names a version or a label, not both"),
        ({"exclude_ids": ["i1"] * 1501}, "INVALID_ARGUMENT", "exclude_ids has 1501 ids, at most 1500 are taken"),
        ({"allow": {"title": ["x"]}}, "INVALID_ARGUMENT", "attribute 'title' is not one to filter by, .*: genre, tags"),
        ({"deny": {"genre": []}}, "INVALID_ARGUMENT", "the filter by attribute 'genre' names no value"),
        (
            {"allow": {str(n): ["a"] for n in range(30)}, "deny": {str(n): [] for n in range(3)}},
            "INVALID_ARGUMENT",
            "allow and deny have 33 filters, at most 32 are taken",
        ),
        (
            {"allow": {"genre": ["a"] * 1000}, "deny": {"tags": ["b"] * 25}},
            "INVALID_ARGUMENT",
            "allow and deny name 1025 values, at most 1024 are taken",
        ),
        ({"min_score": float("nan")}, "INVALID_ARGUMENT", "min_score is NaN"),
        ({"search_effort": 0.0}, "INVALID_ARGUMENT", "search_effort is 0, must be 0.1 to 10"),
        ({"search_effort": 10.5}, "INVALID_ARGUMENT", "search_effort is 10.5, must be 0.1 to 10"),
        ({"search_effort": float("nan")}, "INVALID_ARGUMENT", "search_effort is nan, must be 0.1 to 10"),
        ({"query_id": ""}, "INVALID_ARGUMENT", "the request needs a query_id, features or both"),
    ],
)
def test_refused(running: Running, request_: dict, status: str, message: str) -> None:
    with pytest.raises(RetrievalError, match=f"{status}: {message}$") as raised:
        running.client.recommend(**{"query_id": "alice", **request_})
    assert raised.value.status == status


def test_as_many_values_and_ids_as_are_allowed(running: Running) -> None:
    answer = running.client.recommend(
        query_id="alice", k=1, exclude_ids=["i5"] * 1500, allow={"genre": ["a"] * 1000}, deny={"tags": ["b"] * 24}
    )
    assert ids(answer) == ["i2"]


@pytest.mark.parametrize(
    ("request_", "known", "fallbacks", "missing"),
    [
        ({"query_id": "alice", "features": {"tags": [], "time": 1}}, True, (), ()),
        ({"query_id": "alice"}, True, ("missing_feature", "current_time"), ("tags",)),
        (
            {"query_id": "ünbekannt", "features": {"time": 1, "w": 1.0, "tags": "", "history": []}},
            False,
            ("unknown_query_id", "empty_string"),
            (),
        ),
        (
            {"query_id": "", "features": {"w": 1.0}},
            False,
            ("no_query_id", "missing_feature", "current_time"),
            ("tags", "history"),
        ),
    ],
)
def test_fallbacks(
    running: Running, request_: dict, known: bool, fallbacks: tuple[str, ...], missing: tuple[str, ...]
) -> None:
    answer = running.client.recommend(**request_, k=1)
    assert (answer.known_query, answer.fallbacks, answer.missing_features) == (known, fallbacks, missing)


def test_times(running: Running) -> None:
    answer = running.client.recommend(query_id="alice")
    assert answer.tower_us > 0
    assert answer.search_us > 0
    assert answer.rest_us > 0


class Leaving:
    """A call whose caller waits for two answers: then his deadline has passed, or he is gone."""

    def __init__(self, answered: list[str], late: bool) -> None:
        self.answered, self.late = answered, late

    def time_remaining(self) -> float:
        return 0.0 if self.late and len(self.answered) == 2 else 5.0

    def is_active(self) -> bool:
        return self.late or len(self.answered) < 2

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        raise RuntimeError(code.name)


class TestBatch:
    def test_each_has_its_own_status(self, running: Running) -> None:
        answers = running.client.recommend_batch(
            [
                Request(query_id="alice", k=1),
                Request(),
                Request(query_id="alice", k=101),
                Request(features={"colour": "red"}),
                Request(query_id="alice", k=2, allow={"genre": ["a"]}),
            ]
        )
        assert ids(answers[0]) == ["i5"]
        assert ids(answers[4]) == ["i2", "i1"]
        assert [str(answer) for answer in answers[1:4]] == [
            "INVALID_ARGUMENT: the request needs a query_id, features or both",
            "INVALID_ARGUMENT: k is 101, must be 1 to 100, or 0 for the default",
            "INVALID_ARGUMENT: feature 'colour' is not one of the query's, which are: history, tags, time, w",
        ]

    def test_answers_are_those_of_single_requests(self, running: Running) -> None:
        requests = [{"query_id": "alice", "k": 2}, {"query_id": "bob", "k": 3, "exclude_ids": ["i1"]}]
        answers = running.client.recommend_batch([Request(**request) for request in requests])  # type: ignore[arg-type]
        for request, answer in zip(requests, answers, strict=True):
            assert isinstance(answer, Recommendations)
            alone = running.client.recommend(**request)
            assert answer.items == alone.items
            assert (answer.known_query, answer.fallbacks) == (alone.known_query, alone.fallbacks)

    def test_is_answered_by_one_release(self, running: Running) -> None:
        answers = running.client.recommend_batch([Request(query_id="alice", k=1)] * 2, label="stable")
        assert [ids(answer) for answer in answers] == [["1999"], ["1999"]]
        assert {(answer.index_version, answer.label) for answer in answers if isinstance(answer, Recommendations)} == {
            (running.first, "stable")
        }
        [answer] = running.client.recommend_batch([Request(query_id="alice", k=1)], version=running.second)
        assert ids(answer) == ["i5"]
        for own in (Request(label="stable"), Request(version=1), Request(model="tiny")):
            [refused] = running.client.recommend_batch([own])
            assert str(refused) == (
                "INVALID_ARGUMENT: model, version and label are chosen for the whole batch, not for one of its requests"
            )

    @pytest.mark.parametrize(
        ("count", "more", "message"),
        [
            (7, {}, "INVALID_ARGUMENT: the batch has 7 requests, at most 6 are taken"),
            (1, {"label": "canary"}, "INVALID_ARGUMENT: Unrecognized servable version label: canary"),
            (1, {"model": "other"}, r"NOT_FOUND: Servable not found for request: Latest\(other\)"),
        ],
    )
    def test_refused_as_a_whole(self, running: Running, count: int, more: dict, message: str) -> None:
        with pytest.raises(RetrievalError, match=f"^{message}$"):
            running.client.recommend_batch([Request(query_id="alice")] * count, **more)

    @pytest.mark.parametrize("late", [True, False])
    def test_ends_when_nobody_waits_for_it(self, running: Running, monkeypatch: pytest.MonkeyPatch, late: bool) -> None:
        answered: list[str] = []
        recommend = Retriever.recommend

        def counted(retriever: Retriever, **arguments: Any) -> Answer:
            answered.append(arguments["query_id"])
            return recommend(retriever, **arguments)

        monkeypatch.setattr(Retriever, "recommend", counted)
        batch = retrieval_pb2.RecommendBatchRequest(requests=[{"query_id": name} for name in "abcde"])
        with pytest.raises(RuntimeError, match=r"^DEADLINE_EXCEEDED$"):
            running.service.recommend_batch(batch, Leaving(answered, late))  # type: ignore[arg-type]
        assert answered == ["a", "b"]

    def test_long_messages_are_cut(self, running: Running) -> None:
        (answer,) = running.client.recommend_batch([Request(features={"x" * 2000: "y"})])
        assert isinstance(answer, RetrievalError)
        assert answer.message == f"feature '{'x' * 991}..."  # 1000 characters and the dots

    def test_nothing_asked(self, running: Running) -> None:
        assert running.client.recommend_batch([]) == []

    def test_response_is_there_just_where_the_code_is_ok(self, running: Running) -> None:
        batch = retrieval_pb2.RecommendBatchRequest(requests=[{"query_id": "alice", "k": 1}, {}])
        with grpc.insecure_channel(running.address) as channel:
            results = retrieval_pb2_grpc.RetrievalServiceStub(channel).RecommendBatch(batch, timeout=30).results
        assert [(result.code, result.HasField("response")) for result in results] == [(0, True), (3, False)]
