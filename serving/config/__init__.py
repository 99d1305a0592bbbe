"""Configuration of the retrieval server. Imports no TensorFlow."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from models.config import Frozen, PositiveInt


class VersionPolicy(Frozen):
    """Which releases are loaded, as TensorFlow Serving's ServableVersionPolicy says it.

    "latest": the newest `num_versions`. "all": every one. "specific": those of `versions`. A request that names no
    version is answered by the newest of them.
    """

    kind: Literal["latest", "all", "specific"] = "latest"
    num_versions: PositiveInt = 1
    versions: Annotated[tuple[PositiveInt, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _parts_fit(self) -> VersionPolicy:
        if self.kind == "specific" and not self.versions:
            raise ValueError("the policy specific needs at least one of versions")
        if self.kind != "specific" and self.versions:
            raise ValueError(f"versions belong to the policy specific, not to {self.kind}")
        if self.kind != "latest" and self.num_versions != 1:
            raise ValueError(f"num_versions belongs to the policy latest, not to {self.kind}")
        return self


class ServingConfig(Frozen):
    """Where the server listens, which releases it loads and what it answers at most."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8500  # 0: any free port
    rest_port: Annotated[int, Field(ge=0, le=65535)] | None = None  # REST and Prometheus; None: not offered
    max_k: PositiveInt = 1000  # a request for more is refused
    max_exclude: PositiveInt = 10_000  # ids to exclude, in one request
    max_batch: PositiveInt = 64  # requests in one RecommendBatch
    version_policy: VersionPolicy = VersionPolicy()
    processes: PositiveInt = 1  # that share the port; each loads the release and keeps about one core busy
