import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import grpc
from grpc_health.v1 import health_pb2

from serving.admission import WorkerPool, came_in
from serving.receiving import Receiving
from tests.unit.serving.echo import ECHO, admission, healthy, message, serving, status_of, until

OVERLOAD = (
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    "the server has as many requests as it takes: try again later",
)


class Gate:
    """An echo that begins when it is let through, and tells in which order requests began."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.entered = threading.Semaphore(0)
        self.passes = threading.Semaphore(0)

    def __call__(self, request: health_pb2.HealthCheckRequest) -> health_pb2.HealthCheckRequest:
        self.began.append(request.service)
        self.entered.release()
        assert self.passes.acquire(timeout=30)
        return request


def test_what_is_beyond_the_limits_is_refused_at_once_and_the_rest_is_answered_in_order() -> None:
    gate, pool = Gate(), WorkerPool(threads=1, queued=3)
    with (
        serving(pool, [admission(pool), Receiving(30)], gate) as address,
        grpc.insecure_channel(address) as channel,
        ThreadPoolExecutor(16) as clients,
    ):
        echo = channel.unary_unary(ECHO)
        admitted: list[Future] = []
        for number in range(4):
            admitted.append(clients.submit(echo, message(str(number)), timeout=60))
            until(lambda number=number: pool.open == number + 1)
        assert pool.full
        # The thread is held: that these are answered at all says that a refusal waits for none of them.
        assert [status_of(lambda: echo(message("more"), timeout=30)) for _ in range(20)] == [OVERLOAD] * 20
        assert healthy(channel)
        gate.passes.release()
        until(lambda: not pool.full)
        admitted.append(clients.submit(echo, message("4"), timeout=60))
        for _ in range(4):
            gate.passes.release()
        assert [future.result() for future in admitted] == [message(str(number)) for number in range(5)]
        assert gate.began == ["0", "1", "2", "3", "4"]


def test_requests_that_are_given_up_leave_no_trace() -> None:
    gate, pool = Gate(), WorkerPool(threads=1, queued=1)
    with (
        serving(pool, [admission(pool), Receiving(30)], gate) as address,
        grpc.insecure_channel(address) as channel,
    ):
        echo = channel.unary_unary(ECHO)
        running = echo.future(message("first"), timeout=60)
        assert gate.entered.acquire(timeout=30)
        waiting = echo.future(message("second"), timeout=60)
        until(lambda: pool.full)
        waiting.cancel()
        # Frames of a connection come in order: with this answer the server knows of the cancellation.
        assert healthy(channel)
        gate.passes.release()
        assert running.result() == message("first")
        until(lambda: not pool.open)
        gate.passes.release()
        assert echo(message("third"), timeout=30) == message("third")
        assert gate.began == ["first", "third"]


def test_unknown_methods_are_unimplemented() -> None:
    pool = WorkerPool(threads=1, queued=0)
    with (
        serving(pool, [admission(pool), Receiving(30)]) as address,
        grpc.insecure_channel(address) as channel,
    ):
        for method in ("/test.Echo/Other", "/grpc.health.v1.Health/Other", "/x"):
            status, _ = status_of(lambda method=method: channel.unary_unary(method)(b"", timeout=30))
            assert status is grpc.StatusCode.UNIMPLEMENTED


def test_a_request_knows_since_when_it_waits() -> None:
    pool, go = WorkerPool(threads=1, queued=1), threading.Event()
    pool.submit(go.wait)
    before = time.monotonic()
    waiting = pool.submit(came_in)
    after = time.monotonic()
    go.set()
    assert before <= waiting.result() <= after
    pool.shutdown()
