"""GetModelStatus of one loaded version."""

import grpc
import pytest
from tensorflow_serving.apis import get_model_status_pb2

from tests.integration.serving.conformance.conftest import Running
from tests.integration.serving.conformance.requests import INVALID, NOT_FOUND, refused, spec

Request = get_model_status_pb2.GetModelStatusRequest


@pytest.mark.parametrize("named", [False, True], ids=["all", "version"])
def test_available(running: Running, named: bool) -> None:
    model_spec = spec(version={"value": running.version}) if named else spec()
    response = running.status.GetModelStatus(Request(model_spec=model_spec), timeout=30)
    (status,) = response.model_version_status
    assert (status.version, status.state) == (running.version, get_model_status_pb2.ModelVersionStatus.AVAILABLE)
    assert status.HasField("status")
    assert (status.status.error_code, status.status.error_message) == (0, "")


@pytest.mark.parametrize(
    ("values", "code", "message"),
    [
        ({}, INVALID, "Missing ModelSpec"),
        ({"model_spec": {"name": "m"}}, NOT_FOUND, "Could not find any versions of model m"),
        ({"model_spec": spec(version={"value": 5})}, NOT_FOUND, "Could not find version 5 of model tiny"),
        ({"model_spec": spec(version_label="x")}, INVALID, "Unrecognized servable version label: x"),
    ],
)
def test_refused(running: Running, values: dict, code: grpc.StatusCode, message: str) -> None:
    assert refused(running.status.GetModelStatus, Request(**values)) == (code, message)
