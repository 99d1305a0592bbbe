"""TFX component that publishes a query tower and its item index as one release."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.artifacts import ItemIndex, RetrievalRelease
from components.release_pusher.driver import Driver
from components.release_pusher.executor import Executor


class ReleasePusherSpec(ComponentSpec):
    """Inputs, outputs and parameters of ReleasePusher."""

    PARAMETERS = {
        "releases": ExecutionParameter(type=str),
        "model_name": ExecutionParameter(type=str),
        "features": ExecutionParameter(type=str),
        "code_fingerprint": ExecutionParameter(type=str),
    }
    INPUTS = {
        "model": ChannelParameter(type=standard_artifacts.Model),
        "model_blessing": ChannelParameter(type=standard_artifacts.ModelBlessing),
        "infra_blessing": ChannelParameter(type=standard_artifacts.InfraBlessing),
        "latest_release": ChannelParameter(type=RetrievalRelease, optional=True),
        "index": ChannelParameter(type=ItemIndex),
        "queries": ChannelParameter(type=standard_artifacts.Examples),
    }
    OUTPUTS = {"release": ChannelParameter(type=RetrievalRelease)}


class ReleasePusher(base_component.BaseComponent):
    """Publishes tower, index and query store under one version that becomes visible by one rename.

    It is never answered from TFX's cache; publishing what is already the newest release changes nothing.

    Component `outputs` contains:
      - `release`: RetrievalRelease.
    """

    SPEC_CLASS = ReleasePusherSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
    DRIVER_CLASS = Driver

    def __init__(
        self,
        *,
        model: types.BaseChannel,
        model_blessing: types.BaseChannel,
        infra_blessing: types.BaseChannel,
        index: types.BaseChannel,
        queries: types.BaseChannel,
        releases: str,
        model_name: str,
        features: str,
        code_fingerprint: str,
        latest_release: types.BaseChannel | None = None,
    ) -> None:
        """Constructs the component.

        Args:
          model: Model to publish.
          model_blessing: ModelBlessing; without the blessing nothing is published.
          infra_blessing: InfraBlessing; the same.
          index: ItemIndex, built from this very model.
          queries: raw Examples with the split "queries".
          releases: root folder of the releases; a relative path is below the working directory.
          model_name: under which the model is served.
          features: JSON of FeatureSpec.
          code_fingerprint: of the sources of the component and of the release format.
          latest_release: RetrievalRelease that is in `releases`; one of a later span than the model's is not replaced.
        """
        spec = ReleasePusherSpec(
            model=model,
            model_blessing=model_blessing,
            infra_blessing=infra_blessing,
            latest_release=latest_release,
            index=index,
            queries=queries,
            releases=releases,
            model_name=model_name,
            features=features,
            code_fingerprint=code_fingerprint,
            release=types.Channel(type=RetrievalRelease),
        )
        super().__init__(spec=spec)
