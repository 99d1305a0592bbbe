"""CuratedSchema: the schemas that the declared features promise."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from components.schema.executor import Executor


class CuratedSchemaSpec(types.ComponentSpec):
    """Inputs, outputs and parameters of CuratedSchema."""

    PARAMETERS = {
        "features": ExecutionParameter(type=str),
        "show": ExecutionParameter(type=str),
        "distances": ExecutionParameter(type=str),
        "code_fingerprint": ExecutionParameter(type=str),
    }
    INPUTS = {}
    OUTPUTS = {
        "interactions": ChannelParameter(type=standard_artifacts.Schema),
        "items": ChannelParameter(type=standard_artifacts.Schema),
        "union": ChannelParameter(type=standard_artifacts.Schema),
    }


class CuratedSchema(base_component.BaseComponent):
    """Makes schemas from the declared features.

    Outputs:
      interactions: Schema, to check the splits train, eval and test against.
      items: Schema, to check the split items against.
      union: Schema, for Transform: every feature of both, none required.
    """

    SPEC_CLASS = CuratedSchemaSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(self, *, features: str, show: str, distances: str, code_fingerprint: str) -> None:
        """Makes the node.

        Args:
          features: FeatureSpec as JSON.
          show: JSON list of the shown item columns, `data.items.show`.
          distances: JSON {"drift", "skew"}, for each feature the largest distance that the gates allow.
          code_fingerprint: of the code that runs, so that TFX's cache notices a change of it.
        """
        super().__init__(
            spec=CuratedSchemaSpec(
                features=features,
                show=show,
                distances=distances,
                code_fingerprint=code_fingerprint,
                interactions=types.Channel(type=standard_artifacts.Schema),
                items=types.Channel(type=standard_artifacts.Schema),
                union=types.Channel(type=standard_artifacts.Schema),
            )
        )
