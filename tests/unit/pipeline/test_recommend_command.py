"""What the command `recommend` asks for and shows, with a server that answers by rote."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
import yaml
from typer.testing import CliRunner, Result

from pipeline import cli
from pipeline.options import UserError
from serving.proto import retrieval_pb2, retrieval_pb2_grpc


class ByRote(retrieval_pb2_grpc.RetrievalServiceServicer):
    def Recommend(
        self, request: retrieval_pb2.RecommendRequest, context: grpc.ServicerContext
    ) -> retrieval_pb2.RecommendResponse:
        self.request = request
        if request.label == "none":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such label")
        if request.label == "early":
            context.abort(grpc.StatusCode.UNAVAILABLE, "no release is loaded yet")
        return retrieval_pb2.RecommendResponse(
            items=[{"item_id": "7", "score": 0.5, "features": {"title": "Seven"}}],
            truncated=True,
            truncated_by=[retrieval_pb2.TRUNCATION_FILTERS, retrieval_pb2.TRUNCATION_MIN_SCORE],
        )


@pytest.fixture
def server() -> Iterator[tuple[ByRote, str]]:
    servicer, server = ByRote(), grpc.server(ThreadPoolExecutor(1))
    retrieval_pb2_grpc.add_RetrievalServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"127.0.0.1:{port}"
    server.stop(None)


def call(address: str, *arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["recommend", "--query-id", "42", "--address", address, *arguments])


def test_options_reach_the_server(server: tuple[ByRote, str]) -> None:
    servicer, address = server
    options = ["--allow", "genres=War", "--allow", "year=1995", "--allow", "genres=a=b", "--deny", "genres="]
    done = call(address, "--k", "5", "--exclude", "9", *options, "--min-score", "-0.5", "--label", "stable")
    assert done.exit_code == 0
    assert servicer.request == retrieval_pb2.RecommendRequest(
        query_id="42",
        k=5,
        exclude_ids=["9"],
        exclude_seen=True,
        allow=[{"attribute": "genres", "values": ["War", "a=b"]}, {"attribute": "year", "values": ["1995"]}],
        deny=[{"attribute": "genres", "values": [""]}],
        min_score=-0.5,
        label="stable",
        item_features=["category", "title", "year"],
    )
    assert "Seven" in done.output
    assert "Fewer than asked for, because of: filters, min_score" in done.output


def test_filter_without_a_value(server: tuple[ByRote, str]) -> None:
    done = call(server[1], "--deny", "genres")
    assert str(done.exception) == "--deny genres: expected ATTRIBUTE=VALUE"


def test_refusal_is_shown_as_it_is(server: tuple[ByRote, str]) -> None:
    done = call(server[1], "--label", "none")
    assert str(done.exception) == "INVALID_ARGUMENT: no such label"


def test_only_where_none_answers_is_asked_whether_a_server_runs(server: tuple[ByRote, str]) -> None:
    assert str(call(server[1], "--label", "early").exception) == "UNAVAILABLE: no release is loaded yet"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        done = call(f"127.0.0.1:{taken.getsockname()[1]}")
    assert str(done.exception).startswith("UNAVAILABLE: ")
    assert "\nIs a server running? Start one with: python -m pipeline serve --config " in str(done.exception)


@pytest.mark.parametrize("command", [["recommend", "--query-id", "42"], ["check-served", "--wait", "0"]])
def test_a_host_that_is_an_ipv6_address(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    channel = grpc.insecure_channel

    def noted(address: str, options: object) -> grpc.Channel:
        asked.append(address)
        return channel(address)

    monkeypatch.setattr(grpc, "insecure_channel", noted)
    tree = yaml.safe_load(Path("configs/ta_feng.yaml").read_text())
    tree["root"] = str(tmp_path)
    tree["serving"] = {"host": "::1", "port": 1}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    CliRunner().invoke(cli.app, [*command, "--config", str(tmp_path / "c.yaml")])
    assert asked == ["[::1]:1"]


def test_more_items_than_the_protocol_can_ask_for(server: tuple[ByRote, str]) -> None:
    done = call(server[1], "--k", "2147483648")
    assert done.exit_code == 2
    assert "Invalid value for '--k'" in done.output


def test_a_span_that_would_change_nothing() -> None:
    done = CliRunner().invoke(cli.app, ["validate", "--config", "configs/ta_feng.yaml", "--span", "5"])
    assert str(done.exception) == (
        "--span 5: no file pattern of the configuration has {SPAN}, so it would change nothing"
    )


@pytest.mark.parametrize(
    ("option", "named"), [("--query-id", "a=\\udcff"), ("--exclude", "a=\\udcff"), ("--allow", "\\udcff")]
)
def test_what_is_not_utf8_is_named(server: tuple[ByRote, str], option: str, named: str) -> None:
    # As Python hands the byte 0xff of a command line on.
    done = call(server[1], option, "a=\udcff")
    assert isinstance(done.exception, UserError)
    assert str(done.exception) == f"'{named}' is not UTF-8"
