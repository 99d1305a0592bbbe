"""retrieval.v1.RetrievalService: query features in, the ids of the best items out."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence

import grpc

from serving import answer_bytes
from serving.config import ServingConfig
from serving.deadlines import check_awaited
from serving.fallbacks import Fallback
from serving.filters import Filter
from serving.metrics import Metrics
from serving.proto import retrieval_pb2
from serving.query_inputs import Values
from serving.retriever import Answer, Retriever, Truncation
from serving.served import Current, Served
from serving.status import RequestError, cut, refuse

SERVICE = retrieval_pb2.DESCRIPTOR.services_by_name["RetrievalService"].full_name
DEFAULT_K = 10
MAX_FILTERS = 32
MAX_FILTER_VALUES = 1024
MIN_EFFORT, MAX_EFFORT = 0.1, 10.0

TRUNCATIONS = {
    Truncation.CATALOGUE: retrieval_pb2.TRUNCATION_CATALOGUE,
    Truncation.FILTERS: retrieval_pb2.TRUNCATION_FILTERS,
    Truncation.EXCLUSIONS: retrieval_pb2.TRUNCATION_EXCLUSIONS,
    Truncation.MIN_SCORE: retrieval_pb2.TRUNCATION_MIN_SCORE,
}
FALLBACKS = {
    Fallback.NO_QUERY_ID: retrieval_pb2.FALLBACK_NO_QUERY_ID,
    Fallback.UNKNOWN_QUERY_ID: retrieval_pb2.FALLBACK_UNKNOWN_QUERY_ID,
    Fallback.MISSING_FEATURE: retrieval_pb2.FALLBACK_MISSING_FEATURE,
    Fallback.EMPTY_STRING: retrieval_pb2.FALLBACK_EMPTY_STRING,
    Fallback.CURRENT_TIME: retrieval_pb2.FALLBACK_CURRENT_TIME,
}


class RetrievalService:
    """Answers from the current releases."""

    def __init__(self, current: Current, config: ServingConfig, metrics: Metrics) -> None:
        self._current = current
        self._config = config
        # Looked up once: by name it costs as much as the observation.
        self._stages = {stage: metrics.stages.labels(stage) for stage in ("tower", "search", "rest")}

    def add_to(self, server: grpc.Server) -> None:
        """Registers the methods, as the generated code would those whose answers are messages and not yet bytes."""
        handlers = {
            "Recommend": grpc.unary_unary_rpc_method_handler(self.recommend, retrieval_pb2.RecommendRequest.FromString),
            "RecommendBatch": grpc.unary_unary_rpc_method_handler(
                self.recommend_batch, retrieval_pb2.RecommendBatchRequest.FromString
            ),
        }
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])

    def recommend(self, request: retrieval_pb2.RecommendRequest, context: grpc.ServicerContext) -> bytes:
        """The items that score highest for a query; see the .proto file for the fields and statuses.

        Returns:
          A serialised RecommendResponse.
        """
        started = time.perf_counter()
        served = self._served(request, context)
        try:
            chosen = _chosen(served, request, request.query_id)
            return self._answer(*chosen, request, started, context.time_remaining())
        except RequestError as error:
            refuse(context, error.status, error.message)
        except ValueError as error:
            refuse(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))

    def recommend_batch(self, request: retrieval_pb2.RecommendBatchRequest, context: grpc.ServicerContext) -> bytes:
        """Recommend for many queries, each with a status of its own.

        Returns:
          A serialised RecommendBatchResponse.
        """
        served = self._served(request, context)
        if len(request.requests) > self._config.max_batch:
            message = f"the batch has {len(request.requests)} requests, at most {self._config.max_batch} are taken"
            refuse(context, grpc.StatusCode.INVALID_ARGUMENT, message)
        results = []
        for one in request.requests:
            check_awaited(context)
            started = time.perf_counter()
            try:
                _check_leaves_the_release_to_the_batch(one)
                chosen = _chosen(served, request, one.query_id)
                answer = self._answer(*chosen, one, started, context.time_remaining())
                results.append(answer_bytes.field(answer_bytes.RESPONSE, answer))
            except RequestError as error:
                results.append(_refused(error.status, error.message))
            except ValueError as error:
                results.append(_refused(grpc.StatusCode.INVALID_ARGUMENT, str(error)))
        return b"".join([answer_bytes.field(answer_bytes.RESULTS, result) for result in results])

    def _served(
        self,
        request: retrieval_pb2.RecommendRequest | retrieval_pb2.RecommendBatchRequest,
        context: grpc.ServicerContext,
    ) -> Served:
        """The state the whole request is answered from. Ends the call where it has not the release asked for."""
        served: Served = self._current.served
        if not served.retrievers:
            refuse(context, grpc.StatusCode.UNAVAILABLE, "no release is loaded yet")
        if request.version and request.label:
            refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "a request names a version or a label, not both")
        try:
            served.find(
                request.model or served.model_name, version=request.version or None, label=request.label or None
            )
        except RequestError as error:
            refuse(context, error.status, error.message)
        return served

    def _answer(
        self, retriever: Retriever, label: str, request: retrieval_pb2.RecommendRequest, started: float, timeout: float
    ) -> bytes:
        """Raises ValueError where the request is wrong; it says which field and what was expected.

        And RequestError where the tower is remote and did not answer.
        """
        self._check(request)
        item_features = _item_features(retriever, request.item_features)
        answer = retriever.recommend(
            query_id=request.query_id,
            features={name: _values(name, value) for name, value in request.features.items()},
            k=request.k or min(DEFAULT_K, self._config.max_k),
            exclude=request.exclude_ids,
            exclude_seen=request.exclude_seen,
            allow=_filters(request.allow),
            deny=_filters(request.deny),
            min_score=request.min_score if request.HasField("min_score") else None,
            effort=request.search_effort if request.HasField("search_effort") else 1.0,
            timeout=timeout,
        )
        items = answer_bytes.items(answer.hits, item_features)
        response = _response(retriever, label, answer)
        times = response.microseconds
        times.tower, times.search = answer.tower_us, answer.search_us
        times.rest = max(0, round((time.perf_counter() - started) * 1e6) - times.tower - times.search)
        for stage, histogram in self._stages.items():
            histogram.observe(getattr(times, stage) / 1e6)
        content: bytes = response.SerializeToString()
        return content + items

    def _check(self, request: retrieval_pb2.RecommendRequest) -> None:
        if not 0 <= request.k <= self._config.max_k:
            raise ValueError(f"k is {request.k}, must be 1 to {self._config.max_k}, or 0 for the default")
        if len(request.exclude_ids) > self._config.max_exclude:
            raise ValueError(
                f"exclude_ids has {len(request.exclude_ids)} ids, at most {self._config.max_exclude} are taken"
            )
        filters = len(request.allow) + len(request.deny)
        if filters > MAX_FILTERS:
            raise ValueError(f"allow and deny have {filters} filters, at most {MAX_FILTERS} are taken")
        values = sum(len(one.values) for some in (request.allow, request.deny) for one in some)
        if values > MAX_FILTER_VALUES:
            raise ValueError(f"allow and deny name {values} values, at most {MAX_FILTER_VALUES} are taken")
        if request.HasField("min_score") and math.isnan(request.min_score):
            raise ValueError("min_score is NaN")
        if request.HasField("search_effort") and not MIN_EFFORT <= request.search_effort <= MAX_EFFORT:
            raise ValueError(f"search_effort is {request.search_effort:g}, must be {MIN_EFFORT:g} to {MAX_EFFORT:g}")


def _chosen(
    served: Served, request: retrieval_pb2.RecommendRequest | retrieval_pb2.RecommendBatchRequest, query_id: str
) -> tuple[Retriever, str]:
    """The release that answers a query, and the label it was chosen by, "" for none."""
    if request.version or request.label:
        named = served.find(served.model_name, version=request.version or None, label=request.label or None)
        return named, request.label
    label, retriever = served.assign(query_id)
    return retriever, label


def _check_leaves_the_release_to_the_batch(request: retrieval_pb2.RecommendRequest) -> None:
    if request.model or request.version or request.label:
        raise ValueError("model, version and label are chosen for the whole batch, not for one of its requests")


def _values(name: str, value: retrieval_pb2.FeatureValue) -> Values:
    kind = value.WhichOneof("kind")
    if kind is None:
        raise ValueError(f"feature {name!r} has no value: set strings, floats or int64s")
    values: Values = getattr(value, kind).values
    return values


def _filters(filters: Iterable[retrieval_pb2.AttributeFilter]) -> list[Filter]:
    return [(one.attribute, one.values) for one in filters]


def _item_features(retriever: Retriever, names: Sequence[str]) -> answer_bytes.Features | None:
    """Tells those attributes of an item, by its row, that a request asks for; None where it asks for none."""
    if not names:
        return None
    names = list(dict.fromkeys(names))  # a name that is sent a million times is looked up once for each item
    known = retriever.index.manifest.attributes
    for name in names:
        if name not in known:
            raise ValueError(
                f"item feature {name!r} is not one of the index's, which are: {', '.join(known) or 'none'}"
            )

    def features(row: int) -> dict[str, str]:
        attributes = retriever.index.attributes(row)
        return {name: attributes[name] for name in names if name in attributes}

    return features


def _response(retriever: Retriever, label: str, answer: Answer) -> retrieval_pb2.RecommendResponse:
    """All but the items."""
    version = retriever.manifest.version
    return retrieval_pb2.RecommendResponse(
        tower_version=version,
        index_version=version,
        fingerprint=retriever.manifest.fingerprint,
        known_query=answer.known_query,
        truncated=answer.truncated,
        label=label,
        truncated_by=[TRUNCATIONS[cause] for cause in answer.truncated_by],
        fallbacks=[FALLBACKS[fallback] for fallback in answer.fallbacks],
        missing_features=answer.missing_features,
    )


def _refused(status: grpc.StatusCode, message: str) -> bytes:
    code, _ = status.value
    result: bytes = retrieval_pb2.RecommendResult(code=code, message=cut(message)).SerializeToString()
    return result
