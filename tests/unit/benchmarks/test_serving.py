"""What the serving benchmark reckons with."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.serving import empty, inside, load, report, synthetic
from serving.proto import retrieval_pb2


def test_items_are_the_same_in_catalogues_of_any_size() -> None:
    few, many = synthetic.item_vectors(10), synthetic.item_vectors(3000)
    np.testing.assert_array_equal(few, many[:10])
    np.testing.assert_allclose(np.linalg.norm(many, axis=1), 1, rtol=1e-6)
    # Of one centre: the share 1 / (1 + 0.75^2) of the variance of each is the centre's, and that is their mean cosine.
    alike = np.einsum("id,id->i", many[:1000], many[2000:3000])
    apart = np.einsum("id,id->i", many[:1000], many[1000:2000])
    assert abs(alike.mean() - 0.64) < 0.02
    assert abs(apart.mean()) < 0.02


def test_a_history_holds_items_of_the_users_centre() -> None:
    history = synthetic.history(4_321)
    rows = [int(item.removeprefix("item")) for item in history]
    assert len(rows) == synthetic.HISTORY
    assert {row % synthetic.CENTRES for row in rows} == {321}
    assert max(rows) < synthetic.KNOWN_ITEMS
    assert history == synthetic.history(4_321)


def test_recall_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside, "K", 2)
    monkeypatch.setattr(inside, "CHUNK", 2)
    vectors = np.array([[1.0], [5.0], [3.0], [2.0], [4.0]], np.float32)
    best = inside.best_rows(vectors, np.array([[1.0], [-1.0]], np.float32))
    assert [set(rows) for rows in best.tolist()] == [{1, 4}, {0, 3}]
    assert inside.recall([np.array([4, 1]), np.array([0, 2])], best) == 0.75


def answer(**changes: object) -> bytes:
    fields = {"tower_version": 7, "index_version": 7, "known_query": True, "items": load.K, "highest": 1.0} | changes
    items = [{"item_id": f"i{n}", "score": 0.5 - n / 1000} for n in range(fields.pop("items"))]
    items[0]["score"] = fields.pop("highest")
    return retrieval_pb2.RecommendResponse(items=items, **fields).SerializeToString()


def test_right_answers_pass() -> None:
    load.check([answer(), answer()], 7)


def test_what_the_empty_server_sends_passes() -> None:
    load.check([empty.answer()], empty.VERSION)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"items": load.K - 1}, "an answer is not 100 items, best first, but 99"),
        ({"highest": 0.1}, "an answer is not 100 items, best first"),
        ({"tower_version": 6}, "an answer comes from release 6"),
        ({"known_query": False}, "or the query was not known"),
    ],
)
def test_wrong_answers_are_found(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load.check([answer(), answer(**changes)], 7)


def test_table() -> None:
    times = {"p50_us": 250.0, "p99_us": 500.0, "cpu_us": 200.0}
    asked = {
        "per_second": 2000.4, "p50_ms": 0.5, "p99_ms": 1.25, "cpu_us": 300.0, "memory_mib": 999.6,
        "generator_cores": 0.333,
    }  # fmt: skip
    catalogue = {
        "items": 100_000,
        "inside": {"both": times, "search": times, "recall": 0.995, "peers": [{"name": "p", "recall": 0.9, **times}]},
        "empty": {"start_seconds": 1.0, "one client": asked | {"cpu_us": 100.0}},
        "servers": {"tflite": {"start_seconds": 9.0, "one client": asked}},
    }
    results = {"machine": {"cores": 2}, "load_before": [0.1], "tensorflow_seconds": 4.0, "catalogues": [catalogue]}
    lines = report.table(results).splitlines()
    assert "| 100,000 | none: tower, search | one loop | 4000 | 0.25 | 0.50 | 200 | 1 |  |  |" in lines
    assert "| 100,000 | none: gRPC | one client | 2000 | 0.50 | 1.25 | 100 | 0.50 | 1000 | 0.33 |" in lines
    assert "| 100,000 | tflite | one client | 2000 | 0.50 | 1.25 | 300 | 1.50 | 1000 | 0.33 |" in lines
    assert "| 100,000 | this index | 0.9950 | 250 | 500 |" in lines
    assert "| 100,000 | p | 0.9000 | 250 | 500 |" in lines
    assert "| 100,000 | tflite | 9.0 | 5.0 |" in lines
