"""The wiring: which node feeds which, and that code and input are part of the cache's key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tfx.dsl.compiler import compiler

from components import fingerprint
from pipeline.config import PipelineConfig, load_config
from pipeline.pipeline import create_pipeline

EDGES = {
    ("AnomalyGate", "Transform"),
    ("CuratedSchema", "InteractionValidator"),
    ("CuratedSchema", "ItemValidator"),
    ("CuratedSchema", "Transform"),
    ("InteractionValidator", "AnomalyGate"),
    ("ItemIndexer", "ReleasePusher"),
    ("ItemValidator", "AnomalyGate"),
    ("LatestBlessedModel", "RetrievalEvaluator"),
    ("NegativeSampler", "RetrievalEvaluator"),
    ("NegativeSampler", "Trainer"),
    ("RetrievalEvaluator", "ReleasePusher"),
    ("RetrievalExampleGen", "ItemIndexer"),
    ("RetrievalExampleGen", "ReleasePusher"),
    ("RetrievalExampleGen", "RetrievalEvaluator"),
    ("RetrievalExampleGen", "StatisticsGen"),
    ("RetrievalExampleGen", "Transform"),
    ("StatisticsGen", "InteractionValidator"),
    ("StatisticsGen", "ItemValidator"),
    ("Trainer", "ItemIndexer"),
    ("Trainer", "ReleasePusher"),
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


def test_changed_model_code_changes_what_depends_on_it(config: PipelineConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _parameters(config)
    real = fingerprint.source_fingerprint
    monkeypatch.setattr("pipeline.pipeline.source_fingerprint", lambda *p: "changed" if p == ("models",) else real(*p))
    after = _parameters(config)
    changed = {node for node in before if node != "ReleasePusher" and before[node] != after[node]}
    assert changed == {"Transform", "Trainer"}


def test_span_and_beam_arguments_reach_the_pipeline(config: PipelineConfig) -> None:
    pipeline = create_pipeline(config, span=3, beam_args=("--runner=FlinkRunner",))
    assert pipeline.beam_pipeline_args == ["--runner=FlinkRunner"]
    (example_gen,) = (c for c in pipeline.components if c.id == "RetrievalExampleGen")
    assert json.loads(example_gen.exec_properties["config"])["span"] == 3
