"""What runs about every unary call, whichever servicer answers it. Imports no TensorFlow."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import grpc

Behavior = Callable[[Any, grpc.ServicerContext], Any]


class UnaryInterceptor(grpc.ServerInterceptor):
    """Wraps the servicers' methods. Streams (health's Watch, reflection) pass as they are."""

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
        return grpc.unary_unary_rpc_method_handler(
            self.wrap(handler_call_details.method.lstrip("/"), handler.unary_unary),
            handler.request_deserializer,
            handler.response_serializer,
        )
