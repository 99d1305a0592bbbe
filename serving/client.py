"""A client of the retrieval server. Imports gRPC and the protocol only, so that it starts fast.

with RetrievalClient("127.0.0.1:8500") as client:
    answer = client.recommend(query_id="42", k=10, allow={"category": ["Comedy"]}, item_features=["title"])
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import grpc

from serving.messages import Item, Recommendations, Request, recommendations
from serving.proto import retrieval_pb2, retrieval_pb2_grpc

__all__ = ["Item", "Recommendations", "Request", "RetrievalClient", "RetrievalError"]

MAX_MESSAGE_BYTES = 64 << 20
RECONNECT_MS = 1000  # gRPC itself takes up to two minutes to try again after a long absence
CHANNEL = {
    # All servers that the address stands for, such as the pods behind a headless service. gRPC itself asks the first.
    "loadBalancingConfig": [{"round_robin": {}}],
    # Requests change nothing, so each may be sent again; the deadline holds for all attempts together.
    "methodConfig": [
        {
            "name": [{"service": "retrieval.v1.RetrievalService"}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "backoffMultiplier": 2,
                "maxBackoff": "1s",
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}


class RetrievalError(RuntimeError):
    """The server refused a request or could not be reached in time."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status  # name of the gRPC status, such as INVALID_ARGUMENT
        self.message = message


class RetrievalClient:
    """Talks over one channel, which it opens at the first request. Safe for several threads.

    Of an address that stands for several servers, such as `dns:///retrieval:8600`, it asks one after the other. A
    request that the server is not there for (UNAVAILABLE) is sent again, up to three times, after a growing pause.
    Use it as a context manager, or call `close`.
    """

    def __init__(
        self,
        address: str,
        timeout: float = 5.0,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        token: str | None = None,
    ) -> None:
        """Args:
        address: host:port, or another that gRPC knows.
        timeout: seconds until a request is given up, pauses included.
        credentials: of grpc.ssl_channel_credentials; None for a server without TLS.
        token: one of the server's tokens, where it wants one; without TLS anybody on the way can read it.
        """
        self._timeout = timeout
        self._metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        options = [
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_reconnect_backoff_ms", RECONNECT_MS),
            ("grpc.service_config", json.dumps(CHANNEL)),
        ]
        if credentials is None:
            self._channel = grpc.insecure_channel(address, options)
        else:
            self._channel = grpc.secure_channel(address, credentials, options)
        self._stub = retrieval_pb2_grpc.RetrievalServiceStub(self._channel)

    def recommend(self, *, timeout: float | None = None, **request: Any) -> Recommendations:
        """Asks for the k items that score highest for a query.

        Args:
          timeout: seconds, instead of the client's.
          **request: the fields of Request.

        Raises:
          RetrievalError: the server refused the request or did not answer in time.
          TypeError: a field is unknown, or a value is of a type that its field does not take.
        """
        return recommendations(self._call(self._stub.Recommend, Request(**request).message(), timeout))

    def recommend_batch(
        self,
        requests: Sequence[Request],
        *,
        model: str = "",
        version: int = 0,
        label: str = "",
        timeout: float | None = None,
    ) -> list[Recommendations | RetrievalError]:
        """Asks for many queries in one call, each answered by the release that would answer it alone.

        Args:
          requests: at most as many as the server takes, without a model, version or label of their own.
          model, version, label: as in Request.
          timeout: seconds, instead of the client's.

        Returns:
          For each request its answer, or the error where it was refused.

        Raises:
          RetrievalError: the server refused the whole call or did not answer in time.
          TypeError: a value is of a type that its field does not take.
        """
        batch = retrieval_pb2.RecommendBatchRequest(
            model=model, version=version, label=label, requests=[request.message() for request in requests]
        )
        names = {code.value[0]: code.name for code in grpc.StatusCode}
        return [
            RetrievalError(names[result.code], result.message) if result.code else recommendations(result.response)
            for result in self._call(self._stub.RecommendBatch, batch, timeout).results
        ]

    def _call(self, method: Any, message: Any, timeout: float | None) -> Any:
        try:
            return method(message, timeout=self._timeout if timeout is None else timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise RetrievalError(error.code().name, error.details()) from error

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()

    def __enter__(self) -> RetrievalClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
