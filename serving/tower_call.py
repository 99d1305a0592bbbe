"""A tower as one request asks it: within the caller's time, and timed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from numpy.typing import NDArray
from tensorflow.core.protobuf import meta_graph_pb2

from serving.remote_tower import AnyTower


class Signatures(Protocol):
    """What is needed of a tower to call its signatures."""

    @property
    def signature_defs(self) -> Mapping[str, meta_graph_pb2.SignatureDef]:
        """What the signatures take and give, by their names."""

    def predict(self, signature: str, inputs: Mapping[str, NDArray]) -> dict[str, NDArray]:
        """Calls a signature, inputs and outputs by their names in it."""


class TowerCall:
    """The signatures of a tower, called for one request."""

    def __init__(self, tower: AnyTower, observe: Callable[[float], None], timeout: float = math.inf) -> None:
        """Args:
        tower: whose signatures they are.
        observe: gets the microseconds of each call that was answered.
        timeout: seconds until the request's caller gives up.
        """
        self.signature_defs: Mapping[str, meta_graph_pb2.SignatureDef] = tower.signature_defs
        self._tower = tower
        self._observe = observe
        self._deadline = time.monotonic() + timeout

    def predict(self, signature: str, inputs: Mapping[str, NDArray]) -> dict[str, NDArray]:
        """Calls a signature, as the tower's method of this name."""
        started = time.monotonic()
        outputs = self._tower.predict(signature, inputs, self._deadline - started)
        self._observe((time.monotonic() - started) * 1e6)
        return outputs
