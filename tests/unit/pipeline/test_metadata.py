from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from pipeline.clean import _why_kept
from pipeline.metadata import Entry, Execution, Metadata, MetadataError, entries, pb

COMPLETE, CACHED, FAILED = pb.Execution.COMPLETE, pb.Execution.CACHED, pb.Execution.FAILED


class Recorded:
    """What Metadata reads, made by hand: runs of executions that put out artifacts."""

    def __init__(self) -> None:
        self.artifacts: dict[int, Any] = {}
        self.executions: dict[int, Execution] = {}
        self.runs: list[tuple[int, list[int]]] = []

    output = Metadata.output

    def artifact(self, number: int, **properties: Any) -> int:
        artifact = pb.Artifact(id=number)
        for name, value in properties.items():
            field = "string_value" if isinstance(value, str) else "int_value"
            setattr(artifact.custom_properties[name], field, value)
        self.artifacts[number] = artifact
        return number

    def run(self, span: int, *steps: tuple[str, str, int] | str, at: int | None = None) -> None:
        """One run: ingestion, then (component, key, artifact), or the name of the one that failed."""
        numbers = []
        for step in steps:
            component, key, artifact = (step, "", 0) if isinstance(step, str) else step
            number = len(self.executions) + 1
            proto = pb.Execution(id=number, last_known_state=FAILED if isinstance(step, str) else COMPLETE)
            if component == "RetrievalExampleGen":
                proto.custom_properties["config"].string_value = json.dumps({"span": span})
            self.executions[number] = Execution(component, proto, outputs={key: [artifact]} if artifact else {})
            numbers.append(number)
        self.runs.append((1000 * (len(self.runs) + 1) if at is None else at, numbers))

    @property
    def history(self) -> list[Any]:
        return entries(self)  # type: ignore[arg-type]


def ingested(number: int) -> tuple[str, str, int]:
    return "RetrievalExampleGen", "examples", number


def trained(number: int) -> tuple[str, str, int]:
    return "Trainer", "model", number


def test_stages_of_one_training_run_are_one_entry(tmp_path: Path) -> None:
    recorded = Recorded()
    examples, model = recorded.artifact(1), recorded.artifact(2)
    blessing = recorded.artifact(3, blessed=1)
    release = recorded.artifact(4, pushed=1, version=77)
    recorded.run(5, "RetrievalExampleGen")
    recorded.run(5, ingested(examples))
    recorded.run(5, ingested(examples), "Trainer")
    recorded.run(5, ingested(examples), trained(model))
    full = (ingested(examples), trained(model), ("RetrievalEvaluator", "blessing", blessing))
    recorded.run(5, *full, ("ReleasePusher", "release", release))
    again = recorded.artifact(5, pushed=0)
    recorded.run(5, *full, ("ReleasePusher", "release", again))
    recorded.run(5, ingested(examples))
    (entry,) = recorded.history
    assert (entry.span, entry.started, entry.ended, entry.failed) == (5, 1000, 7000, None)
    assert (list(entry.releases), entry.blessed, len(entry.executions)) == ([77], True, 15)
    assert entry.outcome(tmp_path) == "release 77, removed"
    (tmp_path / "77").mkdir()
    assert entry.outcome(tmp_path) == "release 77"
    recorded.run(5, ingested(examples), "SpanGate")
    (entry,) = recorded.history
    assert entry.outcome(tmp_path) == "release 77; last run: SpanGate failed or refused"


def test_a_model_that_is_published_again_has_both_releases(tmp_path: Path) -> None:
    recorded = Recorded()
    for number, version in ((3, 77), (4, 78), (5, 78)):
        recorded.artifact(number, pushed=1, version=version)
    for number in (1, 2, 6):
        recorded.artifact(number)
    steps = ingested(1), trained(2)
    recorded.run(5, *steps, ("ReleasePusher", "release", 3))
    recorded.run(5, *steps, ("ItemIndexer", "index", 6), ("ReleasePusher", "release", 4))  # another index
    recorded.run(5, *steps, ("ReleasePusher", "release", 5))  # nothing new: 78 again
    (entry,) = recorded.history
    assert {version: release.id for version, release in entry.releases.items()} == {77: 3, 78: 4}
    assert entry.outcome(tmp_path) == "release 78, removed"
    (tmp_path / "77").mkdir()
    assert entry.outcome(tmp_path) == "release 77"
    (tmp_path / "78").mkdir()
    assert entry.outcome(tmp_path) == "release 77, 78"
    assert _why_kept([entry, entry], 1, tmp_path)[0] == "release 77, 78"


def test_the_newest_is_the_last_one_run_though_the_clock_stepped_back(tmp_path: Path) -> None:
    recorded = Recorded()
    for number in range(1, 5):
        recorded.artifact(number)
    recorded.run(5, ingested(1), trained(2), at=9000)
    recorded.run(6, ingested(3), trained(4), at=8000)
    assert [entry.span for entry in recorded.history] == [5, 6]
    assert _why_kept(recorded.history, 1, tmp_path) == {1: "newest"}


def test_another_model_or_another_delivery_is_another_entry(tmp_path: Path) -> None:
    recorded = Recorded()
    for number in range(1, 6):
        recorded.artifact(number)
    recorded.run(5, ingested(1), trained(2))
    recorded.run(5, ingested(1), trained(3))  # other code
    recorded.run(5, ingested(4), "SpanGate")  # other files
    recorded.run(6, ingested(5))
    assert [(e.span, e.outcome(tmp_path)) for e in recorded.history] == [
        (5, "trained"),
        (5, "trained"),
        (5, "SpanGate failed or refused"),
        (6, "ingested"),
    ]


def kept(tmp_path: Path, keep: int, *history: tuple[int, int | None, bool]) -> dict[int, str]:
    """Entries of (span, version, blessed)."""
    made = []
    for place, (span, version, blessed) in enumerate(history):
        blessing = pb.Artifact(id=place)
        blessing.custom_properties["blessed"].int_value = blessed
        releases = {} if version is None else {version: None}
        made.append(Entry(span, 0, blessing=blessing, releases=releases))
    return _why_kept(made, keep, tmp_path)


def test_what_is_in_use_is_kept(tmp_path: Path) -> None:
    (tmp_path / "71").mkdir()
    history = [(1, 70, True), (2, 71, True), (4, None, True), (3, 73, True), (5, None, False)]
    # 70 and 73 are no longer there; span 4's model, though older than span 3's, is the one the next run goes on from.
    assert kept(tmp_path, 1, *history) == {1: "release 71", 2: "last blessed model", 4: "newest"}
    assert list(kept(tmp_path, 9, *history)) == [0, 1, 2, 3, 4]


def test_no_metadata_is_said(tmp_path: Path) -> None:
    with pytest.raises(MetadataError, match="this pipeline has not run yet"):
        Metadata(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_damaged_metadata_is_said(tmp_path: Path) -> None:
    (tmp_path / "metadata.sqlite").write_text("no database " * 1000)
    with pytest.raises(MetadataError, match=r"metadata\.sqlite cannot be read: "):
        Metadata(tmp_path)


def test_locked_metadata_is_said(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "metadata.sqlite") as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(MetadataError, match="If a run is writing to it, try again"):
            Metadata(tmp_path)
