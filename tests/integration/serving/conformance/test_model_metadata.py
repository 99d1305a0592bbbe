"""GetModelMetadata."""

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2

from tests.integration.serving.conformance.conftest import Running
from tests.integration.serving.conformance.requests import INVALID, UNKNOWN_MODELS, refused, spec

Request = get_model_metadata_pb2.GetModelMetadataRequest


def signatures_of(running: Running, request: Request) -> get_model_metadata_pb2.SignatureDefMap:
    response = running.prediction.GetModelMetadata(request, timeout=30)
    assert (response.model_spec.name, response.model_spec.version.value) == ("tiny", running.version)
    assert list(response.metadata) == ["signature_def"]
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    return signatures


@pytest.mark.parametrize("named", [False, True], ids=["newest", "version"])
def test_signatures(running: Running, named: bool) -> None:
    model_spec = spec(version={"value": running.version}) if named else spec()
    signatures = signatures_of(running, Request(model_spec=model_spec, metadata_field=["signature_def"]))
    signature = signatures.signature_def["serving_default"]
    assert sorted(signature.inputs) == ["history", "tags", "time", "user_id", "w"]
    assert signature.inputs["w"].dtype == tf.float32.as_datatype_enum
    assert [dim.size for dim in signature.inputs["tags"].tensor_shape.dim] == [-1, -1]
    assert list(signature.outputs) == ["embedding"]
    assert signature.method_name == "tensorflow/serving/predict"
    assert signatures.signature_def["classify"].method_name == "tensorflow/serving/classify"
    assert signatures.signature_def["sum_with_default"].defaults["b"].float_val == [10]


def test_field_named_twice(running: Running) -> None:
    request = Request(model_spec=spec(), metadata_field=["signature_def", "signature_def"])
    assert "serving_default" in signatures_of(running, request).signature_def


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"metadata_field": ["signature_def"]}, "Missing ModelSpec"),
        ({}, "Missing ModelSpec"),
        ({"model_spec": spec()}, "GetModelMetadataRequest must specify at least one metadata_field"),
        (
            {"model_spec": {"name": "m"}},
            "GetModelMetadataRequest must specify at least one metadata_field",
        ),
        ({"model_spec": spec(), "metadata_field": ["x"]}, "Metadata field x is not supported"),
        ({"model_spec": spec(), "metadata_field": ["signature_def", "x"]}, "Metadata field x is not supported"),
    ],
)
def test_refused(running: Running, values: dict, message: str) -> None:
    assert refused(running.prediction.GetModelMetadata, Request(**values)) == (INVALID, message)


@pytest.mark.parametrize(("model_spec", "code", "message"), UNKNOWN_MODELS)
def test_unknown_models(running: Running, model_spec: dict, code: grpc.StatusCode, message: str) -> None:
    request = Request(model_spec=model_spec, metadata_field=["signature_def"])
    assert refused(running.prediction.GetModelMetadata, request) == (code, message)
