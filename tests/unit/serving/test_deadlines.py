"""A request that waited for a thread until its deadline was past costs no work, over a real channel."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from serving.deadlines import Deadlines


class Work:
    """A server with one thread and one method, which notes its requests and holds the thread for "hold"."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.started, self.go = threading.Event(), threading.Event()
        handlers = {"M": grpc.unary_unary_rpc_method_handler(self.method)}
        self.pool = ThreadPoolExecutor(1)
        self.server = grpc.server(self.pool, interceptors=[Deadlines()])
        self.server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("a.S", handlers)])
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def method(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.seen.append(request)
        if request == b"hold":
            self.started.set()
            assert self.go.wait(60)
        return request


@pytest.fixture
def work() -> Iterator[Work]:
    work = Work()
    yield work
    work.go.set()
    work.server.stop(0).wait()


def test_expired_while_waiting(work: Work) -> None:
    with grpc.insecure_channel(work.address) as channel:
        call = channel.unary_unary("/a.S/M")
        held = call.future(b"hold", timeout=60)
        assert work.started.wait(60)
        late = call.future(b"late", timeout=0.05)
        assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        time.sleep(0.5)  # the server counts from when the request arrived there
        work.go.set()
        assert held.result(60) == b"hold"
        assert call(b"in time", timeout=60) == b"in time"
        assert call(b"no deadline") == b"no deadline"
    assert work.seen == [b"hold", b"in time", b"no deadline"]


class Expired:
    """A call that is seen by a thread just when its time is up."""

    def __init__(self, remaining: float, active: bool) -> None:
        self._remaining, self._active = remaining, active

    def time_remaining(self) -> float:
        return self._remaining

    def is_active(self) -> bool:
        return self._active

    def abort(self, code: grpc.StatusCode, details: str) -> None:
        raise RuntimeError(code)


@pytest.mark.parametrize(("remaining", "active"), [(0.0, True), (5.0, False)], ids=["too late", "caller gone"])
def test_no_work(remaining: float, active: bool) -> None:
    seen: list[str] = []
    answer = Deadlines().wrap("a.S/M", lambda request, context: seen.append(request))
    with pytest.raises(RuntimeError, match="DEADLINE_EXCEEDED"):
        answer("x", Expired(remaining, active))  # type: ignore[arg-type]
    assert seen == []
    answer("x", Expired(5.0, True))  # type: ignore[arg-type]
    assert seen == ["x"]
