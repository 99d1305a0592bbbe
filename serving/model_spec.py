"""Which release a request's ModelSpec names, and how an answer says which one it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2

from serving.served import Current
from serving.status import RequestError, invalid

if TYPE_CHECKING:
    from serving.retriever import Retriever

SIGNATURE_DEF = "signature_def"  # the one metadata field there is


def find_release(current: Current, spec: model_pb2.ModelSpec) -> Retriever:
    """The release that a ModelSpec names.

    Raises:
      RequestError: there is none.
    """
    if not spec.name:
        raise invalid("ModelSpec has no name specified.")
    return current.served.find(
        spec.name,
        version=spec.version.value if spec.HasField("version") else None,
        label=spec.version_label if spec.HasField("version_label") else None,
    )


def describe(retriever: Retriever, spec: model_pb2.ModelSpec, signature_name: str = "") -> None:
    """Fills an answer's ModelSpec: name, version and, where there is one, signature."""
    spec.name = retriever.manifest.model_name
    spec.version.value = retriever.manifest.version
    spec.signature_name = signature_name


def metadata(retriever: Retriever) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """The signatures of a release's model."""
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    describe(retriever, response.model_spec)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, signature in retriever.tower.signature_defs.items():
        signatures.signature_def[name].CopyFrom(signature)
    response.metadata[SIGNATURE_DEF].Pack(signatures)
    return response


def model_status(
    current: Current, request: get_model_status_pb2.GetModelStatusRequest
) -> get_model_status_pb2.GetModelStatusResponse:
    """Where the versions that a request names stand, newest first.

    Raises:
      RequestError: it names a model, a version or a label that there is not.
    """
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    spec, served = request.model_spec, current.served
    statuses = current.statuses if spec.name == served.model_name else {}
    versions = sorted(statuses, reverse=True)
    if spec.HasField("version_label"):
        labelled = served.find(spec.name, label=spec.version_label).manifest.version
        versions = [version for version in versions if version == labelled]
    if not versions:
        raise RequestError(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {spec.name}")
    if spec.HasField("version"):
        if spec.version.value not in versions:
            message = f"Could not find version {spec.version.value} of model {spec.name}"
            raise RequestError(grpc.StatusCode.NOT_FOUND, message)
        versions = [spec.version.value]
    response = get_model_status_pb2.GetModelStatusResponse()
    for version in versions:
        status = statuses[version]
        added = response.model_version_status.add(version=version, state=status.state.value)
        added.status.error_code = status.error_code
        added.status.error_message = status.error_message
    return response
