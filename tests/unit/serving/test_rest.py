import json
import threading

from serving.admission import WorkerPool
from serving.metrics import Metrics
from serving.rest import METRICS_PATH, RestApi
from serving.served import Current
from tests.unit.serving.echo import until

PREDICT = "/v1/models/m:predict"


def test_inference_shares_the_limits_of_grpc() -> None:
    current, pool, go = Current("m"), WorkerPool(threads=1, queued=0), threading.Event()
    metrics = Metrics(current)
    api = RestApi(current, metrics, pool)
    pool.submit(go.wait)
    busy = api.answer("POST", PREDICT, b"{}")
    assert (busy.status, json.loads(busy.body)) == (
        429,
        {"error": "the server has as many requests as it takes: try again later"},
    )
    page = api.answer("GET", METRICS_PATH, b"")
    assert page.status == 200
    assert b'retrieval_requests_refused_total{code="RESOURCE_EXHAUSTED"} 1.0' in page.body
    go.set()
    until(lambda: not pool.full)
    assert api.answer("POST", PREDICT, b"{}").status == 404  # nothing is loaded
    pool.shutdown()
