"""Which releases are being served at one moment. Imports no TensorFlow."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import TYPE_CHECKING

import grpc

from serving.status import RequestError

if TYPE_CHECKING:
    from serving.retriever import Retriever

BUCKETS = 100  # a query falls into one of them; a share of the traffic is so many


class VersionState(IntEnum):
    """Where a version stands, as tensorflow.serving.ModelVersionStatus.State."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True)
class VersionStatus:
    """Where a version stands, and why it was refused if it was."""

    state: VersionState
    error_code: int = 0  # google.rpc.Code
    error_message: str = ""


@dataclass(frozen=True)
class Served:
    """The loaded releases of one model. Immutable: a request that holds it is answered from one state throughout.

    Attributes:
      model_name: the served model's name.
      retrievers: version -> release, loaded and warm.
      labels: label -> version, each among `retrievers`.
      traffic: label -> share in percent of the requests that name no release; empty, or adding up to 100. A label that
        is not among `labels` leaves its share to the default.
      salt: with another one the same shares deal the query ids anew.
      newest: the version that answers where nothing else is said, which a pin may hold back; None for the newest of
        `retrievers`.
    """

    model_name: str
    retrievers: Mapping[int, Retriever] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    traffic: Mapping[str, int] = field(default_factory=dict)
    salt: str = ""
    newest: int | None = None

    @cached_property
    def default(self) -> tuple[str, int | None]:
        """(label, version) that answer a request without a query id, version and label.

        The label with the largest share of the traffic, the first by name of equal ones; without a split "" and the
        pinned or the newest version, None where nothing is loaded.
        """
        shares = [(-share, label) for label, share in self.traffic.items() if label in self.labels]
        if shares:
            label = min(shares)[1]
            return label, self.labels[label]
        return "", max(self.retrievers, default=None) if self.newest is None else self.newest

    def find(self, name: str, version: int | None = None, label: str | None = None) -> Retriever:
        """The release that answers a request.

        Args:
          name: the model's.
          version: a certain one; None for the default.
          label: in place of a version.

        Raises:
          RequestError: there is none.
        """
        if label is not None:
            if label not in self.labels:
                message = f"Unrecognized servable version label: {label}"
                raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)
            version = self.labels[label]
        wanted = self.default[1] if version is None else version
        if name != self.model_name or wanted is None or wanted not in self.retrievers:
            named = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise RequestError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {named}")
        return self.retrievers[wanted]

    def assign(self, query_id: str) -> tuple[str, Retriever]:
        """The release that answers a request for a query which names neither version nor label.

        Where the traffic is split, the query's id decides: the same id gets the same label from every process and
        after every restart, for as long as shares and salt are the same.

        Args:
          query_id: "" if there is none; the default then answers.

        Returns:
          (label, release), the label "" where the traffic is not split.

        Raises:
          RequestError: nothing is loaded.
        """
        if query_id and self.traffic:
            label = pick(self.traffic, query_id, self.salt)
            if label in self.labels:
                return label, self.retrievers[self.labels[label]]
        return self.default[0], self.find(self.model_name)


def pick(traffic: Mapping[str, int], query_id: str, salt: str = "") -> str:
    """The label whose share a query's id falls into.

    Args:
      traffic: label -> percent, adding up to 100.
      query_id: hashed with SHA-256; the hash's first eight bytes mod 100 are its bucket, and the labels share the
        buckets in the order of their names.
      salt: hashed before the id, with a slash between them; "" for the id alone.
    """
    word = f"{salt}/{query_id}" if salt else query_id
    bucket = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big") % BUCKETS
    for label in sorted(traffic):
        bucket -= traffic[label]
        if bucket < 0:
            return label
    raise AssertionError(f"the shares {dict(traffic)} do not add up to {BUCKETS}")


class Current:
    """What the servicers answer from: states that are replaced by one assignment. Each request reads one once.

    Attributes:
      served: the loaded releases.
      statuses: version -> where it stands, of all that are loaded, being loaded or unloaded, or were refused.
    """

    def __init__(self, model_name: str) -> None:
        self.served = Served(model_name)
        self.statuses: Mapping[int, VersionStatus] = {}

    def tell(self, version: int, state: VersionState, error_code: int = 0, error_message: str = "") -> None:
        """Puts down where a version stands. The manager alone calls it, under its lock."""
        message = error_message.encode(errors="replace").decode()  # it may hold a file's name, which need not be UTF-8
        self.statuses = {**self.statuses, version: VersionStatus(state, error_code, message)}
