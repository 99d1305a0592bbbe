"""No work for a caller that has stopped waiting. Imports no TensorFlow."""

from __future__ import annotations

from typing import Any

import grpc

from serving.interceptors import Behavior, UnaryInterceptor
from serving.status import refuse


def check_awaited(context: grpc.ServicerContext) -> None:
    """Ends a call whose deadline has passed, or whose caller has gone, before the next piece of work for it."""
    if context.time_remaining() <= 0 or not context.is_active():
        refuse(context, grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed before the request's turn came")


class Deadlines(UnaryInterceptor):
    """Refuses a request whose deadline has passed, or whose caller has gone, by the time a thread gets to it."""

    def wrap(self, method: str, behavior: Behavior) -> Behavior:
        """The method with the check before it."""

        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            check_awaited(context)
            return behavior(request, context)

        return answer
