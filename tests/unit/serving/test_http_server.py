"""The HTTP server by itself: what it bounds, and how it stops."""

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from serving import http_server
from serving.http_server import HttpServer, Reply


class Echo:
    """Answers with what it was asked; "/hold" waits for `go`."""

    def __init__(self) -> None:
        self.started, self.go = threading.Event(), threading.Event()

    def answer(self, method: str, path: str, body: bytes) -> Reply:
        if path == "/hold":
            self.started.set()
            assert self.go.wait(60)
        if path == "/fail":
            raise ZeroDivisionError
        return Reply(200, f"{method} {path} ".encode() + body, "text/plain")


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def server(echo: Echo) -> Iterator[HttpServer]:
    server = HttpServer("127.0.0.1", 0, echo.answer)
    server.start()
    yield server
    echo.go.set()
    server.stop(30)


def connect(server: HttpServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def exchange(server: HttpServer, request: bytes) -> bytes:
    """What comes back until the server closes the connection."""
    with connect(server) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def status(answer: bytes) -> int:
    return int(answer.split()[1])


def test_one_connection_for_several_requests(server: HttpServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    for number in range(3):
        connection.request("POST", f"/{number}?x=1", b"body")
        response = connection.getresponse()
        assert (response.status, response.version, response.read()) == (200, 11, f"POST /{number} body".encode())
        assert response.getheader("Content-Type") == "text/plain"
    connection.close()


def test_pipelined_requests(server: HttpServer) -> None:
    first = b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
    answer = exchange(server, first + b"GET /b HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert b"POST /a abc" in answer
    assert answer.endswith(b"GET /b ")


def test_old_clients(server: HttpServer) -> None:
    assert exchange(server, b"GET /x HTTP/1.0\r\n\r\n").endswith(b"GET /x ")


def test_head_has_no_body(server: HttpServer) -> None:
    answer = exchange(server, b"HEAD /x HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert b"Content-Length: 8\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


def test_expect_continue(server: HttpServer) -> None:
    with connect(server) as connection:
        connection.sendall(b"POST /x HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"ok")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (b"POST / HTTP/1.1\r\nContent-Length: 16777217\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 100 + b"\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1e3\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * 200 + b"\r\n", 431),
        (b"GET / HTTP/3.0\r\n\r\n", 505),
        (b"nonsense\r\n\r\n", 400),
        (b"BREW / HTTP/1.1\r\n\r\n", 501),
    ],
)
def test_refused(server: HttpServer, request_: bytes, expected: int) -> None:
    answer = exchange(server, request_)
    assert status(answer) == expected
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Content-Type: application/json" in head
    assert b"Connection: close" in head
    assert list(json.loads(body)) == ["error"]


def test_body_that_ends_too_soon(server: HttpServer) -> None:
    with connect(server) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(65536) == b""


def test_idle_connection_is_closed(server: HttpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "IDLE_SECONDS", 0.05)
    assert exchange(server, b"GET / HTTP/1.1\r\n\r\n").endswith(b"GET / ")


@pytest.mark.parametrize(
    "start", [b"GET / HT", b"GET / HTTP/1.1\r\nX: ", b"POST / HTTP/1.1\r\nContent-Length: 9999\r\n\r\nabc"]
)
def test_slow_request_is_given_up(server: HttpServer, monkeypatch: pytest.MonkeyPatch, start: bytes) -> None:
    monkeypatch.setattr(http_server, "REQUEST_SECONDS", 0.2)
    with connect(server) as connection:
        connection.sendall(start)
        trickling = threading.Event()

        def trickle() -> None:
            while not trickling.wait(0.02):
                try:
                    connection.send(b"x")
                except OSError:
                    return

        with ThreadPoolExecutor(1) as pool:
            pool.submit(trickle)
            try:
                answer = connection.recv(65536)
            except ConnectionResetError:
                answer = b""
            trickling.set()
    assert answer == b""


def test_reader_that_does_not_read(echo: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "ANSWER_SECONDS", 0.1)
    server = HttpServer("127.0.0.1", 0, lambda method, path, body: Reply(200, bytes(64 << 20)))
    server.start()
    with connect(server) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        connection.recv(1)
        server.stop(30)  # waits for the request, which has to be given up
        received = 1
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(1 << 20):
                received += len(part)
    assert received < 64 << 20


def test_too_many_connections(echo: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS", 2)
    server = HttpServer("127.0.0.1", 0, echo.answer)
    server.start()
    ask = b"GET /x HTTP/1.1\r\n\r\n"
    first, second = connect(server), connect(server)
    for connection in (first, second):
        connection.sendall(ask)
        assert connection.recv(65536).endswith(b"GET /x ")
    assert status(exchange(server, b"")) == 503
    first.close()
    second.sendall(ask)
    assert second.recv(65536).endswith(b"GET /x ")
    for _ in range(1000):
        with connect(server) as third:
            third.sendall(ask)
            try:
                if status(third.recv(65536)) == 200:
                    break
            except ConnectionResetError:
                continue
    else:
        raise AssertionError("the place of a closed connection was not given to another")
    second.close()
    server.stop(30)


def test_defect_ends_one_connection_only(server: HttpServer, caplog: pytest.LogCaptureFixture) -> None:
    assert exchange(server, b"GET /fail HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 500 ")
    assert "an HTTP request failed" in caplog.text
    assert exchange(server, b"GET /x HTTP/1.0\r\n\r\n").endswith(b"GET /x ")


def test_stop_waits_for_a_request_and_closes_what_is_idle(echo: Echo) -> None:
    server = HttpServer("127.0.0.1", 0, echo.answer)
    server.start()
    with connect(server) as idle, connect(server) as busy, ThreadPoolExecutor(1) as pool:
        busy.sendall(b"GET /hold HTTP/1.1\r\n\r\n")
        assert echo.started.wait(60)
        stopping = pool.submit(server.stop, 60)
        for _ in range(1000):
            try:
                connect(server).close()
            except ConnectionError:
                break
        assert not stopping.done()
        echo.go.set()
        answer = busy.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200 OK")
        stopping.result(60)
        assert busy.recv(65536) == b""
        assert idle.recv(65536) == b""


def test_stop_gives_up_after_the_grace(echo: Echo) -> None:
    server = HttpServer("127.0.0.1", 0, echo.answer)
    server.start()
    with connect(server) as busy:
        busy.sendall(b"GET /hold HTTP/1.1\r\n\r\n")
        assert echo.started.wait(60)
        server.stop(0.05)
        assert busy.recv(65536) == b""
    echo.go.set()


def test_stop_before_start() -> None:
    server = HttpServer("127.0.0.1", 0, lambda method, path, body: Reply(200, b""))
    server.stop(0)
    with pytest.raises(ConnectionRefusedError):
        connect(server)


def test_taken_port(server: HttpServer) -> None:
    with pytest.raises(OSError, match="Address already in use"):
        HttpServer("127.0.0.1", server.port, lambda method, path, body: Reply(200, b""))


def test_ipv6() -> None:
    server = HttpServer("::1", 0, lambda method, path, body: Reply(200, b"six"))
    server.start()
    connection = http.client.HTTPConnection("::1", server.port, timeout=30)
    connection.request("GET", "/")
    assert connection.getresponse().read() == b"six"
    connection.close()
    server.stop(30)
