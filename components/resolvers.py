"""Which model, statistics and release a run builds on and is compared with; what was removed is passed over."""

from __future__ import annotations

import logging
from pathlib import Path

from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2
from tfx import types
from tfx.dsl.components.common import resolver
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy
from tfx.dsl.io import fileio
from tfx.utils import path_utils

progress = logging.getLogger("retrieval.progress")

SPAN = "span"  # custom property of a ModelBlessing and a RetrievalRelease: the span the model was evaluated on


def _is_there(folder: str) -> bool:
    there = bool(fileio.exists(folder))
    if not there:
        progress.info("%s was removed: an earlier one is taken, if there is one", folder)
    return there


class LatestBlessed(LatestBlessedModelStrategy):
    """What TFX's strategy chooses among the models that are still there."""

    def resolve_artifacts(
        self, store: MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        """Resolves `model` and `model_blessing`; both are empty where there is none."""
        models = list(input_dict["model"])
        while True:
            found = super().resolve_artifacts(store, {**input_dict, "model": models})
            if not found["model"] or _is_there(path_utils.serving_model_dir(found["model"][0].uri)):
                return found
            models.remove(found["model"][0])


class LatestBlessedBefore(resolver.ResolverStrategy):
    """The blessed model of the latest span before a run's own that is still there, of several the newest.

    TFX's LatestBlessedModelStrategy takes the newest there is. Run again, a span would then build on the model it
    made itself, and a span of the past on one that has seen what comes after it.

    Args:
      span: the run's.
    """

    def __init__(self, span: int) -> None:
        self._span = span

    def resolve_artifacts(
        self, store: MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        """Resolves `model` and `model_blessing`; both are empty where there is none."""
        models = {model.id: model for model in input_dict["model"]}
        earlier = [
            blessing
            for blessing in input_dict["model_blessing"]
            if blessing.get_int_custom_property("blessed") == 1
            and blessing.get_int_custom_property(SPAN) < self._span
            and blessing.get_int_custom_property("current_model_id") in models
        ]
        for blessing in sorted(earlier, key=lambda b: (b.get_int_custom_property(SPAN), b.id), reverse=True):
            model = models[blessing.get_int_custom_property("current_model_id")]
            if _is_there(path_utils.serving_model_dir(model.uri)):
                return {"model": [model], "model_blessing": [blessing]}
        return {"model": [], "model_blessing": []}


class LatestPassedBefore(resolver.ResolverStrategy):
    """The statistics, of those still there, of the latest span before a run's own that passed SpanGate.

    Compared with a span that was refused, the next one that is as wrong would pass.

    Args:
      span: the run's.
    """

    def __init__(self, span: int) -> None:
        self._span = span

    def resolve_artifacts(
        self, store: MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        """Resolves `statistics`; empty where there is none."""
        earlier = [a for a in input_dict["statistics"] if a.span < self._span]
        passed = _passed(store, [a.id for a in earlier])
        found = sorted((a for a in earlier if a.id in passed), key=lambda a: (a.span, a.id), reverse=True)
        there = next((artifact for artifact in found if _is_there(artifact.uri)), None)
        return {"statistics": [] if there is None else [there]}


def _passed(store: MetadataStore, statistics: list[int]) -> set[int]:
    """Those that a completed execution of SpanGate has judged."""
    judged = [e for e in store.get_events_by_artifact_ids(statistics) if e.path.steps[0].key == "statistics"]
    gates = {
        execution.id
        for execution in store.get_executions_by_id([event.execution_id for event in judged])
        if execution.type.rpartition(".")[2] == "SpanGate"
        and execution.last_known_state == metadata_store_pb2.Execution.COMPLETE  # type: ignore[attr-defined]
    }
    return {event.artifact_id for event in judged if event.execution_id in gates}


class LatestPushed(resolver.ResolverStrategy):
    """Of the published releases that are still there that of the latest span, of several the newest.

    Args:
      releases: root folder of the releases.
    """

    def __init__(self, releases: str) -> None:
        self._releases = Path(releases)

    def resolve_artifacts(
        self, store: MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        """Resolves each key by itself; empty where there is none."""
        return {
            key: sorted(
                (
                    a
                    for a in artifacts
                    if a.get_int_custom_property("pushed") == 1 and (self._releases / str(a.version)).is_dir()
                ),
                key=lambda a: (a.get_int_custom_property(SPAN), a.id),
            )[-1:]
            for key, artifacts in input_dict.items()
        }
