from __future__ import annotations

import logging
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2
from tfx.types import standard_artifacts

from components.artifacts import RetrievalRelease
from components.resolvers import LatestBlessed, LatestBlessedBefore, LatestPassedBefore, LatestPushed

STORE: Any = SimpleNamespace()


def blessing(number: int, of: int, span: int, blessed: int = 1) -> standard_artifacts.ModelBlessing:
    artifact = standard_artifacts.ModelBlessing()
    artifact.id = number
    for name, value in (("blessed", blessed), ("span", span), ("current_model_id", of)):
        artifact.set_int_custom_property(name, value)
    return artifact


class Models:
    """Model artifacts, each with a SavedModel's folder."""

    def __init__(self, folder: Path, *numbers: int) -> None:
        self.artifacts = []
        for number in numbers:
            artifact = standard_artifacts.Model()
            artifact.id, artifact.uri = number, str(folder / str(number))
            (folder / str(number) / "Format-Serving").mkdir(parents=True)
            self.artifacts.append(artifact)

    def resolved(self, strategy: Any, blessings: list[Any]) -> tuple[list[int], list[int]]:
        result = strategy.resolve_artifacts(STORE, {"model": [*self.artifacts], "model_blessing": blessings})
        return [m.id for m in result["model"]], [b.id for b in result["model_blessing"]]


def test_the_blessed_model_of_the_latest_span_before(tmp_path: Path) -> None:
    models = Models(tmp_path, 1, 2, 3, 4)
    # Span 5 was run again after span 6; span 7's model was refused.
    blessings = [blessing(11, 1, 5), blessing(12, 2, 6), blessing(13, 3, 5), blessing(14, 4, 7, blessed=0)]
    assert models.resolved(LatestBlessedBefore(9), blessings) == ([2], [12])
    assert models.resolved(LatestBlessedBefore(6), blessings) == ([3], [13])
    assert models.resolved(LatestBlessedBefore(5), blessings) == ([], [])
    assert models.resolved(LatestBlessedBefore(9), []) == ([], [])


def test_a_model_that_is_gone_from_the_metadata_is_not_taken(tmp_path: Path) -> None:
    blessings = [blessing(11, 1, 5), blessing(12, 2, 6)]
    assert Models(tmp_path, 1).resolved(LatestBlessedBefore(9), blessings) == ([1], [11])


@pytest.mark.parametrize("strategy", [LatestBlessed(), LatestBlessedBefore(9)])
def test_a_model_whose_folder_is_gone_is_passed_over_and_named(
    strategy: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="retrieval.progress")
    models = Models(tmp_path, 1, 2, 3, 4)
    # Model 4 was never blessed, so nobody has to hear of it.
    blessings = [blessing(11, 1, 5), blessing(12, 2, 6), blessing(13, 3, 7), blessing(14, 4, 8, blessed=0)]
    assert models.resolved(strategy, blessings) == ([3], [13])
    assert caplog.messages == []
    for number in (2, 3, 4):
        shutil.rmtree(tmp_path / str(number))
    assert models.resolved(strategy, blessings) == ([1], [11])
    assert caplog.messages == [
        f"{tmp_path}/{number}/Format-Serving was removed: an earlier one is taken, if there is one" for number in (3, 2)
    ]
    shutil.rmtree(tmp_path / "1")
    assert models.resolved(strategy, blessings) == ([], [])


class Recorded:
    """ML Metadata in memory: statistics, and the executions that read them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        config = metadata_store_pb2.ConnectionConfig()
        config.fake_database.SetInParent()
        self.store = MetadataStore(config)
        self.statistics: list[standard_artifacts.ExampleStatistics] = []

    def add(self, span: int) -> int:
        made = standard_artifacts.ExampleStatistics()
        made.span = span
        kind = self.store.put_artifact_type(made.artifact_type)
        (made.id,) = self.store.put_artifacts([metadata_store_pb2.Artifact(type_id=kind)])
        made.uri = str(self.folder / str(made.id))
        Path(made.uri).mkdir()
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


def test_the_statistics_of_the_last_span_that_passed(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)
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
    (tmp_path / str(fourth)).rmdir()
    assert recorded.before(6) == [again]


def test_the_release_of_the_latest_span_that_was_pushed_and_is_still_there(tmp_path: Path) -> None:
    releases = []
    for number, span, pushed in ((1, 3, 1), (2, 4, 1), (3, 5, 0), (4, 4, 1), (5, 2, 1)):
        artifact = RetrievalRelease()
        artifact.id = number
        artifact.set_int_custom_property("span", span)
        artifact.set_int_custom_property("pushed", pushed)
        if pushed:
            artifact.version = 100 + number
            (tmp_path / str(artifact.version)).mkdir()
        releases.append(artifact)

    def latest(*artifacts: RetrievalRelease) -> list[int]:
        result = LatestPushed(str(tmp_path)).resolve_artifacts(STORE, {"release": [*artifacts]})
        return [a.id for a in result["release"]]

    assert latest(*releases) == [4]
    assert latest() == []
    (tmp_path / "104").rmdir()
    assert latest(*releases) == [2]
    (tmp_path / "102").rmdir()
    assert latest(*releases) == [1]
