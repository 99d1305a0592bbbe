"""TFX component RetrievalEvaluator."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.artifacts import ItemCounts
from components.retrieval_evaluator import executor


class RetrievalEvaluatorSpec(ComponentSpec):
    """What RetrievalEvaluator reads and writes."""

    PARAMETERS = {
        "config": ExecutionParameter(type=str),
        "features": ExecutionParameter(type=str),
        "code_fingerprint": ExecutionParameter(type=str),
    }
    INPUTS = {
        "model": ChannelParameter(type=standard_artifacts.Model),
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "item_counts": ChannelParameter(type=ItemCounts),
        "baseline_model": ChannelParameter(type=standard_artifacts.Model, optional=True),
    }
    OUTPUTS = {
        "evaluation": ChannelParameter(type=standard_artifacts.ModelEvaluation),
        "blessing": ChannelParameter(type=standard_artifacts.ModelBlessing),
    }


class RetrievalEvaluator(base_beam_component.BaseBeamComponent):
    """Exact full-corpus HR@K, NDCG@K and MRR of the held-out interactions, and a blessing.

    TFX's Evaluator scores each row by itself; retrieval has to rank the whole catalogue for it.

    Outputs:
      evaluation: ModelEvaluation, `metrics.json`: for each held-out split the metrics of the candidate,
        of most-popular and of the last blessed model, overall and by slice; the verdict and its reasons.
      blessing: ModelBlessing, as TFX's Evaluator makes it.
    """

    SPEC_CLASS = RetrievalEvaluatorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        *,
        model: types.BaseChannel,
        examples: types.BaseChannel,
        item_counts: types.BaseChannel,
        config: str,
        features: str,
        code_fingerprint: str,
        baseline_model: types.BaseChannel | None = None,
    ) -> None:
        """Builds the component.

        Args:
          model: Model to judge.
          examples: raw Examples of ingestion, with splits `train`, `items`, and `eval` or `test` or both.
          item_counts: ItemCounts of the NegativeSampler.
          config: JSON of an EvaluationConfig.
          features: JSON of the FeatureSpec.
          code_fingerprint: of this component's sources, so that TFX's cache notices a change.
          baseline_model: the last blessed Model, if there is one, to compare with.
        """
        super().__init__(
            RetrievalEvaluatorSpec(
                model=model,
                examples=examples,
                item_counts=item_counts,
                baseline_model=baseline_model,
                config=config,
                features=features,
                code_fingerprint=code_fingerprint,
                evaluation=types.Channel(type=standard_artifacts.ModelEvaluation),
                blessing=types.Channel(type=standard_artifacts.ModelBlessing),
            )
        )
