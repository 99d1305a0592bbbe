"""What a server says of itself to Prometheus, under TensorFlow Serving's names and our own. Imports no TensorFlow."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import grpc
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from serving.interceptors import Behavior, UnaryInterceptor
from serving.served import Current
from serving.status import RequestError

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MICROSECONDS = tuple(
    float(f"{10 * 1.8**power:.6g}") for power in range(33)
)  # TensorFlow Serving's buckets, up to 24 minutes
STAGE_SECONDS = tuple(1e-5 * 2**power for power in range(18))  # 10 us to 1.3 s
EXAMPLES = tuple(float(1 << power) for power in range(15))
OTHER_MODEL = "other"
REQUEST_COUNT = ":tensorflow:serving:request_count"
RUNTIME = "TF1"  # TensorFlow Serving's word for its ordinary runtime

disable_created_metrics()


class Metrics:
    """The metrics of one server, in a registry of their own.

    Attributes:
      requests: gRPC calls by method and status.
      refused: requests that no servicer got to see, by status.
      stages: seconds of each stage of a recommendation; `stages.labels(stage).observe(seconds)`.
    """

    def __init__(self, current: Current) -> None:
        """Args:
        current: what is being served, read at each scrape.
        """
        self._current = current
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "retrieval_requests", "gRPC calls that a servicer got to see.", ["method", "code"], registry=self._registry
        )
        self.refused = Counter(
            "retrieval_requests_refused",
            "Requests refused before they were read: too many at a time, or without a token.",
            ["code"],
            registry=self._registry,
        )
        self.stages = Histogram(
            "retrieval_stage_seconds",
            "Time of each stage of a recommendation.",
            ["stage"],
            buckets=STAGE_SECONDS,
            registry=self._registry,
        )
        self._model_requests = Gauge(  # shown as a counter, see `page`
            REQUEST_COUNT,
            "The total number of requests.",
            ["model_name", "status"],
            registry=self._registry,
        )
        self._model_latency = Histogram(
            ":tensorflow:serving:request_latency",
            "Wall time of the answered requests in microseconds.",
            ["model_name", "API", "entrypoint"],
            buckets=MICROSECONDS,
            registry=self._registry,
        )
        self._runtime_latency = Histogram(
            ":tensorflow:serving:runtime_latency",
            "Wall time of the tower's answers in microseconds.",
            ["model_name", "API", "runtime"],
            buckets=MICROSECONDS,
            registry=self._registry,
        )
        self._example_counts = Histogram(
            ":tensorflow:serving:request_example_counts",
            "The number of tf.Examples of each request answered.",
            ["model"],
            buckets=EXAMPLES,
            registry=self._registry,
        )
        self._examples = Counter(
            ":tensorflow:serving:request_example_count",
            "The total number of tf.Examples.",
            ["model"],
            registry=self._registry,
        )
        self._registry.register(Releases(current))

    @contextmanager
    def request(self, model_name: str, api: str, entrypoint: str) -> Iterator[ModelRequest]:
        """Counts one request to the model by how it ends, and times it if it is answered.

        Args:
          model_name: the one asked for. Any that is not served is counted as "other", lest callers make up labels.
          api: Predict, Classify, Regress or MultiInference; over REST it begins with a small letter.
          entrypoint: GRPC or REST.

        Yields:
          What the tower's part in it is told to.
        """
        name = model_name if model_name == self._current.served.model_name else OTHER_MODEL
        start, status = time.perf_counter(), "INTERNAL"
        try:
            yield ModelRequest(
                self._runtime_latency.labels(name, f"{api[0].upper()}{api[1:]}", RUNTIME),
                self._example_counts.labels(name),
                self._examples.labels(name),
            )
            status = "OK"
            self._model_latency.labels(name, api, entrypoint).observe((time.perf_counter() - start) * 1e6)
        except RequestError as error:
            status = error.status.name
            raise
        finally:
            self._model_requests.labels(name, status).inc()

    def page(self) -> bytes:
        """All metrics in Prometheus' text format."""
        # A Counter of the library adds _total to its name, which TensorFlow Serving does not.
        kind = f"# TYPE {REQUEST_COUNT} "
        return generate_latest(self._registry).replace(f"{kind}gauge".encode(), f"{kind}counter".encode())


class ModelRequest(NamedTuple):
    """The tower's part in one request."""

    runtime: Histogram
    example_counts: Histogram
    examples: Counter

    def ran(self, microseconds: float) -> None:
        """The tower has answered within that time."""
        self.runtime.observe(microseconds)

    def had(self, examples: int) -> None:
        """So many tf.Examples were answered."""
        self.example_counts.observe(examples)
        self.examples.inc(examples)


class Releases(Collector):
    """Which releases are loaded and which were refused, at the moment of the scrape."""

    def __init__(self, current: Current) -> None:
        self._current = current

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The library calls it at each scrape."""
        loaded = GaugeMetricFamily("retrieval_release_loaded", "1 for each release that answers.", labels=["version"])
        for version in sorted(self._current.served.retrievers):
            loaded.add_metric([str(version)], 1)
        yield loaded
        refused = GaugeMetricFamily(
            "retrieval_release_refused",
            "1 for each release in the folder that could not be loaded.",
            labels=["version"],
        )
        for version, status in sorted(self._current.statuses.items()):
            if status.error_code:
                refused.add_metric([str(version)], 1)
        yield refused


class RequestCounter(UnaryInterceptor):
    """Counts every unary call by method and status. What admission or the token check refuses is counted apart."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self._requests = metrics.requests

    def wrap(self, method: str, behavior: Behavior) -> Behavior:
        """The method with the count behind it."""

        answered = self._requests.labels(method, "OK")
        failed = self._requests.labels(method, "UNKNOWN")  # what gRPC makes of an exception

        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            count = failed
            try:
                response = behavior(request, context)
                count = answered
            finally:
                code = context.code()
                (count if code is None else self._requests.labels(method, code.name)).inc()
            return response

        return answer
