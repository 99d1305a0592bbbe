import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.access import TokenCheck, Tokens
from serving.admission import HEALTH_THREADS, WorkerPool
from serving.receiving import Receiving
from tests.unit.serving.echo import ECHO, HEALTH, admission, healthy, message, serving, status_of, until

INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture
def channel() -> Iterator[grpc.Channel]:
    pool, receiving = WorkerPool(threads=2, queued=2), Receiving(seconds=1)
    receiving.start()
    with (
        serving(pool, [admission(pool), receiving]) as address,
        grpc.insecure_channel(address) as channel,
    ):
        yield channel
    receiving.stop()


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xff\xff",
        b"\x0a\x05abc",
        b"\x0a\x02\xff\xfe",  # text that is no UTF-8
    ],
)
def test_bytes_that_are_no_proto_are_the_callers_mistake(
    channel: grpc.Channel, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    assert status_of(lambda: channel.unary_unary(ECHO)(content, timeout=30)) == (
        INVALID,
        f"the message is no request of {ECHO}",
    )
    assert caplog.records == []


def test_empty_message(channel: grpc.Channel) -> None:
    assert channel.unary_unary(ECHO)(b"", timeout=30) == b""


def test_stream_that_ends_without_a_message(channel: grpc.Channel) -> None:
    call = channel.stream_unary(ECHO)
    assert status_of(lambda: call(iter(()), timeout=30)) == (INVALID, f"{ECHO} takes one message, there is none")


def silent(until: threading.Event) -> Iterator[bytes]:
    until.wait()
    yield b""


def test_clients_that_send_nothing_do_not_keep_the_threads(channel: grpc.Channel) -> None:
    never = threading.Event()
    # Both threads and both places to wait.
    calls = [channel.stream_unary(ECHO).future(silent(never)) for _ in range(4)]
    calls += [channel.stream_unary("/grpc.health.v1.Health/Check").future(silent(never)) for _ in range(2)]
    calls += [channel.stream_unary("/grpc.health.v1.Health/Watch").future(silent(never)) for _ in range(2)]
    for call in calls:
        with pytest.raises((grpc.RpcError, grpc.FutureCancelledError)):
            call.result(timeout=30)
        assert call.code() is grpc.StatusCode.CANCELLED
    never.set()
    assert channel.unary_unary(ECHO)(message("x"), timeout=30) == message("x")
    assert healthy(channel)


def test_health_and_refusals_while_clients_send_nothing(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("token")
    pool, receiving, never = WorkerPool(threads=1, queued=0), Receiving(seconds=60), threading.Event()
    admitting = admission(pool)
    check = TokenCheck(Tokens(tmp_path / "tokens"), admitting)
    # Receiving is not started: it gives up nobody.
    with (
        serving(pool, [check, admitting, receiving]) as address,
        grpc.insecure_channel(address) as channel,
        grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as other,
    ):
        calls = [
            other.stream_unary("/grpc.health.v1.Health/Check").future(silent(never)) for _ in range(HEALTH_THREADS)
        ]
        until(lambda: admitting._health.full)
        assert healthy(channel)
        HEALTH.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        assert not healthy(channel)
        HEALTH.set("", health_pb2.HealthCheckResponse.SERVING)
        echo = channel.unary_unary(ECHO)
        wrong = status_of(lambda: echo(message("x"), timeout=30, metadata=[("authorization", "Bearer other")]))
        assert wrong[0] is grpc.StatusCode.UNAUTHENTICATED
        right = [("authorization", "Bearer token")]
        assert echo(message("x"), timeout=30, metadata=right) == message("x")
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=30)
        assert status_of(lambda: next(watch))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
        for call in calls:
            call.cancel()
        never.set()


def test_silent_health_checks_are_given_up_before_other_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, receiving, never = WorkerPool(threads=1, queued=0), Receiving(seconds=3600), threading.Event()
    receiving.start()
    with serving(pool, [admission(pool), receiving]) as address, grpc.insecure_channel(address) as channel:
        echo = channel.stream_unary(ECHO).future(silent(never))
        check = channel.stream_unary("/grpc.health.v1.Health/Check").future(silent(never))
        assert check.code() is grpc.StatusCode.CANCELLED
        assert not echo.done()
        echo.cancel()
        until(lambda: not pool.open)
        # As if it had waited for its thread: what is there is taken, what is not is not waited for.
        monkeypatch.setattr("serving.receiving.came_in", lambda: time.monotonic() - 3600)
        assert channel.unary_unary(ECHO)(message("x"), timeout=30) == message("x")
        assert channel.stream_unary(ECHO).future(silent(never)).code() is grpc.StatusCode.CANCELLED
        never.set()
    receiving.stop()


def test_watching_health_keeps_no_thread() -> None:
    pool, receiving = WorkerPool(threads=1, queued=0), Receiving(seconds=1)
    admitting = admission(pool)
    with serving(pool, [admitting, receiving]) as address, grpc.insecure_channel(address) as channel:
        watches = []
        for _ in range(HEALTH_THREADS + 1):
            watches.append(health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest()))
            assert next(watches[-1]).status == health_pb2.HealthCheckResponse.SERVING
            until(lambda: admitting._health.open == 0)
        assert healthy(channel)
        for watch in watches:
            assert watch.is_active()
            watch.cancel()
