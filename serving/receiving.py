"""How a request comes in: within a time limit, and with an answer the caller can use where it cannot be read."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from serving.admission import HEALTH, Continuation, came_in
from serving.status import refuse

WAKE_SECONDS = 0.1


class Receiving(grpc.ServerInterceptor):
    """Reads the messages of each call itself.

    Left to gRPC, a call holds a thread from its headers on until its message is there: a few clients that never send
    one would stop the server. And gRPC answers bytes that are no proto with INTERNAL and a stack trace in the log.
    Calls run on threads of a WorkerPool.
    """

    def __init__(self, seconds: float) -> None:
        """Args:
        seconds: a call whose messages are not all there so long after it came in is cancelled. One that waited
            longer for its thread has WAKE_SECONDS to hand over what is there, and so has a health check.
        """
        self._seconds = seconds
        self._handlers: dict[str, grpc.RpcMethodHandler] = {}
        self._waiting: dict[grpc.ServicerContext, float] = {}  # call -> when it is given up
        self._stopped = threading.Event()

    def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        """The method's handler as one that takes a stream, which on the wire is the same."""
        method = handler_call_details.method
        if method not in self._handlers:
            handler = continuation(handler_call_details)
            if handler is None:
                return None
            self._handlers[method] = self._reading(method, handler)
        return self._handlers[method]

    def start(self) -> None:
        """Begins to keep the time limit, on a thread of its own."""
        threading.Thread(target=self._watch, name="grpc-receiving", daemon=True).start()

    def stop(self) -> None:
        """Ends that thread."""
        self._stopped.set()

    def _reading(self, method: str, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        kind = ("stream" if handler.request_streaming else "unary", "stream" if handler.response_streaming else "unary")
        behaviour = getattr(handler, "_".join(kind))
        seconds = 0.0 if method.startswith(HEALTH) else self._seconds

        @functools.wraps(behaviour)  # with the attributes by which a servicer chooses threads
        def reading(messages: Iterator[bytes], context: grpc.ServicerContext, *callback: Any) -> Any:
            limit = max(came_in() + seconds, time.monotonic())
            requests = self._requests(method, handler.request_deserializer, messages, context, limit)
            if handler.request_streaming:
                return behaviour(requests, context, *callback)
            request = next(requests, None)
            if request is None:
                refuse(context, grpc.StatusCode.INVALID_ARGUMENT, f"{method} takes one message, there is none")
            return behaviour(request, context, *callback)

        make = grpc.stream_stream_rpc_method_handler if kind[1] == "stream" else grpc.stream_unary_rpc_method_handler
        return make(reading, response_serializer=handler.response_serializer)

    def _requests(
        self,
        method: str,
        parse: Callable[[bytes], Any],
        messages: Iterator[bytes],
        context: grpc.ServicerContext,
        limit: float,
    ) -> Iterator[Any]:
        while True:
            self._waiting[context] = limit
            try:
                message = next(messages, None)
            finally:
                del self._waiting[context]
            if message is None:
                return
            try:
                request = parse(message)
            except DecodeError:
                refuse(context, grpc.StatusCode.INVALID_ARGUMENT, f"the message is no request of {method}")
            yield request

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._stopped.wait(WAKE_SECONDS):
            for context, limit in list(self._waiting.items()):
                # Not by this moment: what came while another thread held the interpreter is to be handed over first.
                if limit < before:
                    context.cancel()
            before = time.monotonic()
