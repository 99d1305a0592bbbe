"""A bounded HTTP/1.1 server on one port, which carries the REST API. Imports no TensorFlow.

What a caller can take of it is bounded: connections, bytes of a request, the time to send one and to take its answer.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn
from typing import Any

from serving.access import Tokens

MAX_BODY_BYTES = 16 << 20  # as Python's values JSON takes some ten times its length
MAX_CONNECTIONS = 64  # each has a thread
IDLE_SECONDS = 30.0  # between two requests on one connection
REQUEST_SECONDS = 10.0  # from a request's first byte to its last
ANSWER_SECONDS = 10.0
CLOSE_SECONDS = 1.0  # for the threads of closed connections to end
POLL_SECONDS = 0.1  # how long a stop takes to be noticed

BARE = b"HTTP/1.1 %b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reply:
    """An HTTP answer."""

    status: int
    body: bytes
    content_type: str = "application/json"


def error_reply(status: int, message: str) -> Reply:
    """The form that all errors have."""
    return Reply(status, json.dumps({"error": message}).encode())


Answer = Callable[[str, str, bytes], Reply]  # of method, path without the query, and body


class HttpServer:
    """Listens from its creation, answers from `start` to `stop`."""

    def __init__(self, host: str, port: int, answer: Answer, tokens: Tokens | None = None) -> None:
        """Takes the port.

        Args:
          host: an address of this machine.
          port: 0 for any free one.
          answer: called by several threads at a time.
          tokens: that open the server; None: anybody may ask.

        Raises:
          OSError: the port is taken, or the host is not this machine's.
        """
        self._server = _Server(host, port, answer, tokens)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_SECONDS,), name="rest", daemon=True
        )

    def start(self) -> None:
        """Answers requests from now on."""
        self._thread.start()

    def stop(self, grace: float) -> None:
        """Takes no new connections, waits at most `grace` seconds for the requests under way, then closes the rest."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()
        self._server.drain(grace)


class _Server(ThreadingMixIn, HTTPServer):
    daemon_threads = True
    block_on_close = False  # `drain` waits, with a limit
    request_queue_size = 128

    def __init__(self, host: str, port: int, answer: Answer, tokens: Tokens | None) -> None:
        self.tokens = tokens
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.answer = answer
        self.stopping = False
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._changed = threading.Condition()
        self._open: dict[socket.socket, bool] = {}  # connection -> a request is under way on it
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer's own looks the host's name up, which may ask the network.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            with contextlib.suppress(OSError):
                request.setblocking(False)
                request.send(BARE % b"503 Service Unavailable")
            self.shutdown_request(request)
            return
        self.mark(request, busy=False)
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the system has no thread left
            self._forget(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._forget(request)

    def _forget(self, connection: socket.socket) -> None:
        with self._changed:
            del self._open[connection]
            self._changed.notify_all()
        self._free.release()

    def mark(self, connection: socket.socket, busy: bool) -> None:
        """Notes whether a request is under way on a connection."""
        with self._changed:
            self._open[connection] = busy
            self._changed.notify_all()

    def drain(self, grace: float) -> None:
        """Waits for the requests under way, then closes what is still open."""
        self.stopping = True
        with self._changed:
            self._changed.wait_for(lambda: not any(self._open.values()), grace)
            for connection in self._open:
                with contextlib.suppress(OSError):  # closed already
                    connection.shutdown(socket.SHUT_RDWR)  # its thread wakes up and ends
            self._changed.wait_for(lambda: not self._open, min(grace, CLOSE_SECONDS))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that goes away or is too slow ends up in the handler; what comes here is a defect."""
        logger.exception("an HTTP request failed")
        with contextlib.suppress(OSError):
            request.sendall(BARE % b"500 Internal Server Error")


class _TimedReader(io.RawIOBase):
    """Reads a connection with a limit for the whole of a request, however slowly it trickles in."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.deadline: float | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        waiting = self.deadline is None
        left = IDLE_SECONDS if self.deadline is None else self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request took too long to arrive")
        self._connection.settimeout(left)
        count = self._connection.recv_into(buffer)
        if waiting:
            self.deadline = time.monotonic() + REQUEST_SECONDS
        return count


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        self._reader = _TimedReader(self.connection)
        self.rfile = io.BufferedReader(self._reader)

    def handle_one_request(self) -> None:
        self._reader.deadline = None
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True
        finally:
            self.server.mark(self.connection, busy=False)
        if self.server.stopping:
            self.close_connection = True

    def do_GET(self) -> None:
        """Answers a request of any method that the base class should not refuse by itself."""
        self.server.mark(self.connection, busy=True)
        if self.server.tokens is not None and not self.server.tokens.open_to(self.headers.get("Authorization", "")):
            self.send_error(HTTPStatus.UNAUTHORIZED, "The request needs the header Authorization: Bearer <token>")
            return
        body = self._body()
        if body is not None:
            self._send(self.server.answer(self.command, self.path.partition("?")[0], body))

    do_POST = do_HEAD = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_GET

    def _body(self) -> bytes | None:
        """The request's body; None where it is refused and the refusal sent."""
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers:
            self.send_error(HTTPStatus.LENGTH_REQUIRED, "Transfer-Encoding is not supported: send a Content-Length")
        elif not (length.isascii() and length.isdigit()) or len(self.headers.get_all("Content-Length", [])) > 1:
            self.send_error(HTTPStatus.BAD_REQUEST, "Content-Length is not a number")
        elif len(length) > 18 or int(length) > MAX_BODY_BYTES:
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body is larger than {MAX_BODY_BYTES} bytes")
        else:
            body = self.rfile.read(int(length))
            if len(body) == int(length):
                return body
            self.close_connection = True
        return None

    def handle_expect_100(self) -> bool:
        self.connection.settimeout(ANSWER_SECONDS)
        return super().handle_expect_100()

    def _send(self, reply: Reply) -> None:
        head = [
            f"HTTP/1.1 {reply.status} {self.responses.get(reply.status, ('Error',))[0]}",
            f"Date: {self.date_time_string()}",
            f"Content-Type: {reply.content_type}",
            f"Content-Length: {len(reply.body)}",
        ]
        if reply.status == HTTPStatus.METHOD_NOT_ALLOWED:
            head.append("Allow: GET, POST")
        if self.close_connection or self.server.stopping:
            head.append("Connection: close")
        body = b"" if self.command == "HEAD" else reply.body
        self.connection.settimeout(ANSWER_SECONDS)
        self.connection.sendall("\r\n".join([*head, "", ""]).encode("latin-1") + body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """The base class' refusals too as JSON; what follows on the connection cannot be trusted."""
        self.close_connection = True
        self._send(error_reply(code, message or HTTPStatus(code).phrase))

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug(format, *args)
