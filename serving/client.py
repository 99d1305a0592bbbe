"""A small client of the retrieval server. Imports gRPC and the protocol only, so that it starts fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

import grpc

from serving.proto import retrieval_pb2, retrieval_pb2_grpc

MAX_MESSAGE_BYTES = 64 << 20

FeatureInput = str | int | float | Sequence[str] | Sequence[int] | Sequence[float]


class RetrievalError(RuntimeError):
    """The server refused a request or could not be reached in time."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status  # name of the gRPC status, such as INVALID_ARGUMENT
        self.message = message


@dataclass(frozen=True)
class Item:
    """One recommended item."""

    item_id: str
    score: float
    features: dict[str, str]


@dataclass(frozen=True)
class Recommendations:
    """The answer to one request; `items` best first."""

    items: tuple[Item, ...]
    tower_version: int
    index_version: int
    fingerprint: str
    known_query: bool
    truncated: bool


class RetrievalClient:
    """Talks to one server over one channel, which it opens at the first request. Safe for several threads.

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
        address: host:port.
        timeout: seconds until a request is given up.
        credentials: of grpc.ssl_channel_credentials; None for a server without TLS.
        token: one of the server's tokens, where it wants one.
        """
        self._timeout = timeout
        options = [
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ]
        if credentials is None:
            self._channel = grpc.insecure_channel(address, options)
        else:
            self._channel = grpc.secure_channel(address, credentials, options)
        self._metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        self._stub = retrieval_pb2_grpc.RetrievalServiceStub(self._channel)

    def recommend(
        self,
        *,
        query_id: str = "",
        features: Mapping[str, FeatureInput] | None = None,
        k: int = 0,
        exclude_ids: Sequence[str] = (),
        exclude_seen: bool = False,
        item_features: Sequence[str] = (),
        model: str = "",
        timeout: float | None = None,
    ) -> Recommendations:
        """Asks for the k items that score highest for a query.

        Args:
          query_id: a known id brings its stored features; "" if there is none.
          features: by name a value or several; they override the stored ones.
          k: 0 for the server's default.
          exclude_ids: items that must not be in the answer.
          exclude_seen: leave out the items the query has an interaction with.
          item_features: attributes of the items to return.
          model: "" for whichever the server has.
          timeout: seconds, instead of the client's.

        Raises:
          RetrievalError: the server refused the request or did not answer in time.
          TypeError: a feature's value is no string, integer or float, nor a sequence of one of them.
        """
        request = retrieval_pb2.RecommendRequest(
            model=model,
            query_id=query_id,
            features={name: feature_value(name, value) for name, value in (features or {}).items()},
            k=k,
            exclude_ids=exclude_ids,
            exclude_seen=exclude_seen,
            item_features=item_features,
        )
        try:
            response = self._stub.Recommend(
                request, timeout=self._timeout if timeout is None else timeout, metadata=self._metadata
            )
        except grpc.RpcError as error:
            raise RetrievalError(error.code().name, error.details()) from error
        return Recommendations(
            items=tuple(Item(item.item_id, item.score, dict(item.features)) for item in response.items),
            tower_version=response.tower_version,
            index_version=response.index_version,
            fingerprint=response.fingerprint,
            known_query=response.known_query,
            truncated=response.truncated,
        )

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()

    def __enter__(self) -> RetrievalClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def feature_value(name: str, value: FeatureInput) -> retrieval_pb2.FeatureValue:
    """A Python value as the protocol's FeatureValue; an empty sequence says that the value is missing.

    Raises:
      TypeError: it is no string, integer or float, nor a sequence of one of them.
    """
    values = [value] if isinstance(value, str | int | float) else list(value)
    kinds = {type(v) for v in values}
    if kinds <= {str}:
        return retrieval_pb2.FeatureValue(strings=retrieval_pb2.StringList(values=values))
    if kinds == {int}:
        return retrieval_pb2.FeatureValue(int64s=retrieval_pb2.Int64List(values=values))
    if kinds <= {int, float}:
        return retrieval_pb2.FeatureValue(floats=retrieval_pb2.FloatList(values=values))
    raise TypeError(
        f"feature {name!r}: expected strings, integers or floats, got {sorted(kind.__name__ for kind in kinds)}"
    )
