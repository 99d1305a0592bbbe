"""tensorflow.serving.ModelService: which versions of the query tower are available.

https://github.com/tensorflow/serving/tree/master/tensorflow_serving/apis
"""

from __future__ import annotations

from typing import NoReturn

import grpc
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

from serving.served import Current, NotServedError
from serving.status import refuse

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """tensorflow.serving.ModelService: GetModelStatus."""

    def __init__(self, current: Current) -> None:
        self._current = current

    def GetModelStatus(
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Whether the model is available, and in which version."""
        if not request.HasField("model_spec"):
            refuse(context, INVALID, "Missing ModelSpec")
        spec, served = request.model_spec, self._current.served
        versions = sorted(served.retrievers, reverse=True) if spec.name == served.model_name else []
        if spec.HasField("version_label"):
            try:
                versions = [served.find(spec.name, label=spec.version_label).manifest.version]
            except NotServedError as error:
                refuse(context, error.status, str(error))
        if not versions:
            refuse(context, NOT_FOUND, f"Could not find any versions of model {spec.name}")
        if spec.HasField("version"):
            if spec.version.value not in versions:
                refuse(context, NOT_FOUND, f"Could not find version {spec.version.value} of model {spec.name}")
            versions = [spec.version.value]
        response = get_model_status_pb2.GetModelStatusResponse()
        for version in versions:
            response.model_version_status.add(
                version=version, state=get_model_status_pb2.ModelVersionStatus.AVAILABLE
            ).status.SetInParent()
        return response

    def HandleReloadConfigRequest(self, request: object, context: grpc.ServicerContext) -> NoReturn:
        """Not offered."""
        refuse(context, UNIMPLEMENTED, "HandleReloadConfigRequest is not offered: this server has one model")
