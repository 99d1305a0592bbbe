"""How a servicer ends a call that it cannot answer."""

from __future__ import annotations

from typing import NoReturn

import grpc

MAX_MESSAGE = 1000  # characters; gRPC drops an answer whose trailers pass a few KiB, and with it the status


def refuse(context: grpc.ServicerContext, status: grpc.StatusCode, message: str) -> NoReturn:
    """Ends the call with a status and a message for the caller."""
    context.abort(status, message if len(message) <= MAX_MESSAGE else message[:MAX_MESSAGE] + "...")
    raise AssertionError("gRPC's abort has returned")
