"""gRPC server reflection, with which grpcurl and the like find the services. Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from types import ModuleType

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from serving.admission import WorkerPool

THREADS = 4


def add_reflection(protocols: Iterable[ModuleType], server: grpc.Server) -> None:
    """Adds the reflection service.

    A reflection stream holds a thread until its caller is done with it, so these have threads of their own and cannot
    take those that answer requests.

    Args:
      protocols: generated modules of the .proto files whose services the server offers.
      server: not started yet.
    """
    services = [service for protocol in protocols for service in protocol.DESCRIPTOR.services_by_name.values()]
    servicer = reflection.ReflectionServicer([*(service.full_name for service in services), reflection.SERVICE_NAME])
    streams = partial(servicer.ServerReflectionInfo)
    streams.experimental_thread_pool = WorkerPool(THREADS, 0)  # type: ignore[attr-defined]
    servicer.ServerReflectionInfo = streams
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
