"""Bounded work: what is beyond it is refused at once, and health checks are answered all the same."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import grpc
from prometheus_client import Counter

from serving.status import refuse

HEALTH = "/grpc.health.v1.Health/"
ASIDE_THREADS = 2

Continuation = Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler | None]


class WorkerPool(ThreadPoolExecutor):
    """The threads that requests run on; knows how many wait for one."""

    def __init__(self, threads: int, queued: int) -> None:
        """Args:
        threads: requests that run at a time.
        queued: requests that may wait for a thread.
        """
        super().__init__(threads, thread_name_prefix="grpc")
        self._limit = threads + queued
        self.open = 0  # requests that run or wait
        self._lock = threading.Lock()

    @property
    def full(self) -> bool:
        """Whether all threads are busy and all places to wait are taken."""
        return self.open >= self._limit

    def submit(self, *arguments: Any, **keywords: Any) -> Future:
        """As in ThreadPoolExecutor; never refuses, for the caller asks `full` first."""
        with self._lock:
            self.open += 1
        future = super().submit(*arguments, **keywords)
        # Counted by futures and not in the servicers: a call that its client gives up early reaches no servicer.
        future.add_done_callback(self._finished)
        return future

    def _finished(self, future: Future) -> None:
        with self._lock:
            self.open -= 1


class Admission(grpc.ServerInterceptor):
    """Refuses a request with RESOURCE_EXHAUSTED while the pool is full.

    Refusals and health checks run on threads of their own. `maximum_concurrent_rpcs` of grpc.server would refuse health
    checks as well, and a busy server would be taken for a dead one and restarted.
    """

    def __init__(self, pool: WorkerPool, refused: Counter) -> None:
        """Args:
        pool: that requests run on.
        refused: counts the refusals by status.
        """
        self._pool = pool
        self._refused = refused
        self._aside = ThreadPoolExecutor(ASIDE_THREADS, thread_name_prefix="grpc-aside")
        self._refusal = self.refusal(
            grpc.StatusCode.RESOURCE_EXHAUSTED, "the server has as many requests as it takes: try again later"
        )

    def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        """Called by gRPC's one polling thread, before the request has a thread of its own."""
        if handler_call_details.method.startswith(HEALTH):
            return self._moved(continuation(handler_call_details))
        if self._pool.full:
            return self._refusal
        return continuation(handler_call_details)

    def refusal(self, status: grpc.StatusCode, message: str) -> grpc.RpcMethodHandler:
        """A handler that ends each call with a status, whatever the method, without reading the request."""

        def refusing(requests: object, context: grpc.ServicerContext) -> None:
            self._refused.labels(status.name).inc()
            refuse(context, status, message)

        return self._moved(grpc.stream_unary_rpc_method_handler(refusing))

    def stop(self) -> None:
        """Ends the threads of its own."""
        self._aside.shutdown()

    def _moved(self, handler: grpc.RpcMethodHandler | None) -> grpc.RpcMethodHandler | None:
        """The handler, to be run on the threads of its own; gRPC's own health servicer asks for threads like this."""
        if handler is not None:
            behaviour = handler.stream_stream if handler.response_streaming else handler.stream_unary
            behaviour.experimental_thread_pool = self._aside
        return handler
