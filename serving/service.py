"""retrieval.v1.RetrievalService: query features in, the ids of the best items out."""

from __future__ import annotations

import grpc

from serving.proto import retrieval_pb2, retrieval_pb2_grpc
from serving.query_inputs import Values
from serving.remote_tower import TowerError
from serving.served import Current, NotServedError
from serving.status import refuse

DEFAULT_K = 10


class RetrievalService(retrieval_pb2_grpc.RetrievalServiceServicer):
    """Answers from the current release."""

    def __init__(self, current: Current, max_k: int) -> None:
        self._current = current
        self._max_k = max_k

    def Recommend(
        self, request: retrieval_pb2.RecommendRequest, context: grpc.ServicerContext
    ) -> retrieval_pb2.RecommendResponse:
        """The items that score highest for a query; see the .proto file for the fields and statuses."""
        served = self._current.served
        if not served.retrievers:
            refuse(context, grpc.StatusCode.UNAVAILABLE, "no release is loaded yet")
        try:
            retriever = served.find(request.model or served.model_name)
        except NotServedError as error:
            refuse(context, error.status, str(error))
        if not 0 <= request.k <= self._max_k:
            refuse(
                context,
                grpc.StatusCode.INVALID_ARGUMENT,
                f"k is {request.k}, must be 1 to {self._max_k}, or 0 for the default",
            )
        known = retriever.index.manifest.attributes
        for name in request.item_features:
            if name not in known:
                refuse(
                    context,
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"item feature {name!r} is not one of the index's, which are: {', '.join(known) or 'none'}",
                )
        try:
            answer = retriever.recommend(
                query_id=request.query_id,
                features={name: _values(name, value) for name, value in request.features.items()},
                k=request.k or min(DEFAULT_K, self._max_k),
                exclude=request.exclude_ids,
                exclude_seen=request.exclude_seen,
                timeout=context.time_remaining(),
            )
        except TowerError as error:
            refuse(context, error.status, str(error))
        except ValueError as error:
            refuse(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))
        response = retrieval_pb2.RecommendResponse(
            tower_version=retriever.manifest.version,
            index_version=retriever.manifest.version,
            fingerprint=retriever.manifest.fingerprint,
            known_query=answer.known_query,
            truncated=answer.truncated,
        )
        for hit in answer.hits:
            item = response.items.add(item_id=hit.item_id.decode(), score=hit.score)
            if request.item_features:
                attributes = retriever.index.attributes(hit.row)
                for name in request.item_features:
                    if name in attributes:
                        item.features[name] = attributes[name]
        return response


def _values(name: str, value: retrieval_pb2.FeatureValue) -> Values:
    kind = value.WhichOneof("kind")
    if kind is None:
        raise ValueError(f"feature {name!r} has no value: set strings, floats or int64s")
    values: Values = getattr(value, kind).values
    return values
