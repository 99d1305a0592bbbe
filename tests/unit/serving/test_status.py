from collections.abc import Callable
from types import SimpleNamespace
from typing import NoReturn

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from serving.prediction_service import PredictionService
from serving.served import Current, Served
from serving.status import refuse


class AbortedError(Exception):
    """What `abort` of the context raises: (status, message)."""


class Context:
    def abort(self, status: grpc.StatusCode, message: str) -> NoReturn:
        raise AbortedError(status, message)


@pytest.mark.parametrize(("length", "kept"), [(1000, "x" * 1000), (1001, "x" * 1000 + "...")])
def test_long_messages_are_cut(length: int, kept: str) -> None:
    with pytest.raises(AbortedError) as raised:
        refuse(Context(), grpc.StatusCode.NOT_FOUND, "x" * length)  # type: ignore[arg-type]
    assert raised.value.args == (grpc.StatusCode.NOT_FOUND, kept)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (tf.errors.InvalidArgumentError, grpc.StatusCode.INVALID_ARGUMENT),
        (tf.errors.ResourceExhaustedError, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (tf.errors.UnimplementedError, grpc.StatusCode.UNIMPLEMENTED),
    ],
)
def test_errors_of_tensorflow_keep_their_code(
    error: Callable[[None, None, str], Exception], status: grpc.StatusCode
) -> None:
    def predict(name: str, inputs: object) -> NoReturn:
        raise error(None, None, "why")

    signature = SimpleNamespace(inputs={}, outputs={})
    tower = SimpleNamespace(signatures={"s": None}, signature_defs={"s": signature}, predict=predict)
    current = Current("tiny")
    current.served = Served("tiny", {1: SimpleNamespace(tower=tower)})  # type: ignore[dict-item]
    request = predict_pb2.PredictRequest(model_spec={"name": "tiny", "signature_name": "s"})
    with pytest.raises(AbortedError) as raised:
        PredictionService(current).Predict(request, Context())  # type: ignore[arg-type]
    assert raised.value.args == (status, "why")
