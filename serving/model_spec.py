"""Which release a request's ModelSpec names, and how an answer says which one it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensorflow_serving.apis import get_model_metadata_pb2, model_pb2

from serving.served import Current, NotServedError
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
    try:
        return current.served.find(
            spec.name,
            version=spec.version.value if spec.HasField("version") else None,
            label=spec.version_label if spec.HasField("version_label") else None,
        )
    except NotServedError as error:
        raise RequestError(error.status, str(error)) from error


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
