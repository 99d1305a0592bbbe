"""Configuration of the retrieval server. Imports no TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

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


class ServingConfig(Frozen):
    """Where the server listens and what it answers at most."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8500  # 0: any free port
    max_k: PositiveInt = 1000  # a request for more is refused
    max_concurrent: PositiveInt = 8  # requests that run at a time
    max_queued: NonNegativeInt = 64  # requests that wait beyond these; one more is refused
    receive_seconds: PositiveFloat = 10.0  # a call whose message has not come by then is cancelled
    tls: TlsConfig | None = None  # None: plain text
    token_file: PathField | None = None  # one token a line; None: anybody may ask
    tower: TowerConfig | None = None  # None: the tower runs in this process
