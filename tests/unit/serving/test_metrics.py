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
    assert lines(metrics, "# TYPE :tensorflow:serving:request_count ") == [
        "# TYPE :tensorflow:serving:request_count counter"
    ]


def test_the_towers_part_in_requests() -> None:
    metrics = Metrics(Current("m"))
    with metrics.request("m", "MultiInference", "GRPC") as counted:
        counted.ran(20.0)
        counted.ran(100.0)
        counted.had(3)
    with metrics.request("m", "regress", "REST") as counted:
        counted.ran(7.0)
        counted.had(9)
    runtime = ":tensorflow:serving:runtime_latency"
    assert lines(metrics, f"{runtime}_sum") == [
        f'{runtime}_sum{{API="MultiInference",model_name="m",runtime="TF1"}} 120.0',
        f'{runtime}_sum{{API="Regress",model_name="m",runtime="TF1"}} 7.0',
    ]
    examples = ":tensorflow:serving:request_example_count"
    assert lines(metrics, f"{examples}_total{{") == [f'{examples}_total{{model="m"}} 12.0']
    assert lines(metrics, f"# TYPE {examples}_total") == [f"# TYPE {examples}_total counter"]
    limits = {"2.0": 0, "4.0": 1, "8.0": 1, "16.0": 2, "16384.0": 2, "+Inf": 2}
    buckets = lines(metrics, f"{examples}s_bucket{{")
    assert len(buckets) == 16
    for limit, count in limits.items():
        assert f'{examples}s_bucket{{le="{limit}",model="m"}} {count:.1f}' in buckets


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
