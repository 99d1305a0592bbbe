"""Which model and which statistics a run builds on and is compared with: those of an earlier span."""

from __future__ import annotations

from ml_metadata import MetadataStore
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


class LatestBefore(resolver.ResolverStrategy):
    """Of artifacts with a span those of the latest one before a run's own, of several the newest.

    Args:
      span: the run's.
    """

    def __init__(self, span: int) -> None:
        self._span = span

    def resolve_artifacts(
        self, store: MetadataStore, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]]:
        """Resolves each key by itself; empty where there is none."""
        return {
            key: sorted((a for a in artifacts if a.span < self._span), key=lambda a: (a.span, a.id))[-1:]
            for key, artifacts in input_dict.items()
        }


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
