"""What clients of TensorFlow Serving rely on, case by case, against a real server."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from serving.config import ServingConfig
from serving.server import Server
from tests.unit.serving import tiny

INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
NAMES = "history,tags,time,user_id,w"
TENSORS = {
    "user_id": tf.make_tensor_proto(["alice", ""]),
    "w": tf.make_tensor_proto([1.5, float("nan")]),
    "tags": tf.make_tensor_proto([["x", "y"], ["x", ""]]),
    "history": tf.make_tensor_proto([[""], ["i1"]]),
    "time": tf.make_tensor_proto([7, -1], dtype=tf.int64),
}
TRUNCATED = tensor_pb2.TensorProto(
    dtype=tf.float32.as_datatype_enum, tensor_shape={"dim": [{"size": 2}]}, tensor_content=b"1"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[tuple[grpc.Channel, int]]:
    folder = tmp_path_factory.mktemp("server")
    version = tiny.publish(folder / "releases", model, folder / "index")
    server = Server(folder / "releases", "tiny", ServingConfig(port=0))
    assert server.start() == version
    with grpc.insecure_channel(server.address) as channel:
        yield channel, version
    server.stop()


@pytest.fixture
def version(server: tuple[grpc.Channel, int]) -> int:
    return server[1]


@pytest.fixture
def stub(server: tuple[grpc.Channel, int]) -> prediction_service_pb2_grpc.PredictionServiceStub:
    return prediction_service_pb2_grpc.PredictionServiceStub(server[0])


@pytest.fixture
def status_stub(server: tuple[grpc.Channel, int]) -> model_service_pb2_grpc.ModelServiceStub:
    return model_service_pb2_grpc.ModelServiceStub(server[0])


def spec(**values: object) -> dict:
    return {"name": "tiny", **values}


def predict(inputs: dict | None = None, **values: object) -> predict_pb2.PredictRequest:
    values.setdefault("model_spec", spec())
    return predict_pb2.PredictRequest(inputs=TENSORS if inputs is None else inputs, **values)


def refused(call: object, request: object) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as raised:
        call(request, timeout=30)  # type: ignore[operator]
    return raised.value.code(), raised.value.details()


def test_predict(stub: prediction_service_pb2_grpc.PredictionServiceStub, version: int) -> None:
    response = stub.Predict(predict(), timeout=30)
    output = response.outputs["embedding"]
    assert list(response.outputs) == ["embedding"]
    assert list(output.float_val) == [101.5, 2, 0, 7, 0, 1, 1, -1]
    assert output.tensor_content == b""
    assert [dim.size for dim in output.tensor_shape.dim] == [2, 4]
    assert response.model_spec.name == "tiny"
    assert response.model_spec.version.value == version
    assert response.model_spec.signature_name == "serving_default"


def test_predict_of_a_version_and_another_signature(
    stub: prediction_service_pb2_grpc.PredictionServiceStub, version: int
) -> None:
    row = tiny.example(a=[1.0], b=[2.0], c=[3.0], d=[4.0]).SerializeToString()
    request = predict(
        {"examples": tf.make_tensor_proto([row])},
        model_spec=spec(version={"value": version}, signature_name="item_examples"),
        output_filter=["embedding"],
    )
    response = stub.Predict(request, timeout=30)
    assert list(response.outputs["embedding"].float_val) == [1, 2, 3, 4]
    assert response.model_spec.signature_name == "item_examples"


def test_predict_broadcasts_one_value_as_tensorflow_serving_does(
    stub: prediction_service_pb2_grpc.PredictionServiceStub,
) -> None:
    w = tf.make_tensor_proto([1.0])
    w.tensor_shape.dim[0].size = 2
    response = stub.Predict(predict({**TENSORS, "w": w}), timeout=30)
    assert list(response.outputs["embedding"].float_val)[::4] == [101, 1]


def without(name: str) -> dict:
    return {key: value for key, value in TENSORS.items() if key != name}


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (predict_pb2.PredictRequest(inputs=TENSORS), INVALID, "Missing ModelSpec"),
        (predict(model_spec={}), INVALID, "ModelSpec has no name specified."),
        (predict(model_spec={"name": "m"}), NOT_FOUND, "Servable not found for request: Latest(m)"),
        (
            predict(model_spec={"name": "m", "version": {"value": 5}}),
            NOT_FOUND,
            "Servable not found for request: Specific(m, 5)",
        ),
        (
            predict(model_spec=spec(version={"value": 5})),
            NOT_FOUND,
            "Servable not found for request: Specific(tiny, 5)",
        ),
        (
            predict(model_spec=spec(version={"value": 0})),
            NOT_FOUND,
            "Servable not found for request: Specific(tiny, 0)",
        ),
        (predict(model_spec=spec(version_label="x")), INVALID, "Unrecognized servable version label: x"),
        (
            predict(model_spec=spec(signature_name="x")),
            grpc.StatusCode.FAILED_PRECONDITION,
            'Serving signature key "x" not found.',
        ),
        (
            predict(without("w")),
            INVALID,
            f"input size does not match signature: 4!=5 len({{history,tags,time,user_id}}) != len({{{NAMES}}}). "
            "Sent extra: {}. Missing but required: {w}.",
        ),
        (
            predict({**TENSORS, "x": TENSORS["w"]}),
            INVALID,
            f"input size does not match signature: 6!=5 len({{{NAMES},x}}) != len({{{NAMES}}}). "
            "Sent extra: {x}. Missing but required: {}.",
        ),
        (
            predict({**without("w"), "x": TENSORS["w"]}),
            INVALID,
            f"input tensor alias not found in request: w. Inputs expected to be in the set {{{NAMES}}}.",
        ),
        (
            predict({**TENSORS, "w": TRUNCATED}),
            INVALID,
            "tensor parsing error: w",
        ),
        (
            predict({**TENSORS, "w": tf.make_tensor_proto(["1", "2"])}),
            INVALID,
            "input w has type string, expected float32",
        ),
        (
            predict({**TENSORS, "w": tf.make_tensor_proto([[1.0, 2.0]])}),
            INVALID,
            "input w has shape [1, 2], expected (None,)",
        ),
        (
            predict(output_filter=["x"]),
            INVALID,
            "output tensor alias not found in signature: x",
        ),
        (
            predict(output_filter=["embedding", "embedding"]),
            INVALID,
            "duplicate output tensor alias: an output_filter must name each output once",
        ),
    ],
)
def test_predict_refuses(
    stub: prediction_service_pb2_grpc.PredictionServiceStub,
    request_: predict_pb2.PredictRequest,
    code: grpc.StatusCode,
    message: str,
) -> None:
    assert refused(stub.Predict, request_) == (code, message)


def test_error_of_an_op_is_the_callers(stub: prediction_service_pb2_grpc.PredictionServiceStub) -> None:
    code, message = refused(stub.Predict, predict({**TENSORS, "w": tf.make_tensor_proto([1.0, 2.0, 3.0])}))
    assert code is INVALID
    assert "[3]" in message
    code, message = refused(
        stub.Predict,
        predict({"examples": tf.make_tensor_proto([b"no example"])}, model_spec=spec(signature_name="item_examples")),
    )
    assert code is INVALID
    assert "Could not parse example" in message


def test_metadata(stub: prediction_service_pb2_grpc.PredictionServiceStub, version: int) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec(), metadata_field=["signature_def"])
    response = stub.GetModelMetadata(request, timeout=30)
    assert (response.model_spec.name, response.model_spec.version.value) == ("tiny", version)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    signature = signatures.signature_def["serving_default"]
    assert sorted(signature.inputs) == NAMES.split(",")
    assert signature.inputs["w"].dtype == tf.float32.as_datatype_enum
    assert list(signature.outputs) == ["embedding"]


@pytest.mark.parametrize(
    ("values", "code", "message"),
    [
        ({"metadata_field": ["signature_def"]}, INVALID, "Missing ModelSpec"),
        (
            {"model_spec": spec()},
            INVALID,
            "GetModelMetadataRequest must specify at least one metadata_field",
        ),
        ({"model_spec": spec(), "metadata_field": ["x"]}, INVALID, "Metadata field x is not supported"),
        (
            {"model_spec": {"name": "m"}, "metadata_field": ["signature_def"]},
            NOT_FOUND,
            "Servable not found for request: Latest(m)",
        ),
    ],
)
def test_metadata_refuses(
    stub: prediction_service_pb2_grpc.PredictionServiceStub, values: dict, code: grpc.StatusCode, message: str
) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(**values)
    assert refused(stub.GetModelMetadata, request) == (code, message)


@pytest.mark.parametrize("named", [False, True])
def test_status(status_stub: model_service_pb2_grpc.ModelServiceStub, version: int, named: bool) -> None:
    model_spec = spec(version={"value": version}) if named else spec()
    response = status_stub.GetModelStatus(get_model_status_pb2.GetModelStatusRequest(model_spec=model_spec), timeout=30)
    (status,) = response.model_version_status
    assert (status.version, status.state) == (version, get_model_status_pb2.ModelVersionStatus.AVAILABLE)
    assert status.HasField("status")
    assert status.status.error_code == 0


@pytest.mark.parametrize(
    ("values", "code", "message"),
    [
        ({}, INVALID, "Missing ModelSpec"),
        ({"model_spec": {"name": "m"}}, NOT_FOUND, "Could not find any versions of model m"),
        (
            {"model_spec": spec(version={"value": 5})},
            NOT_FOUND,
            "Could not find version 5 of model tiny",
        ),
        ({"model_spec": spec(version_label="x")}, INVALID, "Unrecognized servable version label: x"),
    ],
)
def test_status_refuses(
    status_stub: model_service_pb2_grpc.ModelServiceStub, values: dict, code: grpc.StatusCode, message: str
) -> None:
    request = get_model_status_pb2.GetModelStatusRequest(**values)
    assert refused(status_stub.GetModelStatus, request) == (code, message)


def test_what_is_not_offered_says_so(stub: prediction_service_pb2_grpc.PredictionServiceStub) -> None:
    for name, call, request in (
        ("Classify", stub.Classify, classification_pb2.ClassificationRequest()),
        ("Regress", stub.Regress, regression_pb2.RegressionRequest()),
        ("MultiInference", stub.MultiInference, inference_pb2.MultiInferenceRequest()),
    ):
        code, message = refused(call, request)
        assert code is grpc.StatusCode.UNIMPLEMENTED
        assert message.startswith(f"{name} is not offered")


def test_request_beyond_four_mebibytes(stub: prediction_service_pb2_grpc.PredictionServiceStub) -> None:
    rows = 200_000  # more than gRPC's own limit for a message
    inputs = {
        "user_id": tf.make_tensor_proto(np.full(rows, b"somebody else", dtype=object)),
        "w": tf.make_tensor_proto(np.arange(rows, dtype=np.float32)),
        "tags": tf.make_tensor_proto(np.full((rows, 1), b"some tag", dtype=object)),
        "history": tf.make_tensor_proto(np.full((rows, 1), b"", dtype=object)),
        "time": tf.make_tensor_proto(np.full(rows, -1, dtype=np.int64)),
    }
    request = predict(inputs)
    assert request.ByteSize() > 4 << 20
    with grpc.insecure_channel(stub_address(stub), options=[("grpc.max_receive_message_length", -1)]) as channel:
        response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=60)
    assert list(response.outputs["embedding"].float_val)[4 * 199_999] == 199_999


def stub_address(stub: prediction_service_pb2_grpc.PredictionServiceStub) -> str:
    return stub.Predict._channel.target().decode()
