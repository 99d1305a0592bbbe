"""Requests as TensorFlow Serving's clients build them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import grpc
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import input_pb2, predict_pb2

from tests.unit.serving import tiny

INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
UNKNOWN_MODELS = [
    ({"name": "m"}, NOT_FOUND, "Servable not found for request: Latest(m)"),
    ({"name": "m", "version": {"value": 5}}, NOT_FOUND, "Servable not found for request: Specific(m, 5)"),
    ({"name": "tiny", "version": {"value": 5}}, NOT_FOUND, "Servable not found for request: Specific(tiny, 5)"),
    ({"name": "tiny", "version": {"value": 0}}, NOT_FOUND, "Servable not found for request: Specific(tiny, 0)"),
    ({"name": "tiny", "version_label": "x"}, INVALID, "Unrecognized servable version label: x"),
    ({}, INVALID, "ModelSpec has no name specified."),
]


def spec(signature_name: str = "", **values: object) -> dict[str, Any]:
    return {"name": "tiny", "signature_name": signature_name} | values


def predict(
    signature_name: str, inputs: Mapping[str, tensor_pb2.TensorProto], **values: object
) -> predict_pb2.PredictRequest:
    values.setdefault("model_spec", spec(signature_name))
    return predict_pb2.PredictRequest(inputs=inputs, **values)


def example_list(*xs: float) -> input_pb2.Input:
    """One example with a feature x for each number."""
    return input_pb2.Input(example_list={"examples": [tiny.example(x=[float(x)]) for x in xs]})


def row(*values: float) -> tensor_pb2.TensorProto:
    return tf.make_tensor_proto(list(values), dtype=tf.float32)


def refused(call: Callable[..., object], request: object) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as raised:
        call(request, timeout=30)
    return raised.value.code(), raised.value.details()
