from collections.abc import Iterator
from dataclasses import dataclass

import grpc
import pytest
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from serving.config import ServingConfig
from serving.server import Server
from tests.integration.serving.conformance import signatures
from tests.integration.serving.conformance.http import Http
from tests.unit.serving import tiny


@dataclass(frozen=True)
class Running:
    """A server in this process, and how to ask it."""

    server: Server
    version: int
    prediction: prediction_service_pb2_grpc.PredictionServiceStub
    status: model_service_pb2_grpc.ModelServiceStub
    channel: grpc.Channel
    http: Http


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("conformance")
    version = tiny.publish(folder / "r", signatures.save(folder / "model"), folder / "index")
    server = Server(folder / "r", "tiny", ServingConfig(port=0, rest_port=0))
    assert server.start() == version
    assert server.rest_address is not None
    with grpc.insecure_channel(server.address, options=[("grpc.max_receive_message_length", -1)]) as channel:
        yield Running(
            server,
            version,
            prediction_service_pb2_grpc.PredictionServiceStub(channel),
            model_service_pb2_grpc.ModelServiceStub(channel),
            channel,
            Http(server.rest_address),
        )
    server.stop()
