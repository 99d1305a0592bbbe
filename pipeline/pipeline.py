"""The wiring: which components run, in which order, on what."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tfx.components import ExampleValidator, StatisticsGen, Transform
from tfx.dsl.components.common.resolver import Resolver
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline
from tfx.proto.trainer_pb2 import EvalArgs, TrainArgs  # type: ignore[attr-defined]
from tfx.proto.transform_pb2 import SplitsConfig  # type: ignore[attr-defined]
from tfx.types import standard_artifacts
from tfx.types.channel import Channel

from components.anomaly_gate.component import AnomalyGate
from components.artifacts import RetrievalRelease
from components.beam_runner import run_in_this_process
from components.fingerprint import TRANSFORM_CODE, source_fingerprint
from components.ingestion.component import RetrievalExampleGen
from components.ingestion.config import SplitBySpan
from components.ingestion.fingerprint import input_fingerprint
from components.item_indexer.component import ItemIndexer
from components.negative_sampler.component import NegativeSampler
from components.release_pusher.component import ReleasePusher
from components.release_validator.component import ReleaseValidator
from components.resolvers import LatestBlessed, LatestBlessedBefore, LatestPassedBefore, LatestPushed
from components.retrieval_evaluator.component import RetrievalEvaluator
from components.schema.component import CuratedSchema
from components.span_gate.component import SpanGate
from components.span_gate.config import distances
from components.trainer.component import Trainer
from pipeline.config import PipelineConfig
from pipeline.metadata import METADATA
from pipeline.stages import Stage

# Rows of both kinds go into the vocabularies: queries from train, items from the whole catalogue.
_TRANSFORMED_SPLITS = ["train", "items"]


@dataclass(frozen=True)
class Preparation:
    """The components from the raw files to the trainer's input.

    Attributes:
      components: all of them, in order.
      example_gen, transform, latest_blessed_model, negative_sampler: those whose outputs others read.
    """

    components: list[Any]
    example_gen: RetrievalExampleGen
    transform: Transform
    latest_blessed_model: Resolver
    negative_sampler: NegativeSampler


def prepare(config: PipelineConfig, span: int = 0) -> Preparation:
    """The first part of the pipeline: ingestion, checks, Transform, NegativeSampler."""
    features = config.feature_spec.model_dump_json()
    show = json.dumps(config.data.items.show)
    ingestion = config.ingestion(span)
    example_gen = RetrievalExampleGen(
        config=ingestion.model_dump_json(),
        input_fingerprint=input_fingerprint(ingestion),
        code_fingerprint=source_fingerprint("components/ingestion"),
    )
    statistics_gen = StatisticsGen(examples=example_gen.outputs["examples"])
    limits = {key: distances(getattr(config.gates, key), config.feature_spec) for key in ("drift", "skew")}
    schema = CuratedSchema(
        features=features,
        show=show,
        distances=json.dumps(limits),
        code_fingerprint=source_fingerprint("components/schema"),
    )
    interaction_validator = ExampleValidator(
        statistics=statistics_gen.outputs["statistics"],
        schema=schema.outputs["interactions"],
        exclude_splits=["items"],
    ).with_id("InteractionValidator")
    item_validator = ExampleValidator(
        statistics=statistics_gen.outputs["statistics"],
        schema=schema.outputs["items"],
        exclude_splits=["train", "eval", "test"],
    ).with_id("ItemValidator")
    anomaly_gate = AnomalyGate(
        interactions=interaction_validator.outputs["anomalies"],
        items=item_validator.outputs["anomalies"],
        code_fingerprint=source_fingerprint("components/anomaly_gate"),
    )
    transform = Transform(
        examples=example_gen.outputs["examples"],
        schema=schema.outputs["union"],
        preprocessing_fn="models.preprocessing.preprocessing_fn",
        splits_config=SplitsConfig(analyze=_TRANSFORMED_SPLITS, transform=_TRANSFORMED_SPLITS),
        # StatisticsGen has looked at the data; statistics of indices would double this component's time.
        disable_statistics=True,
        # No run would read it: the train split is another one each time.
        disable_analyzer_cache=True,
        custom_config={"features": features, "fingerprint": source_fingerprint(*TRANSFORM_CODE)},
    )
    latest_blessed_model = _latest_blessed_model(config, span)
    # Only where they are used: a new blessed model is a new input, and the run after it samples and trains anew.
    mined = {"raw_examples": example_gen.outputs["examples"], "blessed_model": latest_blessed_model.outputs["model"]}
    negative_sampler = NegativeSampler(
        examples=transform.outputs["transformed_examples"],
        config=config.negatives.model_dump_json(),
        features=features,
        code_fingerprint=source_fingerprint("components/negative_sampler", "components/embedding"),
        **(mined if config.negatives.hard_per_positive else {}),
    )
    return Preparation(
        components=[
            example_gen,
            statistics_gen,
            schema,
            interaction_validator,
            item_validator,
            *_span_gate(config, span, example_gen, statistics_gen, schema),
            anomaly_gate,
            transform,
            latest_blessed_model,
            negative_sampler,
        ],
        example_gen=example_gen,
        transform=transform,
        latest_blessed_model=latest_blessed_model,
        negative_sampler=negative_sampler,
    )


def _span_gate(
    config: PipelineConfig,
    span: int,
    example_gen: RetrievalExampleGen,
    statistics_gen: StatisticsGen,
    schema: CuratedSchema,
) -> list[Any]:
    """The gate that compares a span with those before it, and what it needs; nothing if the split is by another."""
    if not isinstance(config.data.split, SplitBySpan):
        return []
    previous = Resolver(
        strategy_class=LatestPassedBefore,
        config={"span": span},
        statistics=Channel(type=standard_artifacts.ExampleStatistics),
    ).with_id("PreviousStatistics")
    gate = SpanGate(
        examples=example_gen.outputs["examples"],
        statistics=statistics_gen.outputs["statistics"],
        schema=schema.outputs["interactions"],
        previous_statistics=previous.outputs["statistics"],
        config=config.gates.model_dump_json(),
        code_fingerprint=source_fingerprint("components/span_gate"),
    )
    return [previous, gate]


def _latest_blessed_model(config: PipelineConfig, span: int) -> Resolver:
    strategy: dict[str, Any] = {"strategy_class": LatestBlessed}
    if isinstance(config.data.split, SplitBySpan):
        strategy = {"strategy_class": LatestBlessedBefore, "config": {"span": span}}
    return Resolver(
        **strategy,
        model=Channel(type=standard_artifacts.Model),
        model_blessing=Channel(type=standard_artifacts.ModelBlessing),
    ).with_id("LatestBlessedModel")


def _is_warm(config: PipelineConfig, span: int) -> bool:
    """Whether a span's model goes on from an earlier one, if there is one."""
    warm, split = config.train.warm_start, config.data.split
    if warm is None or not isinstance(split, SplitBySpan):
        return False
    return warm.cold_every is None or (span - split.first_span) % warm.cold_every > 0


def local_pipeline(config: PipelineConfig, components: list[Any], *, beam_args: tuple[str, ...] = ()) -> Pipeline:
    """Components as a pipeline whose artifacts and metadata are in the configuration's home."""
    run_in_this_process()
    nodes = {component.id: component for component in components}
    for gate in ("AnomalyGate", "SpanGate"):
        # A gate has no output to depend on, and TFX refuses a node that is tied to one which is left out.
        if {gate, "Transform"} <= nodes.keys():
            nodes["Transform"].add_upstream_node(nodes[gate])
    return Pipeline(
        pipeline_name=config.name,
        pipeline_root=str(config.home / "artifacts"),
        components=components,
        enable_cache=True,
        metadata_connection_config=sqlite_metadata_connection_config(str(config.home / METADATA)),
        beam_pipeline_args=list(beam_args),
    )


def create_pipeline(
    config: PipelineConfig,
    *,
    span: int = 0,
    until: Stage = Stage.RELEASE,
    beam_args: tuple[str, ...] = (),
) -> Pipeline:
    """The retrieval pipeline of a configuration.

    Args:
      config: the validated configuration.
      span: the span to run for.
      until: the last stage to run.
      beam_args: Beam pipeline options, such as --runner=FlinkRunner, for all components.

    Returns:
      The pipeline, for any TFX runner.
    """
    features = config.feature_spec.model_dump_json()
    show = json.dumps(config.data.items.show)
    prepared = prepare(config, span)
    examples = prepared.example_gen.outputs["examples"]
    trainer = Trainer(
        run_fn="models.trainer.run_fn",
        examples=prepared.negative_sampler.outputs["sampled_examples"],
        transform_graph=prepared.transform.outputs["transform_graph"],
        train_args=TrainArgs(splits=["train"]),
        # The trainer evaluates nothing: held-out interactions are ranked by RetrievalEvaluator. This is how the
        # item catalogue, the other split of its input, reaches run_fn.
        eval_args=EvalArgs(splits=["items"]),
        custom_config={
            "features": features,
            "model": config.model.model_dump_json(),
            "train": config.train.model_dump_json(),
            "negatives": config.negatives.model_dump_json(),
            "checkpoints": str(config.home / "checkpoints"),
            "fingerprint": source_fingerprint("models", "components/trainer"),
        },
        base_model=prepared.latest_blessed_model.outputs["model"] if _is_warm(config, span) else None,
    )
    evaluator = RetrievalEvaluator(
        model=trainer.outputs["model"],
        examples=examples,
        item_counts=prepared.negative_sampler.outputs["item_counts"],
        baseline_model=prepared.latest_blessed_model.outputs["model"],
        config=config.evaluation.model_dump_json(),
        features=features,
        code_fingerprint=source_fingerprint("components/retrieval_evaluator", "components/embedding"),
    )
    indexer = ItemIndexer(
        model=trainer.outputs["model"],
        examples=examples,
        config=config.index.model_dump_json(),
        features=features,
        show=show,
        code_fingerprint=source_fingerprint("components/item_indexer", "components/embedding", "serving"),
    )
    released: dict[str, Any] = {
        "model": trainer.outputs["model"],
        "model_blessing": evaluator.outputs["blessing"],
        "index": indexer.outputs["index"],
        "queries": prepared.example_gen.outputs["queries"],
        "model_name": config.name,
        "features": features,
    }
    validator = ReleaseValidator(
        **released,
        canary_queries=config.gates.canary_queries,
        code_fingerprint=source_fingerprint("components/release_validator", "components/release_pusher", "serving"),
    )
    latest_release = Resolver(
        strategy_class=LatestPushed,
        config={"releases": str(config.releases)},
        release=Channel(type=RetrievalRelease),
    ).with_id("LatestRelease")
    pusher = ReleasePusher(
        **released,
        infra_blessing=validator.outputs["blessing"],
        latest_release=latest_release.outputs["release"],
        releases=str(config.releases),
        code_fingerprint=source_fingerprint("components/release_pusher", "serving"),
    )
    components = [*prepared.components, trainer, indexer, evaluator, validator, latest_release, pusher]
    end = [component.id for component in components].index(until.last_component) + 1
    return local_pipeline(config, components[:end], beam_args=beam_args)
