"""History and lineage out of a real ML Metadata store, filled by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ml_metadata import MetadataStore

from benchmarks.retraining.report import pairs
from pipeline.lineage import print_history, print_lineage
from pipeline.metadata import Metadata, MetadataError, ancestry, pb

COLD = "features changed since the earlier model: features"


class Store:
    """Runs of the pipeline as TFX records them."""

    def __init__(self, home: Path) -> None:
        config = pb.ConnectionConfig()
        config.sqlite.filename_uri = str(home / "metadata.sqlite")
        config.sqlite.connection_mode = pb.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
        self.store = MetadataStore(config)
        self.artifact_type = self.store.put_artifact_type(pb.ArtifactType(name="Artifact"))
        self.run_type = self.store.put_context_type(pb.ContextType(name="pipeline_run"))
        self.runs = 0

    def artifact(self, name: str, **properties: str | int) -> int:
        artifact = pb.Artifact(type_id=self.artifact_type, uri=f"artifacts/{name}")
        for key, value in properties.items():
            kind = "string_value" if isinstance(value, str) else "int_value"
            setattr(artifact.custom_properties[key], kind, value)
        (number,) = self.store.put_artifacts([artifact])
        return number

    def run(self, span: int, *steps: tuple[str, dict[str, int], dict[str, int]] | str) -> None:
        """Steps of (component, inputs, outputs), or the component that failed."""
        self.runs += 1
        (context,) = self.store.put_contexts([pb.Context(type_id=self.run_type, name=f"run {self.runs}")])
        for step in steps:
            component, inputs, outputs = (step, {}, {}) if isinstance(step, str) else step
            kind = self.store.put_execution_type(pb.ExecutionType(name=f"components.{component}"))
            state = pb.Execution.FAILED if isinstance(step, str) else pb.Execution.COMPLETE
            execution = pb.Execution(type_id=kind, last_known_state=state)
            if component == "RetrievalExampleGen":
                execution.custom_properties["config"].string_value = json.dumps({"span": span})
            (number,) = self.store.put_executions([execution])
            self.store.put_attributions_and_associations([], [pb.Association(execution_id=number, context_id=context)])
            for side, artifacts in ((pb.Event.INPUT, inputs), (pb.Event.OUTPUT, outputs)):
                for key, artifact in artifacts.items():
                    event = pb.Event(artifact_id=artifact, execution_id=number, type=side)
                    event.path.steps.add().key = key
                    self.store.put_events([event])

    def trained(self, span: int, cold: str | None, base: int | None, **metrics: float) -> tuple[int, int, list[Any]]:
        """A run up to the release; returns its examples, its model and the steps."""
        files = [
            {"kind": "interactions", "span": read, "path": f"{read}/part.csv", "sha256": "ab" * 32}
            for read in (span - 5, span - 4, span - 2, span)
        ]
        left_out = json.dumps({span - 3: "no row"})
        examples = self.artifact(f"examples/{span}", inputs=json.dumps(files), left_out=left_out)
        model = self.artifact(f"model/{span}", **({} if cold is None else {"cold_start": cold}))
        evaluation = self.artifact("evaluation", overall=json.dumps({**metrics, "rows": 9}))
        blessing = self.artifact("blessing", blessed=1, refused="")
        index, release = self.artifact("index"), self.artifact("release", pushed=1, version=70 + span)
        offered = {} if base is None else {"base_model": base}
        steps = [
            ("RetrievalExampleGen", {}, {"examples": examples}),
            ("Trainer", {"examples": examples, **offered}, {"model": model}),
            ("RetrievalEvaluator", {"model": model}, {"evaluation": evaluation, "blessing": blessing}),
            ("ReleasePusher", {"model": model, "index": index}, {"release": release}),
        ]
        self.run(span, *steps)
        return examples, model, steps


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_a_model_that_was_only_offered_is_not_what_a_run_went_on_from(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, first, _ = store.trained(1, "there is no earlier model", None, MRR=0.1)
    _, second, _ = store.trained(2, "", first, MRR=0.2)
    _, third, _ = store.trained(3, COLD, second, MRR=0.3)
    _, before, _ = store.trained(4, None, third, MRR=0.4)
    metadata = Metadata(tmp_path)
    chains = [[m.id for m in ancestry(metadata, metadata.artifacts[n])] for n in (first, second, third, before)]
    assert chains == [[first], [second, first], [third], [before]]

    print_history(metadata, tmp_path, [])
    told = capsys.readouterr().out
    columns = [[cell.strip() for cell in line.split("│")[2:5]] for line in told.splitlines() if line.startswith("│")]
    assert columns == [
        ["1", str(first), "cold"],
        ["2", str(second), f"model {first}"],
        ["3", str(third), "cold"],
        ["4", str(before), "not recorded"],
    ]
    assert told.endswith(f"Span 3, model {third} did not go on from model {second}: {COLD}\n")

    print_lineage(metadata, 73, tmp_path)
    told = capsys.readouterr().out
    assert f"cold start: {COLD}" in told
    assert "went on from" not in told
    print_lineage(metadata, 72, tmp_path)
    told = capsys.readouterr().out
    assert f"went on from model {first}: artifacts/model/1" in told
    assert "trained on spans -3 to -2, 0, evaluated on 2" in told
    assert "span -1 left out: no row" in told


@pytest.mark.parametrize("read", ["get_executions", "get_events_by_execution_ids", "get_artifacts"])
def test_a_run_may_write_while_the_history_is_read(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], read: str
) -> None:
    store.trained(1, "first", None, MRR=0.1)
    real = getattr(MetadataStore, read)

    def after_a_run(*arguments: Any) -> Any:
        monkeypatch.setattr(MetadataStore, read, real)
        store.trained(2, "first", None, MRR=0.2)
        return real(*arguments)

    monkeypatch.setattr(MetadataStore, read, after_a_run)
    print_history(Metadata(tmp_path), tmp_path, [])
    assert "release 71, removed" in capsys.readouterr().out


def test_a_release_is_told_though_a_later_run_was_stopped(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    *_, steps = store.trained(1, "first", None, MRR=0.1)
    store.run(1, steps[0], "SpanGate")
    print_history(Metadata(tmp_path), tmp_path, [])
    assert "release 71, removed; last run: SpanGate failed or refused" in capsys.readouterr().out


def test_a_release_of_the_same_model_with_another_index_has_a_lineage(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, model, steps = store.trained(1, "first", None, MRR=0.1)
    index, release = store.artifact("other_index"), store.artifact("release", pushed=1, version=99)
    store.run(1, *steps[:-1], ("ReleasePusher", {"model": model, "index": index}, {"release": release}))
    metadata = Metadata(tmp_path)
    for version, folder in ((71, "artifacts/index"), (99, "artifacts/other_index")):
        print_lineage(metadata, version, tmp_path)
        told = capsys.readouterr().out
        assert f"index: {folder}\n" in told
        assert f"model {model}: artifacts/model/1" in told
    with pytest.raises(MetadataError, match=r"no run has published release 98; there is: 71, 99$"):
        print_lineage(metadata, 98, tmp_path)


@pytest.mark.parametrize(
    ("thresholds", "shown"),
    [
        (["HR@10", "HR@50", "HR@10"], ["HR@10"]),
        (["HR@50"], ["HR@10", "NDCG@10", "MRR"]),
        ([], ["HR@10", "NDCG@10", "MRR"]),
    ],
)
def test_the_metrics_of_the_thresholds_are_shown_or_else_all(
    thresholds: list[str], shown: list[str], store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.trained(1, "first", None, **{"HR@10": 0.5, "NDCG@10": 0.25, "MRR": 0.125})
    print_history(Metadata(tmp_path), tmp_path, thresholds)
    header = next(line for line in capsys.readouterr().out.splitlines() if "outcome" in line)
    assert [cell.strip() for cell in header.split("┃")[5:-3]] == shown


def test_the_benchmark_pairs_what_was_really_cold_and_warm(store: Store, tmp_path: Path) -> None:
    _, base, _ = store.trained(1, "first", None, MRR=0.1)
    store.trained(2, COLD, base, MRR=0.2)
    assert pairs(Metadata(tmp_path)) == []
    store.trained(2, "", base, MRR=0.3)
    (pair,) = pairs(Metadata(tmp_path))
    assert (pair.span, pair.cold.metrics["MRR"], pair.warm.metrics["MRR"]) == (2, 0.2, 0.3)
