"""TFX component NegativeSampler."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.artifacts import ItemCounts
from components.negative_sampler import executor


class NegativeSamplerSpec(ComponentSpec):
    """What NegativeSampler reads and writes."""

    PARAMETERS = {
        "config": ExecutionParameter(type=str),
        "features": ExecutionParameter(type=str),
        "code_fingerprint": ExecutionParameter(type=str),
    }
    INPUTS = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "raw_examples": ChannelParameter(type=standard_artifacts.Examples, optional=True),
        "blessed_model": ChannelParameter(type=standard_artifacts.Model, optional=True),
    }
    # TFX wants names that are unique over inputs and outputs.
    OUTPUTS = {
        "sampled_examples": ChannelParameter(type=standard_artifacts.Examples),
        "item_counts": ChannelParameter(type=ItemCounts),
    }


class NegativeSampler(base_beam_component.BaseBeamComponent):
    """Draws S negatives for each train row, the same whatever the number of workers.

    Outputs:
      sampled_examples: Examples. Split `train`: each row as it was, with `negative_indices` int64[S] (candidate
        indices) and `negative_log_q` float[S] (natural-log probability of drawing that item for this
        query), in mixed order. With hard negatives also `hard_negative_indices` int64[H], -1 for none. Split
        `items`: the catalogue with `item_count` int64[1].
      item_counts: ItemCounts.
    """

    SPEC_CLASS = NegativeSamplerSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        *,
        examples: types.BaseChannel,
        config: str,
        features: str,
        code_fingerprint: str,
        raw_examples: types.BaseChannel | None = None,
        blessed_model: types.BaseChannel | None = None,
    ) -> None:
        """Builds the component.

        Args:
          examples: Examples of Transform, with splits `train` and `items`.
          config: JSON of a NegativesConfig: how many negatives, how drawn, and the seed.
          features: JSON of the FeatureSpec.
          code_fingerprint: of this component's sources, so that TFX's cache notices a change.
          raw_examples: Examples of ingestion; needed for hard negatives, as blessed_model is.
          blessed_model: the last blessed Model, if there is one, which ranks the catalogue for them.
        """
        super().__init__(
            NegativeSamplerSpec(
                examples=examples,
                raw_examples=raw_examples,
                blessed_model=blessed_model,
                config=config,
                features=features,
                code_fingerprint=code_fingerprint,
                sampled_examples=types.Channel(type=standard_artifacts.Examples),
                item_counts=types.Channel(type=ItemCounts),
            )
        )
