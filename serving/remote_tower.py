"""The query tower of a release, run by TensorFlow Serving."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import grpc
import numpy as np
from numpy.typing import NDArray
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from models.config import FeatureSpec
from serving.access import channel_credentials
from serving.config import TowerConfig
from serving.query_inputs import EMBEDDING, MISSING, SERVING_DEFAULT, QueryInputs, Stored, Values, read_signatures
from serving.status import RequestError
from serving.tensors import decode, encode
from serving.tower import Tower

MAX_MESSAGE_BYTES = 64 << 20
RECONNECT_MS = 1000  # gRPC itself takes up to two minutes to try again after a long absence


class RemoteTower:
    """Asks for one version of one model, that of the release. Safe for any number of threads."""

    def __init__(
        self, folder: Path, features: FeatureSpec, *, model_name: str, version: int, config: TowerConfig
    ) -> None:
        """Asks TensorFlow Serving nothing yet.

        Args:
          folder: the release's; its saved_model.pb says what the signature takes.
          features: as declared in the pipeline that trained the model.
          model_name: under which TensorFlow Serving has the model.
          version: the release's.
          config: where it listens and how long a request may take.

        Raises:
          ValueError: the model has not the signature.
        """
        self.signature_defs = read_signatures(folder)
        self._inputs = QueryInputs(self.signature_defs, features)
        self._widths = {feature.name: feature.max_values for feature in features.query_features}
        self._model_name, self._version, self._config = model_name, version, config
        options = [
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_reconnect_backoff_ms", RECONNECT_MS),
        ]
        if config.ca is None:
            self._channel = grpc.insecure_channel(config.address, options)
        else:
            self._channel = grpc.secure_channel(config.address, channel_credentials(config.ca), options)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def embed(
        self,
        query_id: str,
        stored: Stored | None,
        features: Mapping[str, Values],
        timeout: float = math.inf,
    ) -> NDArray[np.float32]:
        """The embedding of one query; arguments and errors are those of QueryInputs.values, and besides:

        Args:
          timeout: seconds until the caller gives up.

        Returns:
          float32 [dimension], or [vectors, dimension] of a model with several a query.

        Raises:
          RequestError: TensorFlow Serving did not answer.
        """
        inputs = self._inputs.arrays([self._inputs.values(query_id, stored, features)])
        padded = {name: self._padded(name, value) for name, value in inputs.items()}
        embedding: NDArray[np.float32] = self.predict(SERVING_DEFAULT, padded, timeout)[EMBEDDING][0]
        return embedding

    def predict(self, signature: str, inputs: Mapping[str, NDArray], timeout: float = math.inf) -> dict[str, NDArray]:
        """Calls a signature, inputs and outputs by their names in it.

        Raises:
          ValueError: the signature refuses the inputs.
          RequestError: TensorFlow Serving did not answer.
        """
        request = predict_pb2.PredictRequest()
        request.model_spec.name = self._model_name
        request.model_spec.version.value = self._version
        request.model_spec.signature_name = signature
        for name, value in inputs.items():
            encode(value, request.inputs[name])
        try:
            response = self._stub.Predict(request, timeout=min(timeout, self._config.timeout_seconds))
        except grpc.RpcError as error:
            raise self._problem(error, timeout) from error
        return {name: decode(tensor) for name, tensor in response.outputs.items()}

    def _padded(self, name: str, value: NDArray) -> NDArray:
        """[1, n] filled up to the feature's largest n.

        TensorFlow Serving puts requests of one shape into a batch. Those of different shapes it pads, if told so, with
        each input's first value: it would make up a history.
        """
        if value.ndim == 1:
            return value
        missing = np.full(
            (1, self._widths[name] - value.shape[1]), MISSING[self._inputs.specs[name].dtype], value.dtype
        )
        return np.concatenate([value, missing], axis=1)

    def _problem(self, error: grpc.RpcError, timeout: float) -> Exception:
        code, details = error.code(), error.details()
        if code is grpc.StatusCode.INVALID_ARGUMENT:
            return ValueError(details)
        given_up = code is grpc.StatusCode.DEADLINE_EXCEEDED and timeout < self._config.timeout_seconds
        kept = given_up or code is grpc.StatusCode.RESOURCE_EXHAUSTED
        return RequestError(
            code if kept else grpc.StatusCode.UNAVAILABLE,
            f"TensorFlow Serving at {self._config.address} did not answer for version {self._version} of "
            f"{self._model_name}: {code.name}: {details}",
        )


AnyTower: TypeAlias = Tower | RemoteTower
