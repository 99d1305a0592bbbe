"""Configuration of the retrieval server. Imports no TensorFlow."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from models.config import Frozen, PositiveInt


class ServingConfig(Frozen):
    """Where the server listens and what it answers at most."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8500  # 0: any free port
    max_k: PositiveInt = 1000  # a request for more is refused
    processes: PositiveInt = 1  # that share the port; each loads the release and keeps about one core busy
