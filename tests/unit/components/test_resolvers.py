from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2
from tfx.types import standard_artifacts

from components.artifacts import RetrievalRelease
from components.resolvers import LatestBlessedBefore, LatestPassedBefore, LatestPushed

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


class Recorded:
    """ML Metadata in memory: statistics, and the executions that read them."""

    def __init__(self) -> None:
        config = metadata_store_pb2.ConnectionConfig()
        config.fake_database.SetInParent()
        self.store = MetadataStore(config)
        self.statistics: list[standard_artifacts.ExampleStatistics] = []

    def add(self, span: int) -> int:
        made = standard_artifacts.ExampleStatistics()
        made.span = span
        kind = self.store.put_artifact_type(made.artifact_type)
        (made.id,) = self.store.put_artifacts([metadata_store_pb2.Artifact(type_id=kind)])
        self.statistics.append(made)
        return made.id

    def execute(self, component: str, state: str, **inputs: int) -> None:
        kind = self.store.put_execution_type(metadata_store_pb2.ExecutionType(name=component))
        execution = metadata_store_pb2.Execution(type_id=kind, last_known_state=state)
        (number,) = self.store.put_executions([execution])
        for key, artifact in inputs.items():
            event = metadata_store_pb2.Event(artifact_id=artifact, execution_id=number, type="INPUT")
            event.path.steps.add(key=key)
            self.store.put_events([event])

    def before(self, span: int) -> list[int]:
        found = LatestPassedBefore(span).resolve_artifacts(self.store, {"statistics": self.statistics})
        return [artifact.id for artifact in found["statistics"]]


def test_the_statistics_of_the_last_span_that_passed() -> None:
    recorded = Recorded()
    assert recorded.before(3) == []
    third, fourth, fifth, again = (recorded.add(span) for span in (3, 4, 5, 3))
    gate = "components.span_gate.component.SpanGate"
    recorded.execute(gate, "COMPLETE", statistics=third)
    recorded.execute(gate, "FAILED", statistics=fourth)  # refused
    recorded.execute("ExampleValidator", "COMPLETE", statistics=fourth)
    recorded.execute(gate, "COMPLETE", statistics=again, previous_statistics=fourth)
    recorded.execute(gate, "FAILED", statistics=fifth, previous_statistics=again)
    assert [recorded.before(span) for span in (3, 4, 5, 6)] == [[], [again], [again], [again]]
    recorded.execute(gate, "COMPLETE", statistics=fourth)  # the limit was raised
    assert [recorded.before(span) for span in (4, 5, 6)] == [[again], [fourth], [fourth]]


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
