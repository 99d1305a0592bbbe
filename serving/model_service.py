"""tensorflow.serving.ModelService: which versions of the query tower there are, and which there should be.

https://github.com/tensorflow/serving/tree/master/tensorflow_serving/apis
"""

from __future__ import annotations

import logging

import grpc
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2, model_service_pb2_grpc

from serving.manager import Manager
from serving.model_spec import model_status
from serving.release import ReleaseError
from serving.reload import ReloadError, requested_state
from serving.served import Current
from serving.status import RequestError, refuse

logger = logging.getLogger(__name__)


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """tensorflow.serving.ModelService: GetModelStatus and HandleReloadConfigRequest."""

    def __init__(self, current: Current, manager: Manager) -> None:
        self._current = current
        self._manager = manager

    def GetModelStatus(
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Where the versions stand: those loaded, being loaded or unloaded, and those refused, with the reason."""
        try:
            return model_status(self._current, request)
        except RequestError as error:
            refuse(context, error.status, error.message)

    def HandleReloadConfigRequest(
        self, request: model_management_pb2.ReloadConfigRequest, context: grpc.ServicerContext
    ) -> model_management_pb2.ReloadConfigResponse:
        """Sets version policy and labels, for every server of these releases, and loads what they ask for.

        The pin and the split of the traffic stay, which TensorFlow Serving does not know. Unlike there, the change
        outlives a restart, so one that leaves nothing to serve is refused.
        """
        root = self._manager.root
        try:
            wanted = requested_state(request.config, root, self._current.served)
            self._manager.reload(lambda state: state.replace(policy=wanted.policy, labels=wanted.labels))
        except ReloadError as error:
            refuse(context, error.status, str(error))
        except RequestError as error:
            refuse(context, error.status, error.message)
        except ReleaseError as error:
            refuse(context, grpc.StatusCode.FAILED_PRECONDITION, str(error))
        logger.info("reloaded: policy %s, labels %s", wanted.policy, wanted.labels)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        return response
