"""TFX component that indexes the item catalogue for search."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.artifacts import ItemIndex
from components.item_indexer.executor import Executor


class ItemIndexerSpec(ComponentSpec):
    """Inputs, outputs and parameters of ItemIndexer."""

    PARAMETERS = {
        "config": ExecutionParameter(type=str),
        "features": ExecutionParameter(type=str),
        "show": ExecutionParameter(type=str),
        "code_fingerprint": ExecutionParameter(type=str),
    }
    INPUTS = {
        "model": ChannelParameter(type=standard_artifacts.Model),
        "examples": ChannelParameter(type=standard_artifacts.Examples),
    }
    OUTPUTS = {"index": ChannelParameter(type=ItemIndex)}


class ItemIndexer(base_beam_component.BaseBeamComponent):
    """Embeds every item of the catalogue with the item tower and builds an index over the embeddings.

    The index is measured against exact search with queries of the eval split; one that finds too little stops the run.

    Component `outputs` contains:
      - `index`: ItemIndex.
    """

    SPEC_CLASS = ItemIndexerSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(
        self,
        *,
        model: types.BaseChannel,
        examples: types.BaseChannel,
        config: str,
        features: str,
        show: str,
        code_fingerprint: str,
    ) -> None:
        """Constructs the component.

        Args:
          model: Model with the signatures `item_examples` and `serialized_examples`.
          examples: raw Examples with the split "items" and at least one of "eval", "test" and "train".
          config: JSON of IndexConfig.
          features: JSON of FeatureSpec.
          show: JSON list of the item columns to return with a recommendation.
          code_fingerprint: of the sources of the component and of the index format, for TFX's cache.
        """
        spec = ItemIndexerSpec(
            model=model,
            examples=examples,
            config=config,
            features=features,
            show=show,
            code_fingerprint=code_fingerprint,
            index=types.Channel(type=ItemIndex),
        )
        super().__init__(spec=spec)
