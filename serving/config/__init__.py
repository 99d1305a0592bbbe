"""Configuration of the retrieval server. Imports no TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from models.config import Frozen, NonNegativeInt, PositiveFloat, PositiveInt

# YAML carries paths as strings, which strict mode would refuse.
PathField = Annotated[Path, Field(strict=False)]


class TowerConfig(Frozen):
    """A TensorFlow Serving that runs the query tower in place of this process."""

    address: Annotated[str, Field(pattern=r"^.+:\d+$")]  # host:port of its gRPC port
    ca: PathField | None = None  # PEM of the authority that signed its certificate; None: without TLS
    timeout_seconds: PositiveFloat = 1.0  # for one request, where the caller's own deadline is not nearer
    load_seconds: PositiveFloat = 60.0  # how long it may take to load a version that is on disk


class TlsConfig(Frozen):
    """TLS of the gRPC port: PEM files."""

    certificate: PathField  # the server's, with the intermediate ones after it
    key: PathField
    client_ca: PathField | None = None  # given: clients must show a certificate that it signed


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
    one_core: bool = False  # keep the threads that answer on one core; process i of `processes` on the i-th
    max_concurrent: PositiveInt = 8  # requests that run at a time
    max_queued: NonNegativeInt = 64  # requests that wait beyond these; one more is refused
    receive_seconds: PositiveFloat = 10.0  # a call whose message has not come by then, the queue included, is cancelled
    tls: TlsConfig | None = None  # None: plain text
    token_file: PathField | None = None  # one token a line; None: anybody may ask
    tower: TowerConfig | None = None  # None: the tower runs in this process

    @property
    def address(self) -> str:
        """host:port as gRPC wants it: an IPv6 address in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"
