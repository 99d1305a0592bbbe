"""Metrics and reflection of a whole server."""

import threading
from pathlib import Path

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from serving.client import RetrievalClient
from serving.config import ServingConfig
from serving.server import Server, ServerError
from serving.tower import Tower
from tests.integration.serving.conformance.conftest import Running
from tests.integration.serving.conformance.requests import example_list, predict, refused, row
from tests.integration.serving.conformance.test_examples import (
    CLASSIFY,
    IN_CONTEXT,
    REGRESS,
    classification,
    multi,
    regression,
    task,
)

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


def test_the_towers_part_in_requests(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way to ask for a signature is counted, and hands the caller's deadline to the tower."""
    timeouts, answer = [], Tower.predict

    def predicted(tower: Tower, signature: str, inputs: dict, timeout: float) -> dict:
        timeouts.append(timeout)
        return answer(tower, signature, inputs)

    monkeypatch.setattr(Tower, "predict", predicted)
    before, examples = metrics(running), example_list(2, 20)
    running.prediction.Predict(predict("half_plus_two", {"x": row(1)}), timeout=20)
    running.prediction.Classify(classification("classify", examples), timeout=20)
    running.prediction.Regress(regression("regress", IN_CONTEXT), timeout=20)
    tasks = (task("regress", REGRESS), task("classify", CLASSIFY))
    running.prediction.MultiInference(multi(*tasks, examples=examples), timeout=20)
    assert len(timeouts) == 5
    assert 0 < min(timeouts) <= max(timeouts) < 21
    document = {"signature_name": "regress", "examples": [{"x": 1.0}] * 3}
    assert running.http.json("POST", "/v1/models/tiny:regress", document)[0] == 200
    after, tf = metrics(running), ":tensorflow:serving:"

    def rise(name: str) -> float:
        return after[tf + name] - before.get(tf + name, 0)

    counts = {"Predict": 1, "Classify": 1, "Regress": 2, "MultiInference": 2}  # two signatures, each run by itself
    for api, count in counts.items():
        assert rise(f'runtime_latency_count{{API="{api}",model_name="tiny",runtime="TF1"}}') == count
    assert rise('request_latency_count{API="MultiInference",entrypoint="GRPC",model_name="tiny"}') == 1
    assert rise('request_count{model_name="tiny",status="OK"}') == 5
    assert rise('request_example_count_total{model="tiny"}') == 2 + 2 + 2 + 3
    assert rise('request_example_counts_count{model="tiny"}') == 4


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


def test_rest_port_that_is_taken(running: Running, tmp_path: Path) -> None:
    port = int(running.http.address.rsplit(":", 1)[1])
    with pytest.raises(ServerError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
        Server(tmp_path, "tiny", ServingConfig(port=0, rest_port=port))
