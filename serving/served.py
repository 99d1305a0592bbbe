"""Which releases are being served at one moment. Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from serving.retriever import Retriever


class NotServedError(LookupError):
    """No loaded release is what a request asks for; `status` and the text are TensorFlow Serving's."""

    def __init__(self, status: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Served:
    """The loaded releases of one model. Immutable: a request that holds it is answered from one state throughout.

    Attributes:
      model_name: the served model's name.
      retrievers: version -> release, loaded and warm.
      labels: label -> version, each among `retrievers`.
    """

    model_name: str
    retrievers: Mapping[int, Retriever] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)

    def find(self, name: str, version: int | None = None, label: str | None = None) -> Retriever:
        """The release that answers a request.

        Args:
          name: the model's.
          version: a certain one; None for the newest.
          label: in place of a version.

        Raises:
          NotServedError: there is none.
        """
        if label is not None:
            if label not in self.labels:
                message = f"Unrecognized servable version label: {label}"
                raise NotServedError(grpc.StatusCode.INVALID_ARGUMENT, message)
            version = self.labels[label]
        wanted = max(self.retrievers, default=None) if version is None else version
        if name != self.model_name or wanted is None or wanted not in self.retrievers:
            named = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise NotServedError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {named}")
        return self.retrievers[wanted]


class Current:
    """What the servicers answer from: a state that is replaced by one assignment. Each request reads it once."""

    def __init__(self, model_name: str) -> None:
        self.served = Served(model_name)
