"""How a servicer ends a call that it cannot answer."""

from __future__ import annotations

from typing import NoReturn

import grpc


def refuse(context: grpc.ServicerContext, status: grpc.StatusCode, message: str) -> NoReturn:
    """Ends the call with a status and a message for the caller."""
    context.abort(status, message)
    raise AssertionError("gRPC's abort has returned")
