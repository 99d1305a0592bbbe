"""Bounded work: what is beyond it is refused at once, and health checks are answered all the same."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2
from prometheus_client import Counter

from serving.cores import stay_on
from serving.status import refuse

HEALTH = "/grpc.health.v1.Health/"
HEALTH_THREADS = 4
UNREAD_THREADS = 2
FULL = grpc.StatusCode.RESOURCE_EXHAUSTED
FULL_MESSAGE = "the server has as many requests as it takes: try again later"

Continuation = Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler | None]


_running = threading.local()


class WorkerPool(ThreadPoolExecutor):
    """The threads that requests run on; knows how many wait for one, and since when."""

    def __init__(self, threads: int, queued: int, core: int | None = None) -> None:
        """Args:
        threads: requests that run at a time.
        queued: requests that may wait for a thread.
        core: the threads stay on it; None: they run wherever the kernel puts them.
        """
        # Not left to inheritance: a thread may be started by whoever submits, REST's among them.
        stay = None if core is None else partial(stay_on, core)
        super().__init__(threads, thread_name_prefix="grpc", initializer=stay)
        self._limit = threads + queued
        self.open = 0  # requests that run or wait
        self._lock = threading.Lock()

    @property
    def full(self) -> bool:
        """Whether all threads are busy and all places to wait are taken."""
        return self.open >= self._limit

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Future:
        """As in ThreadPoolExecutor; never refuses, for the caller asks `full` first."""
        with self._lock:
            self.open += 1
        future = super().submit(_run, time.monotonic(), function, *arguments, **keywords)
        # Counted by futures and not in the servicers: a call that its client gives up early reaches no servicer.
        future.add_done_callback(self._finished)
        return future

    def _finished(self, future: Future) -> None:
        with self._lock:
            self.open -= 1


def _run(submitted: float, function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Any:
    _running.submitted = submitted
    return function(*arguments, **keywords)


def came_in() -> float:
    """When the request came in that this thread of a WorkerPool runs, by time.monotonic."""
    submitted: float = _running.submitted
    return submitted


class Admission(grpc.ServerInterceptor):
    """Refuses a request with RESOURCE_EXHAUSTED while the pool is full.

    Refusals and health checks run on threads of their own. `maximum_concurrent_rpcs` of grpc.server would refuse health
    checks as well, and a busy server would be taken for a dead one and restarted. For the same reason no caller who
    keeps his message back can keep a health check waiting: while all threads of health checks are taken, a check is
    answered with the server's overall health, its own message unread.
    """

    def __init__(self, pool: WorkerPool, refused: Counter, servicer: health.HealthServicer) -> None:
        """Args:
        pool: that requests run on.
        refused: counts the refusals by status.
        servicer: knows the server's health.
        """
        self._pool = pool
        self._refused = refused
        self._health = WorkerPool(HEALTH_THREADS, 0)
        self._unread = ThreadPoolExecutor(UNREAD_THREADS, thread_name_prefix="grpc-unread")
        self._refusal = self.refusal(FULL, FULL_MESSAGE)

        def overall(requests: object, context: grpc.ServicerContext) -> health_pb2.HealthCheckResponse:
            return servicer.Check(health_pb2.HealthCheckRequest(), context)

        self._overall = _moved(
            grpc.stream_unary_rpc_method_handler(
                overall, response_serializer=health_pb2.HealthCheckResponse.SerializeToString
            ),
            self._unread,
        )

    def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        """Called by gRPC's one polling thread, before the request has a thread of its own."""
        method = handler_call_details.method
        if method.startswith(HEALTH):
            if not self._health.full:
                return _moved(continuation(handler_call_details), self._health)
            return self._overall if method == f"{HEALTH}Check" else self._refusal
        if self._pool.full:
            return self._refusal
        return continuation(handler_call_details)

    def refusal(self, status: grpc.StatusCode, message: str) -> grpc.RpcMethodHandler:
        """A handler that ends each call with a status, whatever the method, without reading the request."""

        def refusing(requests: object, context: grpc.ServicerContext) -> None:
            self._refused.labels(status.name).inc()
            refuse(context, status, message)

        return _moved(grpc.stream_unary_rpc_method_handler(refusing), self._unread)

    def stop(self) -> None:
        """Ends the threads of its own."""
        self._health.shutdown()
        self._unread.shutdown()


def _moved(handler: grpc.RpcMethodHandler | None, threads: ThreadPoolExecutor) -> grpc.RpcMethodHandler | None:
    """The handler, to be run on other threads; gRPC's own health servicer asks for threads like this."""
    if handler is not None:
        behaviour = handler.stream_stream if handler.response_streaming else handler.stream_unary
        behaviour.experimental_thread_pool = threads
    return handler
