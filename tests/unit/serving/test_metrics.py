import grpc
import pytest

from serving.metrics import Metrics, RequestCounter
from serving.served import Current, Served, VersionState, VersionStatus
from serving.status import RequestError


def lines(metrics: Metrics, start: str) -> list[str]:
    return [line for line in metrics.page().decode().splitlines() if line.startswith(start)]


def test_requests_to_the_model() -> None:
    metrics = Metrics(Current("m"))
    for name in ("m", "m", "made up", "another"):
        with metrics.request(name, "Predict", "GRPC"):
            pass
    with pytest.raises(RequestError), metrics.request("m", "predict", "REST"):
        raise RequestError(grpc.StatusCode.NOT_FOUND, "none")
    with pytest.raises(ZeroDivisionError), metrics.request("m", "Predict", "GRPC"):
        _ = 1 / 0
    assert lines(metrics, ":tensorflow:serving:request_count{") == [
        ':tensorflow:serving:request_count{model_name="m",status="OK"} 2.0',
        ':tensorflow:serving:request_count{model_name="other",status="OK"} 2.0',
        ':tensorflow:serving:request_count{model_name="m",status="NOT_FOUND"} 1.0',
        ':tensorflow:serving:request_count{model_name="m",status="INTERNAL"} 1.0',
    ]
    answered = 'request_latency_count{API="Predict",entrypoint="GRPC",model_name="m"}'
    assert lines(metrics, f":tensorflow:serving:{answered}") == [f":tensorflow:serving:{answered} 2.0"]
    buckets = lines(metrics, ':tensorflow:serving:request_latency_bucket{API="Predict",entrypoint="GRPC",le="18.0"')
    assert len(buckets) == 2  # of "m" and of "other"
    assert lines(metrics, ':tensorflow:serving:request_latency_bucket{API="predict"') == []


def test_releases_are_read_at_the_scrape() -> None:
    current = Current("m")
    metrics = Metrics(current)
    assert lines(metrics, "retrieval_release_loaded{") == []
    current.served = Served("m", {3: None, 12: None})  # type: ignore[dict-item]
    refused = VersionStatus(VersionState.END, 9, "damaged")
    current.statuses = {7: refused, 3: VersionStatus(VersionState.AVAILABLE), 5: refused}
    assert lines(metrics, "retrieval_release_loaded{") == [
        'retrieval_release_loaded{version="3"} 1.0',
        'retrieval_release_loaded{version="12"} 1.0',
    ]
    assert lines(metrics, "retrieval_release_refused{") == [
        'retrieval_release_refused{version="5"} 1.0',
        'retrieval_release_refused{version="7"} 1.0',
    ]
    current.statuses = {}
    assert lines(metrics, "retrieval_release_refused{") == []


def test_stages() -> None:
    metrics = Metrics(Current("m"))
    metrics.stages.labels("search").observe(0.25)
    assert lines(metrics, "retrieval_stage_seconds_sum") == ['retrieval_stage_seconds_sum{stage="search"} 0.25']


def test_two_servers_count_apart() -> None:
    first, second = Metrics(Current("m")), Metrics(Current("m"))
    first.stages.labels("search").observe(0.25)
    assert lines(second, "retrieval_stage_seconds_sum") == []


class Context:
    """What the counter reads of a call."""

    def __init__(self, code: grpc.StatusCode | None) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode | None:
        return self._code


def test_calls_are_counted_by_status() -> None:
    metrics = Metrics(Current("m"))

    def behavior(request: str, context: grpc.ServicerContext) -> str:
        if request == "fail":
            raise ValueError("no")
        return request

    call = RequestCounter(metrics).wrap("a.S/M", behavior)
    assert call("x", Context(None)) == "x"  # type: ignore[arg-type]
    call("x", Context(grpc.StatusCode.NOT_FOUND))  # type: ignore[arg-type]
    for code in (None, grpc.StatusCode.UNAVAILABLE):
        with pytest.raises(ValueError, match="no"):
            call("fail", Context(code))  # type: ignore[arg-type]
    assert lines(metrics, "retrieval_requests_total") == [
        'retrieval_requests_total{code="OK",method="a.S/M"} 1.0',
        'retrieval_requests_total{code="UNKNOWN",method="a.S/M"} 1.0',
        'retrieval_requests_total{code="NOT_FOUND",method="a.S/M"} 1.0',
        'retrieval_requests_total{code="UNAVAILABLE",method="a.S/M"} 1.0',
    ]
