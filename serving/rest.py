"""TensorFlow Serving's REST API: paths, methods and HTTP statuses.

https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import grpc
from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2

from serving import examples, json_requests, model_spec
from serving.admission import FULL, FULL_MESSAGE, WorkerPool
from serving.http_server import Reply, error_reply
from serving.json_tensors import parse
from serving.metrics import CONTENT_TYPE, Metrics, ModelRequest
from serving.predict import predict
from serving.query_inputs import SERVING_DEFAULT
from serving.served import Current
from serving.status import RequestError, invalid
from serving.tower_call import TowerCall

METRICS_PATH = "/monitoring/prometheus/metrics"
API_PREFIX = "/v1/"
MODEL = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
INFERENCE = re.compile(MODEL + r":(?P<method>classify|regress|predict)", re.IGNORECASE)
MODEL_PAGE = re.compile(MODEL + r"(?:/(?P<page>metadata))?", re.IGNORECASE)
MAX_VERSION = (1 << 63) - 1

HTTP_STATUSES = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
    grpc.StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS: HTTPStatus.CONFLICT,
    grpc.StatusCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    grpc.StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    grpc.StatusCode.FAILED_PRECONDITION: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.ABORTED: HTTPStatus.CONFLICT,
    grpc.StatusCode.OUT_OF_RANGE: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
    grpc.StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    grpc.StatusCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
}  # any other: 500


class RestApi:
    """Answers requests of whatever HTTP server carries them. Safe for any number of threads."""

    def __init__(self, current: Current, metrics: Metrics, pool: WorkerPool) -> None:
        """Args:
        current: what is being served.
        metrics: of the server, which it counts in and shows.
        pool: that inference runs on, with that over gRPC and within the same limits.
        """
        self._current = current
        self._metrics = metrics
        self._pool = pool

    def answer(self, method: str, path: str, body: bytes) -> Reply:
        """The answer to one request.

        Args:
          method: GET or POST; any other is answered with 405.
          path: without the query.
          body: as sent.
        """
        if method not in ("GET", "POST"):
            return error_reply(HTTPStatus.METHOD_NOT_ALLOWED, f"Method {method} is not one of GET, POST")
        if path == METRICS_PATH:
            return Reply(HTTPStatus.OK, self._metrics.page(), CONTENT_TYPE)
        if not path.lower().startswith(API_PREFIX):
            return error_reply(HTTPStatus.NOT_FOUND, f"Not found: {path}")
        try:
            content = self._admitted(path, body) if method == "POST" else _encoded(self._page(path))
        except RequestError as error:
            return error_reply(HTTP_STATUSES.get(error.status, HTTPStatus.INTERNAL_SERVER_ERROR), error.message)
        return Reply(HTTPStatus.OK, content)

    def _admitted(self, path: str, body: bytes) -> bytes:
        if self._pool.full:
            self._metrics.refused.labels(FULL.name).inc()
            raise RequestError(FULL, FULL_MESSAGE)
        content: bytes = self._pool.submit(lambda: _encoded(self._inference(path, body))).result()
        return content

    def _inference(self, path: str, body: bytes) -> dict[str, Any]:
        found = INFERENCE.fullmatch(path)
        if found is None:
            raise invalid(f"Malformed request: POST {path}")
        spec, method = _spec(found), found["method"].lower()
        with self._metrics.request(spec.name, method, "REST") as counted:
            document = parse(body)
            signature = json_requests.signature_name(document) or SERVING_DEFAULT
            if method == "predict":
                return self._predict(spec, signature, document, counted)
            request = json_requests.examples_input(document)
            tower = TowerCall(model_spec.find_release(self._current, spec).tower, counted.ran)
            if method == "classify":
                answer = json_requests.classify_answer(examples.classify(tower, signature, request))
            else:
                answer = json_requests.regress_answer(examples.regress(tower, signature, request))
            counted.had(examples.count(request))
            return answer

    def _predict(
        self, spec: model_pb2.ModelSpec, signature: str, document: Mapping[str, Any], counted: ModelRequest
    ) -> dict[str, Any]:
        tower = TowerCall(model_spec.find_release(self._current, spec).tower, counted.ran)
        if signature not in tower.signature_defs:
            raise invalid(f'Serving signature name: "{signature}" not found in signature def')
        inputs = tower.signature_defs[signature].inputs
        if not inputs:
            raise invalid(f"Failed to get input map for signature: {signature}")
        outputs = predict(tower, signature, json_requests.predict_inputs(document, inputs))
        return json_requests.predict_answer(document, outputs)

    def _page(self, path: str) -> dict[str, Any]:
        if path.lower() == "/v1/models":
            raise invalid("Missing model name in request.")
        found = MODEL_PAGE.fullmatch(path)
        if found is None:
            raise invalid(f"Malformed request: GET {path}")
        spec = _spec(found)
        if found["page"] is None:
            request = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
            return _to_dict(model_spec.model_status(self._current, request))
        answer = model_spec.metadata(model_spec.find_release(self._current, spec))
        signatures = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata[model_spec.SIGNATURE_DEF].Unpack(signatures)
        return {
            "model_spec": _to_dict(answer.model_spec),
            "metadata": {model_spec.SIGNATURE_DEF: _to_dict(signatures)},
        }


def _spec(found: re.Match[str]) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec()
    try:
        spec.name = unquote(found["name"], errors="strict")
        if found["label"] is not None:
            spec.version_label = unquote(found["label"], errors="strict")
    except UnicodeDecodeError as error:
        raise invalid(f"Failed to decode model name or version label: {found['name']}") from error
    if found["version"] is not None:
        if len(found["version"]) > 19 or int(found["version"]) > MAX_VERSION:
            raise invalid(f"Failed to convert version: {found['version']} to numeric.")
        spec.version.value = int(found["version"])
    return spec


def _encoded(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=4).encode()


def _to_dict(message: Any) -> dict[str, Any]:
    content: dict[str, Any] = json_format.MessageToDict(  # type: ignore[call-arg]  # mypy knows a newer protobuf
        message, including_default_value_fields=True, preserving_proto_field_name=True
    )
    return content
