"""What a run and a request print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.report import print_recommendations, print_run
from pipeline.run import PutAside, RunResult, _put_aside
from serving.messages import recommendations
from serving.proto import retrieval_pb2

TITLES = ["Lamp [matt] 20W", "Kabel [/m]", "Lens :eye: [bold]"]


def test_text_of_the_data_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    items = [{"item_id": f"SKU[red]{n}", "features": {"title": title}} for n, title in enumerate(TITLES)]
    answer = recommendations(
        retrieval_pb2.RecommendResponse(items=items, tower_version=1, index_version=1, known_query=True)
    )
    print_recommendations("u[/1]", answer, ["title"])
    shown = capsys.readouterr().out
    for text in (*TITLES, "SKU[red]1", "Query u[/1], release 1"):
        assert text in shown


def _result(left_out: int, put_aside: PutAside | None) -> RunResult:
    overall = {"HR@50": 0.25, "NDCG@50": 0.1, "MRR": 0.125}
    models = {"candidate": {"overall": overall}, "popular": {"overall": overall}}
    metrics = {
        "splits": {"eval": {"rows": 1666, "repeats_left_out": left_out, "models": models}},
        "blessed": True,
        "blessed_left_out": None,
        "reasons": [],
    }
    return RunResult(metrics=metrics, index=None, release=None, note=None, put_aside=put_aside, log=Path("log"))


def test_what_was_left_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = {
        "interactions/3/rows": [5000, 5000, 5000],
        "interactions/3/bad_date": [2, 1, 2],
        "interactions/3/unknown_item": [2, 2, 2],
        "interactions/4/rows": [1000, 1000, 1000],
        "interactions/4/bad_date": [1, 1, 1],
        "items/4/rows": [501, 501, 501],
        "items/4/unknown_item": [2, 2, 2],
        "split/items": [499, 1, 1],
    }
    (tmp_path / "counts.json").write_text(json.dumps(counts))
    print_run(_result(1340, _put_aside(tmp_path)))
    shown = capsys.readouterr().out
    assert f"7 of 6,501 rows put aside: 4 unknown_item, 3 bad_date; see {tmp_path}\n" in shown
    left_out = "(1,340 left out: their item was seen before, evaluation.exclude_seen)"
    assert f"Held-out split eval, 1,666 interactions {left_out}\n" in shown


def test_nothing_left_out_is_not_mentioned(capsys: pytest.CaptureFixture[str]) -> None:
    print_run(_result(0, PutAside(6501, {}, Path("quarantine"))))
    shown = capsys.readouterr().out
    assert "Held-out split eval, 1,666 interactions\n" in shown
    assert "put aside" not in shown
    assert "left out" not in shown
