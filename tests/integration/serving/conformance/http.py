"""A client of the REST API."""

from __future__ import annotations

import http.client
import json
from typing import Any


class Http:
    """Asks one server, each time over a connection of its own."""

    def __init__(self, address: str) -> None:
        self.address = address

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.address, timeout=30)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()

    def json(self, method: str, path: str, content: Any = None) -> tuple[int, Any]:
        """Status and answer; `content` is JSON as text or as values."""
        body = content if content is None or isinstance(content, str) else json.dumps(content)
        status, headers, answer = self.ask(method, path, None if body is None else body.encode())
        assert headers["Content-Type"] == "application/json"
        return status, json.loads(answer)
