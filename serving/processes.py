"""Several server processes on one port, since Python keeps one core busy. Imports no TensorFlow.

python -m serving.server --processes N, python -m pipeline serve --processes N

The kernel spreads connections over the processes (SO_REUSEPORT); a client that wants all of them opens several. Each
process loads the releases for itself, so one may be ahead of another for a moment; an answer comes from one alone.

SIGTERM and SIGINT are passed on, and every process drains. One that ends before all are ready ends the server. One that
dies later is replaced: the others go on meanwhile, and its clients see UNAVAILABLE once and connect anew. When this
process itself is killed, the others drain and end.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from serving.config import ServingConfig
from serving.release import ReleaseError
from serving.server import WAKE_SECONDS, ServerError, announce, log_to_stderr, serve, stopped_by_signals

PAUSE_SECONDS = 1.0  # before a dead process is replaced
MAX_PORT = 65535

logger = logging.getLogger(__name__)


def serve_in_processes(releases: Path, model_name: str, config: ServingConfig) -> None:
    """Serves until SIGTERM or SIGINT, with as many processes as configured. Call it from the main thread.

    Prints `serving MODEL version V on HOST:PORT` once, when all are ready.

    Raises:
      ServerError: a port cannot be had, or a process ended before it was ready.
      ReleaseError: there is no release that can be served.
    """
    if config.processes == 1:
        serve(releases, model_name, config)
        return
    if config.rest_port and config.rest_port + config.processes - 1 > MAX_PORT:
        raise ServerError(
            f"serving.rest_port is {config.rest_port}, and each of the {config.processes} processes takes one more; "
            f"the last there is is {MAX_PORT}"
        )
    with _reserved_port(config) as port, stopped_by_signals() as stopped:
        members = _Members(releases, model_name, config.model_copy(update={"port": port}))
        try:
            ready = members.start(stopped)
            if not stopped.is_set():
                announce(ready)
            members.replace_dead_ones(stopped)
        finally:
            members.stop()


class _Members:
    """The processes, each with a pipe on which it says how its start went, and sees this process end."""

    def __init__(self, releases: Path, model_name: str, config: ServingConfig) -> None:
        self._releases = releases
        self._model_name = model_name
        self._config = config
        self._members: dict[SpawnProcess, tuple[int, Connection]] = {}  # its number, from 0

    def start(self, stopped: threading.Event) -> str:
        """Starts all; returns what the last one said when it was ready, or "" at a signal before that."""
        for number in range(self._config.processes):
            self._add(number)
        ready = ""
        for process, (_, connection) in self._members.items():
            while not connection.poll(WAKE_SECONDS):
                if stopped.is_set():
                    return ""
            try:
                ready, error = connection.recv()
            except EOFError:
                process.join()
                error = ServerError(f"server process {process.pid} ended with {process.exitcode} before it was ready")
            if error is not None:
                raise error
        return ready

    def replace_dead_ones(self, stopped: threading.Event) -> None:
        """Returns at a signal."""
        while not stopped.is_set():
            wait([process.sentinel for process in self._members], WAKE_SECONDS)
            for process in [process for process in self._members if process.exitcode is not None]:
                # A signal to the group, as from a terminal, may have ended it.
                if stopped.wait(PAUSE_SECONDS):
                    return
                logger.error("server process %d ended with %s: another is started", process.pid, process.exitcode)
                number, connection = self._members.pop(process)
                connection.close()
                self._add(number)

    def stop(self) -> None:
        """Lets all drain and waits for them."""
        for process in self._members:
            process.terminate()
        for process, (_, connection) in self._members.items():
            process.join()
            connection.close()

    def _add(self, number: int) -> None:
        config = self._config
        if config.rest_port:
            # Two on one port would share it, and a scrape tell the metrics of either.
            config = config.model_copy(update={"rest_port": config.rest_port + number})
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
        ours, theirs = context.Pipe()
        process = context.Process(target=_member, args=(self._releases, self._model_name, config, number, theirs))
        process.start()
        theirs.close()
        self._members[process] = (number, ours)


def _member(releases: Path, model_name: str, config: ServingConfig, number: int, parent: Connection) -> None:
    log_to_stderr()
    threading.Thread(target=_stop_with, args=(parent,), daemon=True).start()
    try:
        serve(releases, model_name, config, on_ready=lambda ready: parent.send((ready, None)), number=number)
    except (ServerError, ReleaseError) as error:
        logger.error("the server process cannot start: %s", error)  # noqa: TRY400 - the message says it all
        parent.send(("", error))


def _stop_with(parent: Connection) -> None:
    try:
        parent.recv()
    except (EOFError, ConnectionResetError):
        os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _reserved_port(config: ServingConfig) -> Iterator[int]:
    """Holds the port, so that port 0 means one port for all and no other program gets it between two starts.

    Raises:
      ServerError: the port is taken, or the host is not this machine's.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            # Without SO_REUSEPORT this fails where another server listens, even one that would share its port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            port = probe.getsockname()[1]
        held = socket.socket(family, kind)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((address[0], port, *address[2:]))
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that no host can have
        raise ServerError(
            f"cannot listen on {config.host}:{config.port}: the port is taken, or the host is not this machine's"
        ) from error
    with held:
        yield port
