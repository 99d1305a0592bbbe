import threading
from collections.abc import Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from serving.admission import WorkerPool
from serving.receiving import Receiving
from serving.reflection import THREADS, add_reflection
from tests.unit.serving.echo import admission

LIST = reflection_pb2.ServerReflectionRequest(list_services="")


def test_streams_that_go_on_and_on_keep_nobody_else_out_and_end() -> None:
    pool, receiving = WorkerPool(threads=1, queued=0), Receiving(seconds=1)
    receiving.start()
    server = grpc.server(pool, interceptors=[admission(pool), receiving])
    add_reflection((health_pb2,), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    stop = threading.Event()

    def talking() -> Iterator[reflection_pb2.ServerReflectionRequest]:
        yield LIST
        while not stop.wait(0.05):
            yield LIST

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        streams = [stub.ServerReflectionInfo(talking()) for _ in range(THREADS - 1)]
        for stream in streams:
            next(stream)
        (answer,) = stub.ServerReflectionInfo(iter([LIST]), timeout=30)
        names = [service.name for service in answer.list_services_response.service]
        assert names == ["grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"]
        for stream in streams:
            with pytest.raises(grpc.RpcError):
                list(stream)
            assert stream.code() is grpc.StatusCode.CANCELLED
        stop.set()
    receiving.stop()
    server.stop(0).wait()
