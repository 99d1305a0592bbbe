"""What runs about every unary call, whichever servicer answers it. Imports no TensorFlow."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import grpc

Behavior = Callable[[Any, grpc.ServicerContext], Any]


class UnaryInterceptor(grpc.ServerInterceptor):
    """Wraps the servicers' methods. Streams (health's Watch, reflection) pass as they are."""

    def __init__(self) -> None:
        # gRPC's one polling thread asks for each call's handler: a method is wrapped once and not with each call.
        self._wrapped: dict[str, tuple[grpc.RpcMethodHandler, grpc.RpcMethodHandler]] = {}

    @abstractmethod
    def wrap(self, method: str, behavior: Behavior) -> Behavior:
        """What runs in place of a method.

        Args:
          method: full name, `package.Service/Method`.
          behavior: the servicer's method. It is run by a worker thread, once the request is parsed.
        """

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        """gRPC asks here for the handler of each call."""
        handler = continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        known = self._wrapped.get(handler_call_details.method)
        if known is not None and known[0] is handler:
            return known[1]
        wrapped = grpc.unary_unary_rpc_method_handler(
            self.wrap(handler_call_details.method.lstrip("/"), handler.unary_unary),
            handler.request_deserializer,
            handler.response_serializer,
        )
        self._wrapped[handler_call_details.method] = (handler, wrapped)
        return wrapped
