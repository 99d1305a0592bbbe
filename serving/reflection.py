"""gRPC server reflection, with which grpcurl and the like find the services. Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import ModuleType

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc


def add_reflection(protocols: Iterable[ModuleType], server: grpc.Server) -> None:
    """Adds the reflection service.

    A reflection stream holds a thread for as long as its caller likes, so these have one of their own and cannot take
    those that answer requests.

    Args:
      protocols: generated modules of the .proto files whose services the server offers.
      server: not started yet.
    """
    services = [service for protocol in protocols for service in protocol.DESCRIPTOR.services_by_name.values()]
    servicer = reflection.ReflectionServicer([*(service.full_name for service in services), reflection.SERVICE_NAME])
    streams = partial(servicer.ServerReflectionInfo)
    streams.experimental_thread_pool = ThreadPoolExecutor(1, thread_name_prefix="reflection")  # type: ignore[attr-defined]
    servicer.ServerReflectionInfo = streams
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
