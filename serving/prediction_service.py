"""tensorflow.serving.PredictionService for the query tower: its statuses, its messages, its typed outputs.

https://github.com/tensorflow/serving/tree/master/tensorflow_serving/apis
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

import grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    model_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from serving import examples, model_spec
from serving.metrics import Metrics, ModelRequest
from serving.predict import predict
from serving.query_inputs import SERVING_DEFAULT
from serving.retriever import Retriever
from serving.served import Current
from serving.status import RequestError, invalid, refuse
from serving.tensors import encode
from serving.tower_call import TowerCall

Request: TypeAlias = (
    predict_pb2.PredictRequest
    | get_model_metadata_pb2.GetModelMetadataRequest
    | classification_pb2.ClassificationRequest
    | regression_pb2.RegressionRequest
)


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """tensorflow.serving.PredictionService; what it answers is in serving.predict and serving.examples."""

    def __init__(self, current: Current, metrics: Metrics) -> None:
        self._current = current
        self._metrics = metrics

    def Predict(
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """Runs a signature of the tower."""
        response = predict_pb2.PredictResponse()
        with self._answering("Predict", request.model_spec.name, context) as counted:
            retriever = self._release(request)
            signature = request.model_spec.signature_name or SERVING_DEFAULT
            tower = TowerCall(retriever.tower, counted.ran, context.time_remaining())
            outputs = predict(tower, signature, request.inputs, request.output_filter)
            model_spec.describe(retriever, response.model_spec, signature)
            for alias, output in outputs.items():
                encode(output, response.outputs[alias])
        return response

    def Classify(
        self, request: classification_pb2.ClassificationRequest, context: grpc.ServicerContext
    ) -> classification_pb2.ClassificationResponse:
        """Classes and scores by a signature of the tower that is made for it."""
        response = classification_pb2.ClassificationResponse()
        with self._answering("Classify", request.model_spec.name, context) as counted:
            retriever = self._release(request)
            signature = request.model_spec.signature_name or SERVING_DEFAULT
            tower = TowerCall(retriever.tower, counted.ran, context.time_remaining())
            result = examples.classify(tower, signature, request.input)
            counted.had(examples.count(request.input))
            model_spec.describe(retriever, response.model_spec, signature)
            response.result.CopyFrom(result)
        return response

    def Regress(
        self, request: regression_pb2.RegressionRequest, context: grpc.ServicerContext
    ) -> regression_pb2.RegressionResponse:
        """One value an example by a signature of the tower that is made for it."""
        response = regression_pb2.RegressionResponse()
        with self._answering("Regress", request.model_spec.name, context) as counted:
            retriever = self._release(request)
            signature = request.model_spec.signature_name or SERVING_DEFAULT
            tower = TowerCall(retriever.tower, counted.ran, context.time_remaining())
            result = examples.regress(tower, signature, request.input)
            counted.had(examples.count(request.input))
            model_spec.describe(retriever, response.model_spec, signature)
            response.result.CopyFrom(result)
        return response

    def MultiInference(
        self, request: inference_pb2.MultiInferenceRequest, context: grpc.ServicerContext
    ) -> inference_pb2.MultiInferenceResponse:
        """Several signatures of the tower on the same examples."""
        response = inference_pb2.MultiInferenceResponse()
        # The first task decides which release answers, so that all results are of one.
        spec = request.tasks[0].model_spec if request.tasks else model_pb2.ModelSpec()
        with self._answering("MultiInference", spec.name, context) as counted:
            retriever = model_spec.find_release(self._current, spec)
            tower = TowerCall(retriever.tower, counted.ran, context.time_remaining())
            response.results.extend(examples.multi_inference(tower, request.tasks, request.input))
            counted.had(examples.count(request.input))
            for task, result in zip(request.tasks, response.results, strict=True):
                signature = task.model_spec.signature_name or SERVING_DEFAULT
                model_spec.describe(retriever, result.model_spec, signature)
        return response

    def GetModelMetadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """The tower's signatures."""
        try:
            _require_spec(request)
            if not request.metadata_field:
                raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
            for field in request.metadata_field:
                if field != model_spec.SIGNATURE_DEF:
                    raise invalid(f"Metadata field {field} is not supported")
            return model_spec.metadata(self._release(request))
        except RequestError as error:
            refuse(context, error.status, error.message)

    def _release(self, request: Request) -> Retriever:
        _require_spec(request)
        return model_spec.find_release(self._current, request.model_spec)

    @contextmanager
    def _answering(self, api: str, model_name: str, context: grpc.ServicerContext) -> Iterator[ModelRequest]:
        """Counts a request, and ends the call where it cannot be answered."""
        try:
            with self._metrics.request(model_name, api, "GRPC") as counted:
                yield counted
        except RequestError as error:
            refuse(context, error.status, error.message)


def _require_spec(request: Request) -> None:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
