"""The retrieval server: synchronous gRPC, the releases of one folder, in one process or several.

python -m serving.server --releases DIR --model NAME [--config FILE] [--host HOST] [--port PORT]

TensorFlow, which takes seconds to import, is imported by Server: --help and a wrong argument do not wait for it.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType

# TensorFlow reads it when it is first imported; its start-up chatter is of no use to an operator.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import grpc
import yaml
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from pydantic import ValidationError

from serving.access import AccessError, TokenCheck, Tokens, channel_credentials, server_credentials
from serving.admission import Admission, WorkerPool
from serving.collector import without_collector
from serving.config import ServingConfig
from serving.cores import core_of, staying_on
from serving.deadlines import Deadlines
from serving.http_server import HttpServer
from serving.metrics import Metrics, RequestCounter
from serving.proto import retrieval_pb2
from serving.receiving import Receiving
from serving.reflection import add_reflection
from serving.release import ReleaseError

HEALTH_NAMES = ("", "ModelService", "PredictionService", "retrieval.v1.RetrievalService")
MAX_MESSAGE_BYTES = 64 << 20  # TensorFlow Serving takes 2 GiB, of which a few callers at a time would be its end
KEEPALIVE_MS = 20_000  # a peer that vanished without a word is noticed after so long
WAKE_SECONDS = 0.5
DRAIN_SECONDS = 10.0  # what is under way at a stop may take so long

logger = logging.getLogger(__name__)


class ServerError(RuntimeError):
    """The server cannot start."""


class Server:
    """A gRPC server on one port. `start` loads a release; until then its health is NOT_SERVING."""

    def __init__(self, releases: Path, model_name: str, config: ServingConfig, number: int = 0) -> None:
        """Takes the port.

        Args:
          releases: root folder of the releases.
          model_name: the served model's name.
          config: where to listen, which releases to load, and the limits.
          number: of this process among those that share the port.

        Raises:
          ServerError: the port is taken, or the host is not this machine's; or a certificate, a key or the token file
            cannot be used.
        """
        from tensorflow_serving.apis import (
            model_service_pb2,
            model_service_pb2_grpc,
            prediction_service_pb2,
            prediction_service_pb2_grpc,
        )

        from serving.manager import Manager
        from serving.model_service import ModelService
        from serving.prediction_service import PredictionService
        from serving.rest import RestApi
        from serving.served import Current
        from serving.service import RetrievalService

        self._current = Current(model_name)
        self.metrics = Metrics(self._current)
        self._manager = Manager(releases, self._current, config.version_policy, config.tower)
        self._health = health.HealthServicer()
        self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        self._core = core_of(number) if config.one_core else None
        pool = WorkerPool(config.max_concurrent, config.max_queued, self._core)
        self._admission = Admission(pool, self.metrics.refused, self._health)
        self._receiving = Receiving(config.receive_seconds)
        # Outermost first. Receiving hands the others one message a call.
        interceptors: list[grpc.ServerInterceptor] = [
            self._admission,
            self._receiving,
            RequestCounter(self.metrics),
            Deadlines(),
        ]
        try:
            tokens = None if config.token_file is None else Tokens(config.token_file)
            credentials = None if config.tls is None else server_credentials(config.tls)
            if config.tower is not None and config.tower.ca is not None:
                channel_credentials(config.tower.ca)
        except AccessError as error:
            raise ServerError(str(error)) from error
        if tokens is not None:
            interceptors.insert(0, TokenCheck(tokens, self._admission))
        self._server = grpc.server(
            pool,
            interceptors=interceptors,
            options=[
                ("grpc.keepalive_time_ms", KEEPALIVE_MS),
                ("grpc.so_reuseport", int(config.processes > 1)),
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ],
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionService(self._current, self.metrics), self._server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            ModelService(self._current, self._manager), self._server
        )
        RetrievalService(self._current, config, self.metrics).add_to(self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        add_reflection((prediction_service_pb2, model_service_pb2, retrieval_pb2, health_pb2), self._server)
        host = config.address.rpartition(":")[0]
        try:
            if credentials is None:
                port = self._server.add_insecure_port(config.address)
            else:
                port = self._server.add_secure_port(config.address, credentials)
        except RuntimeError as error:
            raise ServerError(
                f"cannot listen on {config.address}: the port is taken, or the host is not this machine's"
            ) from error
        self.address = f"{host}:{port}"
        self._rest: HttpServer | None = None
        self.rest_address: str | None = None
        if config.rest_port is not None:
            try:
                api = RestApi(self._current, self.metrics, pool)
                self._rest = HttpServer(config.host, config.rest_port, api.answer, tokens)
            except (OSError, UnicodeError) as error:  # UnicodeError: a name that no host can have
                self._server.stop(0)
                reason = error.strerror if isinstance(error, OSError) else error
                raise ServerError(f"cannot listen on {host}:{config.rest_port}: {reason}") from error
            self.rest_address = f"{host}:{self._rest.port}"

    def start(self, stopped: threading.Event | None = None) -> int:
        """Answers health checks at once, loads and warms up what is to be served, then serves it and watches for more.

        Args:
          stopped: ends the waiting for TensorFlow Serving.

        Returns:
          The version that answers requests which name none.

        Raises:
          ReleaseError: there is no release that can be served, or the releases' state file is broken.
        """
        self._receiving.start()
        # gRPC's polling thread is started here. Releases are loaded by threads that may run anywhere.
        with nullcontext() if self._core is None else staying_on(self._core):
            self._server.start()
        if self._rest is not None:
            self._rest.start()
        try:
            version = self._manager.start(stopped)
        except ReleaseError:
            self.stop(grace=0)
            raise
        self._set_health(health_pb2.HealthCheckResponse.SERVING)
        return version

    def stop(self, grace: float = DRAIN_SECONDS) -> None:
        """Reports NOT_SERVING, takes no new requests and waits at most `grace` seconds for those under way."""
        self._health.enter_graceful_shutdown()
        drained = self._server.stop(grace)
        if self._rest is not None:
            self._rest.stop(grace)
        self._manager.stop()
        drained.wait()
        self._receiving.stop()
        self._admission.stop()

    def _set_health(self, status: int) -> None:
        for name in HEALTH_NAMES:
            self._health.set(name, status)


def announce(ready: str) -> None:
    """Prints the line that tells a caller that the server answers."""
    print(ready, flush=True)


def serve(
    releases: Path,
    model_name: str,
    config: ServingConfig,
    on_ready: Callable[[str], object] = announce,
    number: int = 0,
) -> None:
    """Serves until SIGTERM or SIGINT, then drains and returns. Call it from the main thread.

    Args:
      releases: root folder of the releases.
      model_name: the served model's name.
      config: where to listen and the limits.
      on_ready: gets `serving MODEL version V on HOST:PORT` when the server answers.
      number: of this process among those that share the port.

    Raises:
      ServerError: the port cannot be had, or a certificate, a key or the token file cannot be used.
      ReleaseError: there is no release that can be served, or the releases' state file is broken.
    """
    with stopped_by_signals() as stopped:
        with without_collector():  # nor need the collection after a release is dropped look through the imports
            server = Server(releases, model_name, config, number)
        try:
            version = server.start(stopped)
        except ReleaseError:
            if stopped.is_set():
                return
            raise
        ready = f"serving {model_name} version {version} on {server.address}"
        on_ready(ready if server.rest_address is None else f"{ready}\nREST and metrics on {server.rest_address}")
        # The kernel may hand the signal to another thread; Python runs its handler when this one next wakes up.
        while not stopped.wait(WAKE_SECONDS):
            pass
        server.stop()


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set. Call it from the main thread."""
    stopped = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stopped.set()

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopped
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def log_to_stderr() -> None:
    """The log of a server process."""
    # Google's client libraries, which TensorFlow loads, say with each start that they would like a newer Python.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.api_core")
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")


def main(arguments: list[str] | None = None) -> int:
    """The command line. Returns the exit code: 0 after a signal, 1 if the server cannot start."""
    parser = argparse.ArgumentParser(prog="python -m serving.server", description="Serves the releases of a folder.")
    parser.add_argument("--releases", type=Path, required=True, help="root folder of the releases")
    parser.add_argument("--model", required=True, help="the model's name")
    parser.add_argument("--config", type=Path, help="YAML file with the keys of a configuration's `serving` section")
    parser.add_argument("--host", help="instead of the file's")
    parser.add_argument("--port", type=int, help="instead of the file's; 0: any free port")
    parser.add_argument("--processes", type=int, help="instead of the file's; so many share the port")
    options = parser.parse_args(arguments)
    log_to_stderr()
    try:
        keys = {} if options.config is None else yaml.safe_load(options.config.read_text(encoding="utf-8")) or {}
        given = {name: value for name in ("host", "port", "processes") if (value := getattr(options, name)) is not None}
        config = ServingConfig.model_validate({**keys, **given})
    except ValidationError as error:
        parser.error("; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()))
    except (OSError, yaml.YAMLError, TypeError, ValueError) as error:
        parser.error(f"{options.config}: {' '.join(str(error).split())}")
    from serving.processes import serve_in_processes

    try:
        serve_in_processes(options.releases, options.model, config)
    except (ServerError, ReleaseError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    # Not this copy of the module, which is called __main__: serving.processes raises the other one's errors.
    from serving.server import main as imported_main

    sys.exit(imported_main())
