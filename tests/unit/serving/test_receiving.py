import threading
from collections.abc import Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.admission import Admission, WorkerPool
from serving.receiving import Receiving
from tests.unit.serving.echo import ECHO, healthy, message, refusals, serving, status_of

INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture
def channel() -> Iterator[grpc.Channel]:
    pool, receiving = WorkerPool(threads=2, queued=2), Receiving(seconds=1)
    receiving.start()
    with (
        serving(pool, [Admission(pool, refusals()), receiving]) as address,
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


def test_clients_that_send_nothing_do_not_keep_the_threads(channel: grpc.Channel) -> None:
    never = threading.Event()

    def silent() -> Iterator[bytes]:
        never.wait()
        yield b""

    # Both threads, both places to wait, and both threads of the health checks.
    calls = [channel.stream_unary(ECHO).future(silent()) for _ in range(4)]
    calls += [channel.stream_unary("/grpc.health.v1.Health/Check").future(silent()) for _ in range(2)]
    calls += [channel.stream_unary("/grpc.health.v1.Health/Watch").future(silent()) for _ in range(2)]
    for call in calls:
        with pytest.raises((grpc.RpcError, grpc.FutureCancelledError)):
            call.result(timeout=30)
        assert call.code() is grpc.StatusCode.CANCELLED
    never.set()
    assert channel.unary_unary(ECHO)(message("x"), timeout=30) == message("x")
    assert healthy(channel)


def test_watching_health_keeps_no_thread(channel: grpc.Channel) -> None:
    watches = [health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest()) for _ in range(5)]
    assert [next(watch).status for watch in watches] == [health_pb2.HealthCheckResponse.SERVING] * 5
    assert healthy(channel)
    for watch in watches:
        watch.cancel()
