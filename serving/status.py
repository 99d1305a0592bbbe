"""How a request that cannot be answered ends: one error for gRPC and REST, with a gRPC status."""

from __future__ import annotations

from typing import NoReturn

import grpc

MAX_MESSAGE = 1000  # characters; gRPC drops an answer whose trailers pass a few KiB, and with it the status


class RequestError(Exception):
    """A request that cannot be answered; the text is for the caller."""

    def __init__(self, status: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def invalid(message: str) -> RequestError:
    """A request that is wrong whatever the server's state."""
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)


def cut(message: str) -> str:
    """A message for the caller, no longer than one may be."""
    return message if len(message) <= MAX_MESSAGE else message[:MAX_MESSAGE] + "..."


def refuse(context: grpc.ServicerContext, status: grpc.StatusCode, message: str) -> NoReturn:
    """Ends the call with a status and a message for the caller."""
    context.abort(status, cut(message))
    raise AssertionError("gRPC's abort has returned")
