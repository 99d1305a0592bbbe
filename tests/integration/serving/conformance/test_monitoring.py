"""Metrics and reflection of a whole server."""

import threading

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from serving.client import RetrievalClient
from serving.config import ServingConfig
from serving.server import Server, ServerError
from tests.integration.serving.conformance.conftest import Running
from tests.integration.serving.conformance.requests import predict, refused, row

SERVICES = (
    "tensorflow.serving.PredictionService",
    "tensorflow.serving.ModelService",
    "retrieval.v1.RetrievalService",
    "grpc.health.v1.Health",
)
PATH = "/monitoring/prometheus/metrics"


def metrics(running: Running) -> dict[str, float]:
    status, headers, body = running.http.ask("GET", PATH)
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    samples = [line.rsplit(" ", 1) for line in body.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in samples}


def test_what_a_scrape_says(running: Running) -> None:
    before = metrics(running)
    for _ in range(2):
        running.prediction.Predict(predict("half_plus_two", {"x": row(1)}), timeout=30)
    refused(running.prediction.Predict, predict("x", {}))
    running.http.json("POST", "/v1/models/tiny:predict", {"signature_name": "half_plus_two", "instances": [1]})
    with RetrievalClient(running.server.address, timeout=30) as client:
        client.recommend(query_id="alice", k=1)
    after = metrics(running)

    def rise(name: str) -> float:
        return after[name] - before.get(name, 0)

    tf, predict_name = ":tensorflow:serving:request", "tensorflow.serving.PredictionService/Predict"
    assert rise(f'{tf}_count{{model_name="tiny",status="OK"}}') == 3
    assert rise(f'{tf}_count{{model_name="tiny",status="FAILED_PRECONDITION"}}') == 1
    assert rise(f'{tf}_latency_count{{API="Predict",entrypoint="GRPC",model_name="tiny"}}') == 2
    assert rise(f'{tf}_latency_count{{API="predict",entrypoint="REST",model_name="tiny"}}') == 1
    assert rise(f'{tf}_latency_sum{{API="Predict",entrypoint="GRPC",model_name="tiny"}}') > 20  # microseconds
    assert rise(f'retrieval_requests_total{{code="OK",method="{predict_name}"}}') == 2
    assert rise(f'retrieval_requests_total{{code="FAILED_PRECONDITION",method="{predict_name}"}}') == 1
    assert rise('retrieval_requests_total{code="OK",method="retrieval.v1.RetrievalService/Recommend"}') == 1
    assert after[f'retrieval_release_loaded{{version="{running.version}"}}'] == 1
    for stage in ("tower", "search", "rest"):
        assert rise(f'retrieval_stage_seconds_count{{stage="{stage}"}}') == 1


def reflect(channel: grpc.Channel, **values: object) -> reflection_pb2.ServerReflectionResponse:
    request = reflection_pb2.ServerReflectionRequest(**values)
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    return next(stub.ServerReflectionInfo(iter([request]), timeout=30))


def test_reflection(running: Running) -> None:
    services = reflect(running.channel, list_services="").list_services_response.service
    assert {service.name for service in services} == {*SERVICES, "grpc.reflection.v1alpha.ServerReflection"}
    for name in SERVICES:
        assert reflect(running.channel, file_containing_symbol=name).file_descriptor_response.file_descriptor_proto


def test_open_reflection_streams_take_no_thread_from_requests(running: Running) -> None:
    stub, done = reflection_pb2_grpc.ServerReflectionStub(running.channel), threading.Event()
    streams = [stub.ServerReflectionInfo(iter(lambda: done.wait(60), True)) for _ in range(20)]
    assert running.prediction.Predict(predict("half_plus_two", {"x": row(2)}), timeout=30).outputs["y"].float_val == [3]
    done.set()
    for stream in streams:
        stream.cancel()


def test_rest_port_that_is_taken(running: Running) -> None:
    port = int(running.http.address.rsplit(":", 1)[1])
    with pytest.raises(ServerError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
        Server(running.server._releases, "tiny", ServingConfig(port=0, rest_port=port))
