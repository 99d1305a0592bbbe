"""Which model and which statistics a run builds on and is compared with: those of an earlier span."""

from __future__ import annotations

from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2
from tfx import types
from tfx.dsl.components.common import resolver

SPAN = "span"  # custom property of a ModelBlessing and a RetrievalRelease: the span the model was evaluated on


class LatestBlessedBefore(resolver.ResolverStrategy):
    """The blessed model of the latest span before a run's own, of several the newest.

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
        if not earlier:
            return {"model": [], "model_blessing": []}
        newest = max(earlier, key=lambda b: (b.get_int_custom_property(SPAN), b.id))
        return {
            "model": [models[newest.get_int_custom_property("current_model_id")]],
            "model_blessing": [newest],
        }


class LatestPassedBefore(resolver.ResolverStrategy):
    """The statistics of the latest span before a run's own that passed SpanGate, of several the newest.

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
        found = sorted((a for a in earlier if a.id in passed), key=lambda a: (a.span, a.id))
        return {"statistics": found[-1:]}


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
    """The release of the latest span that was published, of several the newest."""

    def resolve_artifacts(
        self, store: MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        """Resolves each key by itself; empty where there is none."""
        return {
            key: sorted(
                (a for a in artifacts if a.get_int_custom_property("pushed") == 1),
                key=lambda a: (a.get_int_custom_property(SPAN), a.id),
            )[-1:]
            for key, artifacts in input_dict.items()
        }
