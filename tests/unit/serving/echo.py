"""A gRPC server that echoes, behind the interceptors of the retrieval server; no TensorFlow, no release."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from prometheus_client import Counter

from serving.admission import Admission, WorkerPool

ECHO = "/test.Echo/Echo"


HEALTH = health.HealthServicer()


def admission(pool: WorkerPool) -> Admission:
    return Admission(pool, Counter("refused", "Refused calls.", ["code"], registry=None), HEALTH)


def parse(message: bytes) -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest.FromString(message)


@contextmanager
def serving(
    pool: WorkerPool,
    interceptors: Sequence[grpc.ServerInterceptor],
    echo: Callable[[health_pb2.HealthCheckRequest], health_pb2.HealthCheckRequest] = lambda request: request,
    credentials: grpc.ServerCredentials | None = None,
) -> Iterator[str]:
    """host:port of a running server with Echo and Health."""
    server = grpc.server(pool, interceptors=interceptors)
    handler = grpc.unary_unary_rpc_method_handler(
        lambda request, context: echo(request), parse, health_pb2.HealthCheckRequest.SerializeToString
    )
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Echo", {"Echo": handler})])
    health_pb2_grpc.add_HealthServicer_to_server(HEALTH, server)
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait()


def until(condition: Callable[[], bool]) -> None:
    """Waits for what another thread is about to bring about."""
    limit = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.001)


def message(text: str) -> bytes:
    return health_pb2.HealthCheckRequest(service=text).SerializeToString()


def status_of(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """Status and message of a call, OK where it succeeds."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""


def healthy(channel: grpc.Channel, service: str = "") -> bool:
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
    return answer.status == health_pb2.HealthCheckResponse.SERVING
