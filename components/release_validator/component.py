"""TFX component that tries a release before it is published."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.artifacts import ItemIndex
from components.release_validator.executor import Executor


class ReleaseValidatorSpec(ComponentSpec):
    """Inputs, outputs and parameters of ReleaseValidator."""

    PARAMETERS = {
        "canary_queries": ExecutionParameter(type=int),
        "model_name": ExecutionParameter(type=str),
        "features": ExecutionParameter(type=str),
        "code_fingerprint": ExecutionParameter(type=str),
    }
    INPUTS = {
        "model": ChannelParameter(type=standard_artifacts.Model),
        "model_blessing": ChannelParameter(type=standard_artifacts.ModelBlessing),
        "index": ChannelParameter(type=ItemIndex),
        "queries": ChannelParameter(type=standard_artifacts.Examples),
    }
    OUTPUTS = {"blessing": ChannelParameter(type=standard_artifacts.InfraBlessing)}


class ReleaseValidator(base_component.BaseComponent):
    """Loads tower, index and query store as the server does and asks for recommendations.

    TFX's InfraValidator needs Docker or Kubernetes and knows nothing of the index.

    Component `outputs` contains:
      - `blessing`: InfraBlessing.
    """

    SPEC_CLASS = ReleaseValidatorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        *,
        model: types.BaseChannel,
        model_blessing: types.BaseChannel,
        index: types.BaseChannel,
        queries: types.BaseChannel,
        canary_queries: int,
        model_name: str,
        features: str,
        code_fingerprint: str,
    ) -> None:
        """Constructs the component.

        Args:
          model: Model that is to be published.
          model_blessing: ModelBlessing; without the blessing there is nothing to try.
          index: ItemIndex, built from this very model.
          queries: raw Examples with the split "queries".
          canary_queries: how many of the known queries to ask; an unknown one is asked in any case.
          model_name: under which the model is served.
          features: JSON of FeatureSpec.
          code_fingerprint: of the sources of the component and of serving, for TFX's cache.
        """
        spec = ReleaseValidatorSpec(
            model=model,
            model_blessing=model_blessing,
            index=index,
            queries=queries,
            canary_queries=canary_queries,
            model_name=model_name,
            features=features,
            code_fingerprint=code_fingerprint,
            blessing=types.Channel(type=standard_artifacts.InfraBlessing),
        )
        super().__init__(spec=spec)
