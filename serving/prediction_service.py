"""tensorflow.serving.PredictionService for the query tower: its statuses, its messages, its typed outputs.

https://github.com/tensorflow/serving/tree/master/tensorflow_serving/apis
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

import grpc
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    model_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.query_inputs import SERVING_DEFAULT
from serving.remote_tower import TowerError
from serving.retriever import Retriever
from serving.served import Current, NotServedError
from serving.status import refuse
from serving.tensors import decode, encode

INVALID = grpc.StatusCode.INVALID_ARGUMENT
UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED
SIGNATURES = "signature_def"
STATUSES = {status.value[0]: status for status in grpc.StatusCode}  # TensorFlow's codes are gRPC's


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """tensorflow.serving.PredictionService: Predict and GetModelMetadata."""

    def __init__(self, current: Current) -> None:
        self._current = current

    def Predict(
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """Runs a signature of the tower."""
        retriever = _servable(self._current, request, context)
        name = request.model_spec.signature_name or SERVING_DEFAULT
        if name not in retriever.tower.signatures:
            refuse(context, grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
        signature = retriever.tower.signature_defs[name]
        inputs = _inputs(request, signature, context)
        wanted = _output_names(request, signature, context)
        try:
            outputs = retriever.tower.predict(name, inputs)
        except tf.errors.OpError as error:
            refuse(context, STATUSES[error.error_code], str(error))
        except (ValueError, TypeError) as error:
            refuse(context, INVALID, str(error))
        except TowerError as error:
            refuse(context, error.status, str(error))
        response = predict_pb2.PredictResponse()
        _fill(response.model_spec, request, retriever, name)
        for output in wanted:
            response.outputs[output].CopyFrom(encode(outputs[output]))
        return response

    def GetModelMetadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """The tower's signatures."""
        if not request.HasField("model_spec"):
            refuse(context, INVALID, "Missing ModelSpec")
        if not request.metadata_field:
            refuse(context, INVALID, "GetModelMetadataRequest must specify at least one metadata_field")
        for metadata_field in request.metadata_field:
            if metadata_field != SIGNATURES:
                refuse(context, INVALID, f"Metadata field {metadata_field} is not supported")
        retriever = _servable(self._current, request, context)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        _fill(response.model_spec, request, retriever, "")
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in retriever.tower.signature_defs.items():
            signatures.signature_def[name].CopyFrom(signature)
        response.metadata[SIGNATURES].Pack(signatures)
        return response

    def Classify(self, request: object, context: grpc.ServicerContext) -> NoReturn:
        """Not offered."""
        refuse(context, UNIMPLEMENTED, "Classify is not offered: the query tower has no classes; call Predict")

    def Regress(self, request: object, context: grpc.ServicerContext) -> NoReturn:
        """Not offered."""
        refuse(context, UNIMPLEMENTED, "Regress is not offered: the query tower gives an embedding; call Predict")

    def MultiInference(self, request: object, context: grpc.ServicerContext) -> NoReturn:
        """Not offered."""
        refuse(context, UNIMPLEMENTED, "MultiInference is not offered; call Predict")


def _servable(
    current: Current,
    request: predict_pb2.PredictRequest | get_model_metadata_pb2.GetModelMetadataRequest,
    context: grpc.ServicerContext,
) -> Retriever:
    """The release that a request's model_spec names; ends the call where there is none."""
    if not request.HasField("model_spec"):
        refuse(context, INVALID, "Missing ModelSpec")
    spec = request.model_spec
    if not spec.name:
        refuse(context, INVALID, "ModelSpec has no name specified.")
    try:
        return current.served.find(
            spec.name,
            version=spec.version.value if spec.HasField("version") else None,
            label=spec.version_label if spec.HasField("version_label") else None,
        )
    except NotServedError as error:
        refuse(context, error.status, str(error))


def _fill(
    spec: model_pb2.ModelSpec,
    request: predict_pb2.PredictRequest | get_model_metadata_pb2.GetModelMetadataRequest,
    retriever: Retriever,
    signature_name: str,
) -> None:
    spec.name = request.model_spec.name
    spec.version.value = retriever.manifest.version
    spec.signature_name = signature_name


def _inputs(
    request: predict_pb2.PredictRequest, signature: meta_graph_pb2.SignatureDef, context: grpc.ServicerContext
) -> Mapping[str, NDArray]:
    """The request's tensors, checked against the signature; ends the call where they do not fit."""
    sent, required = sorted(request.inputs), sorted(signature.inputs)
    if len(sent) != len(required):
        extra, missing = sorted(set(sent) - set(required)), sorted(set(required) - set(sent))
        refuse(
            context,
            INVALID,
            f"input size does not match signature: {len(sent)}!={len(required)} "
            f"len({{{','.join(sent)}}}) != len({{{','.join(required)}}}). "
            f"Sent extra: {{{','.join(extra)}}}. Missing but required: {{{','.join(missing)}}}.",
        )
    inputs = {}
    for alias in required:
        if alias not in request.inputs:
            refuse(
                context,
                INVALID,
                f"input tensor alias not found in request: {alias}. "
                f"Inputs expected to be in the set {{{','.join(required)}}}.",
            )
        try:
            value = decode(request.inputs[alias])
        except ValueError:
            refuse(context, INVALID, f"tensor parsing error: {alias}")
        info = signature.inputs[alias]
        sent_type, wanted_type = request.inputs[alias].dtype, info.dtype
        if sent_type != wanted_type:
            refuse(
                context,
                INVALID,
                f"input {alias} has type {tf.as_dtype(sent_type).name}, expected {tf.as_dtype(wanted_type).name}",
            )
        shape = tf.TensorShape(info.tensor_shape)
        if not shape.is_compatible_with(value.shape):
            refuse(context, INVALID, f"input {alias} has shape {list(value.shape)}, expected {shape}")
        inputs[alias] = value
    return inputs


def _output_names(
    request: predict_pb2.PredictRequest, signature: meta_graph_pb2.SignatureDef, context: grpc.ServicerContext
) -> list[str]:
    for name in request.output_filter:
        if name not in signature.outputs:
            refuse(context, INVALID, f"output tensor alias not found in signature: {name}")
    if len(set(request.output_filter)) != len(request.output_filter):
        refuse(context, INVALID, "duplicate output tensor alias: an output_filter must name each output once")
    return list(request.output_filter) or sorted(signature.outputs)
