"""What TFX has recorded of a pipeline's runs. Imports ML Metadata but no TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

from ml_metadata import MetadataStore, errors
from ml_metadata.proto import metadata_store_pb2

pb: Any = metadata_store_pb2  # a generated module, whose members mypy does not see

METADATA = "metadata.sqlite"
COLD_START = "cold_start"  # custom property of a Model: why it was trained cold, "" if it was not
EXAMPLES = "RetrievalExampleGen.examples"
_OUTPUTS = {
    "examples": EXAMPLES,
    "model": "Trainer.model",
    "evaluation": "RetrievalEvaluator.evaluation",
    "blessing": "RetrievalEvaluator.blessing",
    "release": "ReleasePusher.release",
}


class MetadataError(RuntimeError):
    """There is no metadata, or it cannot be read."""


def value_of(message: Any, name: str) -> Any:
    """A property of an artifact or an execution, custom or not; None if it has none of that name."""
    for properties in (message.properties, message.custom_properties):
        if name in properties:
            return getattr(properties[name], properties[name].WhichOneof("value"))
    return None


@dataclass
class Execution:
    """One execution of a component.

    Attributes:
      component: its class, "Trainer".
      proto: as ML Metadata has it.
      inputs, outputs: artifact ids by key.
    """

    component: str
    proto: Any
    inputs: dict[str, list[int]] = field(default_factory=dict)
    outputs: dict[str, list[int]] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        return self.proto.last_known_state == pb.Execution.FAILED

    @property
    def cached(self) -> bool:
        return self.proto.last_known_state == pb.Execution.CACHED


class Metadata:
    """All executions and artifacts of one pipeline, read at once.

    Args:
      home: of the pipeline.
      write: open it for changes too.

    Raises:
      MetadataError: it is not there, or locked, or damaged.
    """

    def __init__(self, home: Path, write: bool = False) -> None:
        path = home / METADATA
        if not path.is_file():
            raise MetadataError(f"there is no {path}: this pipeline has not run yet")
        config = pb.ConnectionConfig()
        config.sqlite.filename_uri = str(path)
        config.sqlite.connection_mode = (
            pb.SqliteMetadataSourceConfig.READWRITE if write else pb.SqliteMetadataSourceConfig.READONLY
        )
        try:
            self.store = MetadataStore(config)
            # A run may be writing: what names another is read before it, so that all that is named is there.
            self.runs = [
                (context.create_time_since_epoch, [e.id for e in self.store.get_executions_by_context(context.id)])
                for context in sorted(self.store.get_contexts_by_type("pipeline_run"), key=lambda context: context.id)
            ]
            self.executions = self._executions()
            self.artifacts: dict[int, Any] = {artifact.id: artifact for artifact in self.store.get_artifacts()}
        except (errors.StatusError, RuntimeError) as error:
            raise MetadataError(
                f"{path} cannot be read: {' '.join(str(error).split())}. If a run is writing to it, try again"
            ) from error

    def _executions(self) -> dict[int, Execution]:
        executions = {e.id: Execution(e.type.rpartition(".")[2], e) for e in self.store.get_executions()}
        for event in self.store.get_events_by_execution_ids(list(executions)):
            execution = executions[event.execution_id]
            side = execution.outputs if event.type == pb.Event.OUTPUT else execution.inputs
            side.setdefault(event.path.steps[0].key, []).append(event.artifact_id)
        return executions

    @cached_property
    def producers(self) -> dict[int, Execution]:
        """By artifact id the execution that made it, not one that was answered from the cache."""
        return {
            artifact: execution
            for execution in self.executions.values()
            if not execution.cached
            for artifacts in execution.outputs.values()
            for artifact in artifacts
        }

    def output(self, executions: list[int], name: str) -> Any:
        """The artifact that a run's executions put out under "<component>.<key>"; None if there is none."""
        component, _, key = name.partition(".")
        for number in executions:
            execution = self.executions[number]
            if execution.component == component and key in execution.outputs:
                return self.artifacts[execution.outputs[key][0]]
        return None

    def input(self, artifact: Any, key: str) -> Any:
        """The artifact that another one was made from, as its producer's input `key`; None if there was none."""
        found = self.producers[artifact.id].inputs.get(key)
        return self.artifacts[found[0]] if found else None

    def base_of(self, model: Any) -> Any:
        """The model that another one went on from; None if it was trained cold, or nothing recorded how.

        The Trainer's input says only what it was offered.
        """
        return self.input(model, "base_model") if value_of(model, COLD_START) == "" else None


@dataclass
class Entry:
    """One training run with all that was done with it; stages that were run one by one belong together.

    Attributes:
      span: the run's.
      started, ended: milliseconds since 1970, of its first run and its last.
      executions: of all its runs.
      examples, model, evaluation, blessing: artifacts, None where it did not come so far.
      releases: by version the release artifacts, the newest last. One model is published again where its index is
        another, or where what was published after it was of another model.
      failed: the component that failed in the last run; None if none did.
    """

    span: int
    started: int
    ended: int = 0
    executions: set[int] = field(default_factory=set)
    examples: Any = None
    model: Any = None
    evaluation: Any = None
    blessing: Any = None
    releases: dict[int, Any] = field(default_factory=dict)
    failed: str | None = None

    def add(self, started: int, executions: list[int], artifacts: dict[str, Any], metadata: Metadata) -> None:
        """Adds a run with what it put out."""
        self.ended = max(self.ended, started)
        self.executions |= set(executions)
        for name, artifact in artifacts.items():
            if artifact is None:
                continue
            if name != "release":
                setattr(self, name, artifact)
            elif value_of(artifact, "pushed") == 1:
                self.releases.setdefault(value_of(artifact, "version"), artifact)
        failed = [e.component for e in (metadata.executions[number] for number in executions) if e.failed]
        self.failed = failed[0] if failed else None

    @property
    def metrics(self) -> dict[str, float]:
        """Of the first held-out split, overall."""
        return json.loads(value_of(self.evaluation, "overall") or "{}") if self.evaluation is not None else {}

    def served_from(self, root: Path) -> list[int]:
        """The versions of its releases that are still in a folder, the newest last."""
        return [version for version in self.releases if (root / str(version)).is_dir()]

    @property
    def blessed(self) -> bool:
        return self.blessing is not None and value_of(self.blessing, "blessed") == 1

    def outcome(self, releases: Path) -> str:
        """What came of it: its releases that are still in the given folder, or else the last one."""
        failed = f"{self.failed} failed or refused" if self.failed is not None else ""
        if self.releases:
            there = ", ".join(map(str, self.served_from(releases))) or f"{list(self.releases)[-1]}, removed"
            return f"release {there}" + (f"; last run: {failed}" if failed else "")
        if failed:
            return failed
        if self.blessing is not None:
            return "blessed" if self.blessed else "not blessed"
        return "trained" if self.model is not None else "ingested"


def entries(metadata: Metadata) -> list[Entry]:
    """The history, by each one's last run, oldest first. Runs that led to the same model are one entry."""
    found: dict[tuple[int, int, int], Entry] = {}
    for started, executions in metadata.runs:
        span = _span(metadata, executions)
        if span is None:
            continue
        artifacts = {name: metadata.output(executions, output) for name, output in _OUTPUTS.items()}
        examples, model = (0 if artifacts[name] is None else artifacts[name].id for name in ("examples", "model"))
        key = (span, examples, model)
        if not model:
            # A run of the first stages alone belongs to the training run on the same data, if there was one.
            key = next((known for known in reversed(found) if known[:2] == key[:2]), key)
        entry = found.get(key) or Entry(span, started)
        for before in {(span, 0, 0), (span, examples, 0)} - {key}:
            if earlier := found.pop(before, None):
                entry.started = min(entry.started, earlier.started)
                entry.executions |= earlier.executions
        found[key] = entry
        entry.add(started, executions, artifacts, metadata)
    # Not by time, for a clock may step back; executions are numbered as they come.
    return sorted(found.values(), key=lambda entry: max(entry.executions))


def _span(metadata: Metadata, executions: list[int]) -> int | None:
    for number in executions:
        execution = metadata.executions[number]
        if execution.component == "RetrievalExampleGen":
            return int(json.loads(value_of(execution.proto, "config"))["span"])
    return None


def moment(milliseconds: int) -> str:
    """As UTC, to the minute."""
    return f"{datetime.fromtimestamp(milliseconds / 1000, timezone.utc):%Y-%m-%d %H:%M}"


def ancestry(metadata: Metadata, model: Any) -> Iterator[Any]:
    """A model and those it went on from, the newest first."""
    while model is not None:
        yield model
        model = metadata.base_of(model)
