from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tfx.types import standard_artifacts

from components.artifacts import RetrievalRelease
from components.resolvers import LatestBefore, LatestBlessedBefore, LatestPushed

STORE: Any = SimpleNamespace()


def model(number: int) -> standard_artifacts.Model:
    artifact = standard_artifacts.Model()
    artifact.id = number
    return artifact


def blessing(number: int, of: int, span: int, blessed: int = 1) -> standard_artifacts.ModelBlessing:
    artifact = standard_artifacts.ModelBlessing()
    artifact.id = number
    for name, value in (("blessed", blessed), ("span", span), ("current_model_id", of)):
        artifact.set_int_custom_property(name, value)
    return artifact


def resolved(span: int, models: list[Any], blessings: list[Any]) -> tuple[list[int], list[int]]:
    result = LatestBlessedBefore(span).resolve_artifacts(STORE, {"model": models, "model_blessing": blessings})
    return [m.id for m in result["model"]], [b.id for b in result["model_blessing"]]


def test_the_blessed_model_of_the_latest_span_before() -> None:
    models = [model(n) for n in (1, 2, 3, 4)]
    # Span 5 was run again after span 6; span 7's model was refused.
    blessings = [blessing(11, 1, 5), blessing(12, 2, 6), blessing(13, 3, 5), blessing(14, 4, 7, blessed=0)]
    assert resolved(9, models, blessings) == ([2], [12])
    assert resolved(6, models, blessings) == ([3], [13])
    assert resolved(5, models, blessings) == ([], [])
    assert resolved(9, [], []) == ([], [])


def test_a_model_that_is_gone_is_not_taken() -> None:
    assert resolved(9, [model(1)], [blessing(11, 1, 5), blessing(12, 2, 6)]) == ([1], [11])


def test_the_statistics_of_the_span_before() -> None:
    found = []
    for number, span in ((1, 3), (2, 4), (3, 3), (4, 5)):
        artifact = standard_artifacts.ExampleStatistics()
        artifact.id, artifact.span = number, span
        found.append(artifact)
    for span, expected in ((5, [2]), (4, [3]), (3, [])):
        result = LatestBefore(span).resolve_artifacts(STORE, {"statistics": found})
        assert [a.id for a in result["statistics"]] == expected


def test_the_release_of_the_latest_span_that_was_pushed() -> None:
    releases = []
    for number, span, pushed in ((1, 3, 1), (2, 4, 1), (3, 5, 0), (4, 4, 1), (5, 2, 1)):
        artifact = RetrievalRelease()
        artifact.id = number
        artifact.set_int_custom_property("span", span)
        artifact.set_int_custom_property("pushed", pushed)
        releases.append(artifact)
    result = LatestPushed().resolve_artifacts(STORE, {"release": releases})
    assert [a.id for a in result["release"]] == [4]
    assert LatestPushed().resolve_artifacts(STORE, {"release": []}) == {"release": []}
