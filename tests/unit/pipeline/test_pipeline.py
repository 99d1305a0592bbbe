"""The wiring: which node feeds which, and that code and input are part of the cache's key."""

from __future__ import annotations

import json
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import StandardOptions
from apache_beam.runners.portability.flink_runner import FlinkRunner
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from google.protobuf import json_format
from tfx.dsl.compiler import compiler
from tfx.dsl.components.common.resolver import RESOLVER_CONFIG, RESOLVER_STRATEGY_CLASS
from tfx.proto.transform_pb2 import SplitsConfig

from components import fingerprint
from components.fingerprint import TRANSFORM_CODE
from components.resolvers import LatestBlessed, LatestBlessedBefore, LatestPassedBefore
from pipeline.config import PipelineConfig, load_config
from pipeline.pipeline import create_pipeline
from pipeline.stages import Stage

EDGES = {
    ("AnomalyGate", "Transform"),
    ("CuratedSchema", "InteractionValidator"),
    ("CuratedSchema", "ItemValidator"),
    ("CuratedSchema", "Transform"),
    ("InteractionValidator", "AnomalyGate"),
    ("ItemIndexer", "ReleasePusher"),
    ("ItemIndexer", "ReleaseValidator"),
    ("ItemValidator", "AnomalyGate"),
    ("LatestBlessedModel", "RetrievalEvaluator"),
    ("LatestRelease", "ReleasePusher"),
    ("NegativeSampler", "RetrievalEvaluator"),
    ("NegativeSampler", "Trainer"),
    ("ReleaseValidator", "ReleasePusher"),
    ("RetrievalEvaluator", "ReleasePusher"),
    ("RetrievalEvaluator", "ReleaseValidator"),
    ("RetrievalExampleGen", "ItemIndexer"),
    ("RetrievalExampleGen", "ReleasePusher"),
    ("RetrievalExampleGen", "ReleaseValidator"),
    ("RetrievalExampleGen", "RetrievalEvaluator"),
    ("RetrievalExampleGen", "StatisticsGen"),
    ("RetrievalExampleGen", "Transform"),
    ("StatisticsGen", "InteractionValidator"),
    ("StatisticsGen", "ItemValidator"),
    ("Trainer", "ItemIndexer"),
    ("Trainer", "ReleasePusher"),
    ("Trainer", "ReleaseValidator"),
    ("Trainer", "RetrievalEvaluator"),
    ("Transform", "NegativeSampler"),
    ("Transform", "Trainer"),
}


@pytest.fixture
def config(tmp_path: Path) -> PipelineConfig:
    tree = json.loads(load_config("configs/movielens.yaml").model_dump_json())
    for part in ("interactions", "items", "queries"):
        file = tmp_path / f"{part}.csv"
        file.write_text("x\n")
        tree["data"][part]["files"] = str(file)
    return PipelineConfig.model_validate_json(json.dumps({**tree, "root": str(tmp_path / "runs")}))


def _parameters(config: PipelineConfig, **options: object) -> dict[str, dict[str, object]]:
    pipeline = create_pipeline(config, **options)  # type: ignore[arg-type]
    return {c.id: dict(c.exec_properties) for c in pipeline.components}


def test_edges_and_cache(config: PipelineConfig) -> None:
    compiled = compiler.Compiler().compile(create_pipeline(config))
    nodes = [n.pipeline_node for n in compiled.nodes]
    edges = {(upstream, n.node_info.id) for n in nodes for upstream in n.upstream_nodes}
    assert edges == EDGES
    assert all(n.execution_options.caching_options.enable_cache for n in nodes)


def test_hard_negatives_need_the_last_blessed_model(config: PipelineConfig) -> None:
    tree = json.loads(config.model_dump_json())
    tree["negatives"]["hard_per_positive"] = 2
    compiled = compiler.Compiler().compile(create_pipeline(PipelineConfig.model_validate_json(json.dumps(tree))))
    edges = {
        (upstream, n.pipeline_node.node_info.id) for n in compiled.nodes for upstream in n.pipeline_node.upstream_nodes
    }
    assert edges == EDGES | {("LatestBlessedModel", "NegativeSampler"), ("RetrievalExampleGen", "NegativeSampler")}


def test_changed_input_changes_only_the_ingestions_parameters(config: PipelineConfig) -> None:
    before = _parameters(config)
    Path(config.data.items.files).write_text("x\ny\n")
    after = _parameters(config)
    changed = {node for node in before if node != "ReleasePusher" and before[node] != after[node]}
    assert changed == {"RetrievalExampleGen"}


@pytest.mark.parametrize(
    ("code", "node"), [(("models", "components/trainer"), "Trainer"), (TRANSFORM_CODE, "Transform")]
)
def test_changed_model_code_changes_what_depends_on_it(
    config: PipelineConfig, monkeypatch: pytest.MonkeyPatch, code: tuple[str, ...], node: str
) -> None:
    before = _parameters(config)
    real = fingerprint.source_fingerprint
    monkeypatch.setattr("pipeline.pipeline.source_fingerprint", lambda *p: "changed" if p == code else real(*p))
    after = _parameters(config)
    assert {name for name in before if name != "ReleasePusher" and before[name] != after[name]} == {node}


def test_span_and_beam_arguments_reach_the_pipeline(config: PipelineConfig) -> None:
    pipeline = create_pipeline(config, span=3, beam_args=("--runner=FlinkRunner",))
    assert pipeline.beam_pipeline_args == ["--runner=FlinkRunner"]
    (example_gen,) = (c for c in pipeline.components if c.id == "RetrievalExampleGen")
    assert json.loads(example_gen.exec_properties["config"])["span"] == 3


def test_beam_runs_in_this_process_unless_told_otherwise(
    config: PipelineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StandardOptions, "DEFAULT_RUNNER", "DirectRunner")  # Beam's own, which would try Prism first
    create_pipeline(config)
    assert type(beam.Pipeline(argv=[]).runner) is FnApiRunner
    assert type(beam.Pipeline(argv=["--runner=FlinkRunner"]).runner) is FlinkRunner


SPAN_EDGES = {
    ("CuratedSchema", "SpanGate"),
    ("PreviousStatistics", "SpanGate"),
    ("RetrievalExampleGen", "SpanGate"),
    ("SpanGate", "Transform"),
    ("StatisticsGen", "SpanGate"),
}


def _by_span(config: PipelineConfig, **train: object) -> PipelineConfig:
    folder = Path(config.data.items.files).parent
    tree = json.loads(config.model_dump_json())
    for span in range(9):
        (folder / f"{span}.csv").write_text(f"{span}\n")
    tree["data"]["interactions"]["files"] = str(folder / "{SPAN}.csv")
    tree["data"]["split"] = {"by": "span", "window": 3}
    tree["train"] |= train
    return PipelineConfig.model_validate_json(json.dumps(tree))


def _edges(config: PipelineConfig, **options: object) -> set[tuple[str, str]]:
    compiled = compiler.Compiler().compile(create_pipeline(config, **options))  # type: ignore[arg-type]
    return {(up, n.pipeline_node.node_info.id) for n in compiled.nodes for up in n.pipeline_node.upstream_nodes}


def test_a_split_by_span_has_a_gate_of_its_own(config: PipelineConfig) -> None:
    assert _edges(_by_span(config), span=4) == EDGES | SPAN_EDGES


def test_a_run_for_a_span_looks_back_from_that_span(config: PipelineConfig) -> None:
    resolvers = {
        node: (parameters[RESOLVER_STRATEGY_CLASS], parameters[RESOLVER_CONFIG])
        for node, parameters in _parameters(_by_span(config), span=3).items()
        if RESOLVER_STRATEGY_CLASS in parameters
    }
    assert resolvers["LatestBlessedModel"] == (LatestBlessedBefore, {"span": 3})
    assert resolvers["PreviousStatistics"] == (LatestPassedBefore, {"span": 3})
    # Without spans the newest blessed model is the one to compare with.
    assert _parameters(config)["LatestBlessedModel"][RESOLVER_STRATEGY_CLASS] is LatestBlessed


@pytest.mark.parametrize("by_span", [False, True])
def test_what_is_held_out_is_neither_analysed_nor_transformed(config: PipelineConfig, by_span: bool) -> None:
    parameters = _parameters(_by_span(config), span=3) if by_span else _parameters(config)
    splits = SplitsConfig()
    json_format.Parse(str(parameters["Transform"]["splits_config"]), splits)
    assert (list(splits.analyze), list(splits.transform)) == (["train", "items"], ["train", "items"])


def test_a_warm_run_has_the_blessed_model_and_a_cold_one_has_not(config: PipelineConfig) -> None:
    warm = _by_span(config, warm_start={"cold_every": 4})
    base = {("LatestBlessedModel", "Trainer")}
    assert _edges(warm, span=5) == EDGES | SPAN_EDGES | base
    assert _edges(warm, span=4) == EDGES | SPAN_EDGES


def test_a_stage_is_a_beginning_of_the_pipeline(config: PipelineConfig) -> None:
    by_span, last = _by_span(config), []
    whole = [c.id for c in create_pipeline(by_span, span=4).components]
    for stage in Stage:
        stages = create_pipeline(by_span, span=4, until=stage).components
        assert {c.id for c in stages} <= {*whole}
        last.append((stage.value, len(stages), stage.last_component in {c.id for c in stages}))
    assert last == [
        ("ingest", 1, True),
        ("validate", 8, True),
        ("train", 12, True),
        ("evaluate", 14, True),
        ("release", 17, True),
    ]
    assert _edges(by_span, span=4, until=Stage.VALIDATE) < EDGES | SPAN_EDGES


def test_a_span_that_is_delivered_again_changes_no_parameter(config: PipelineConfig) -> None:
    by_span = _by_span(config)
    before = _parameters(by_span, span=4)
    folder = Path(by_span.data.items.files).parent
    (folder / "3.csv").unlink()
    (folder / "3.csv").write_text("3\n")
    assert _parameters(by_span, span=4) == before
