import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.config import TowerConfig
from serving.remote_tower import RemoteTower
from serving.status import RequestError, refuse
from serving.tensors import decode, encode
from serving.tower import Tower
from tests.unit.serving.tiny import SPEC

NOT_FOUND, UNAVAILABLE = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE
VERSION = 7


class Predicting(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Answers as TensorFlow Serving would, from a tower in this process; refuses first with the given statuses."""

    def __init__(self, tower: Tower) -> None:
        self.tower = tower
        self.refusals: list[grpc.StatusCode] = []
        self.requests: list[predict_pb2.PredictRequest] = []
        self.remaining = 0.0
        self.passes = threading.Event()
        self.passes.set()

    def Predict(
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        self.requests.append(request)
        self.remaining = context.time_remaining()
        assert self.passes.wait(30)
        if self.refusals:
            refuse(context, self.refusals.pop(0), "no\nreason")
        outputs = self.tower.predict(
            request.model_spec.signature_name, {name: decode(tensor) for name, tensor in request.inputs.items()}
        )
        response = predict_pb2.PredictResponse()
        for name, value in outputs.items():
            encode(value, response.outputs[name])
        return response


@pytest.fixture(scope="module")
def local(model: Path) -> Tower:
    return Tower(model, SPEC)


@pytest.fixture
def serving(local: Tower) -> Iterator[tuple[Predicting, str]]:
    servicer, server = Predicting(local), grpc.server(ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"127.0.0.1:{port}"
    server.stop(0).wait()


@pytest.fixture
def servicer(serving: tuple[Predicting, str]) -> Predicting:
    return serving[0]


@pytest.fixture
def remote(model: Path, serving: tuple[Predicting, str]) -> RemoteTower:
    config = TowerConfig(address=serving[1], timeout_seconds=20.0)
    return RemoteTower(model, SPEC, model_name="tiny", version=VERSION, config=config)


def test_same_embedding_as_in_this_process(local: Tower, remote: RemoteTower) -> None:
    stored = {"w": [1.5], "tags": [b"a"], "history": [b"i1", b"i2"], "time": [3]}
    for query in (
        ("alice", stored, {"tags": ["a", "b"], "w": []}),
        ("", None, {"w": [0.1], "history": ["a", "b", "c"], "time": [1007]}),
        ("\u00fc", stored, {"tags": []}),
    ):
        embedding = remote.embed(*query)
        assert embedding.dtype == np.float32
        np.testing.assert_array_equal(embedding, local.embed(*query))


def test_request_is_pinned_and_of_one_shape(servicer: Predicting, remote: RemoteTower) -> None:
    remote.embed("u", None, {"tags": ["x"], "history": ["a", "b"], "time": [5], "w": [2.0]})
    remote.embed("u", None, {"tags": [], "time": [5]})
    for request, tags, history in zip(
        servicer.requests[-2:], ([b"x", b"", b""], [b"", b"", b""]), ([b"a", b"b"], [b"", b""]), strict=True
    ):
        spec = request.model_spec
        assert (spec.name, spec.version.value, spec.signature_name) == ("tiny", VERSION, "serving_default")
        assert decode(request.inputs["tags"]).tolist() == [tags]  # max_values is 3
        assert decode(request.inputs["history"]).tolist() == [history]  # and 2
        assert decode(request.inputs["time"]).tolist() == [5]


def test_the_nearer_deadline_goes_along(servicer: Predicting, remote: RemoteTower) -> None:
    remote.embed("u", None, {}, timeout=9.0)
    assert 5 < servicer.remaining < 9.1  # gRPC sends it rounded up
    remote.embed("u", None, {}, timeout=1000.0)
    assert 10 < servicer.remaining < 20.1
    remote.embed("u", None, {})
    assert 10 < servicer.remaining < 20.1


def test_a_deadline_that_passes(servicer: Predicting, remote: RemoteTower) -> None:
    servicer.passes.clear()
    with pytest.raises(RequestError) as raised:
        remote.embed("u", None, {}, timeout=0.05)
    servicer.passes.set()
    assert raised.value.status is grpc.StatusCode.DEADLINE_EXCEEDED


def test_nothing_is_asked_before_it_must_be(servicer: Predicting, remote: RemoteTower) -> None:
    assert servicer.requests == []
    servicer.refusals[:] = [NOT_FOUND]
    with pytest.raises(RequestError, match="did not answer for version 7 of tiny: NOT_FOUND: no\nreason"):
        remote.embed("", None, {})
    assert len(servicer.requests) == 1


@pytest.mark.parametrize(
    ("answered", "status"),
    [
        (NOT_FOUND, UNAVAILABLE),
        (UNAVAILABLE, UNAVAILABLE),
        (grpc.StatusCode.INTERNAL, UNAVAILABLE),
        (grpc.StatusCode.UNKNOWN, UNAVAILABLE),
        (grpc.StatusCode.UNAUTHENTICATED, UNAVAILABLE),
        (grpc.StatusCode.DEADLINE_EXCEEDED, UNAVAILABLE),  # the caller has more time: it may try again
        (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
def test_status_for_the_caller(
    servicer: Predicting, remote: RemoteTower, answered: grpc.StatusCode, status: grpc.StatusCode
) -> None:
    servicer.refusals[:] = [answered]
    with pytest.raises(
        RequestError, match=f"TensorFlow Serving at .* version 7 of tiny: {answered.name}: no"
    ) as raised:
        remote.embed("u", None, {})
    assert raised.value.status is status


def test_refused_inputs_are_the_callers_mistake(servicer: Predicting, remote: RemoteTower) -> None:
    servicer.refusals[:] = [grpc.StatusCode.INVALID_ARGUMENT]
    with pytest.raises(ValueError, match="no\nreason"):
        remote.predict("item_examples", {"examples": np.array([b"x"], dtype=object)})
