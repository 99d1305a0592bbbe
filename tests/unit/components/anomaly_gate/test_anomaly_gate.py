"""The gate after ExampleValidator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx import types
from tfx import v1 as tfx
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, channel_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from components.anomaly_gate.component import AnomalyGate
from components.anomaly_gate.executor import AnomaliesFoundError, Executor

BAD_AGE = """anomaly_info {
  key: "age"
  value {short_description: "Out-of-range values" description: "Unexpectedly low values: -3 < 0."}
}"""
NO_ROWS = """dataset_anomaly_info {
  short_description: "Low num examples in dataset." description: "The dataset has 0 examples."
}"""


def write_anomalies(artifact: types.Artifact, **splits: str) -> types.Artifact:
    artifact.split_names = artifact_utils.encode_split_names(list(splits))
    for split, text in splits.items():
        folder = Path(artifact.uri, f"Split-{split}")
        folder.mkdir(parents=True)
        anomalies = text_format.Parse(text, anomalies_pb2.Anomalies())
        (folder / "SchemaDiff.pb").write_bytes(anomalies.SerializeToString())
    return artifact


def make_inputs(folder: Path, interactions: dict[str, str], items: dict[str, str]) -> dict[str, list[types.Artifact]]:
    inputs = {}
    for key, splits in (("interactions", interactions), ("items", items)):
        artifact = standard_artifacts.ExampleAnomalies()
        artifact.uri = str(folder / key)
        inputs[key] = [write_anomalies(artifact, **splits)]
    return inputs


def test_good_data_passes(tmp_path: Path) -> None:
    Executor().Do(make_inputs(tmp_path, {"train": "", "eval": ""}, {"items": ""}), {}, {"code_fingerprint": ""})


def test_every_anomaly_is_told(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path, {"train": "", "eval": BAD_AGE}, {"items": NO_ROWS})
    with pytest.raises(AnomaliesFoundError) as error:
        Executor().Do(inputs, {}, {"code_fingerprint": ""})
    *told, remedy = str(error.value).splitlines()
    assert told == [
        "the data does not fit its schema (2 anomalies):",
        "eval: age: Out-of-range values: Unexpectedly low values: -3 < 0.",
        "items: whole split: Low num examples in dataset.: The dataset has 0 examples.",
    ]
    assert remedy.startswith("Mend the data (a span: deliver it again, or name it in data.split.skip")


def test_the_node_has_no_output() -> None:
    channel = channel_utils.as_channel([standard_artifacts.ExampleAnomalies()])
    node = AnomalyGate(interactions=channel, items=channel, code_fingerprint="c")
    assert node.outputs == {}
    assert node.exec_properties == {"code_fingerprint": "c"}


class AnomaliesExecutor(base_executor.BaseExecutor):
    """Stands for the two ExampleValidators."""

    def Do(self, input_dict: dict, output_dict: dict, exec_properties: dict[str, Any]) -> None:
        for key in ("interactions", "items"):
            write_anomalies(output_dict[key][0], train=exec_properties["anomalies"])


class AnomaliesSpec(types.ComponentSpec):
    PARAMETERS = {"anomalies": ExecutionParameter(type=str)}
    INPUTS = {}
    OUTPUTS = {
        "interactions": ChannelParameter(type=standard_artifacts.ExampleAnomalies),
        "items": ChannelParameter(type=standard_artifacts.ExampleAnomalies),
    }


class Anomalies(base_component.BaseComponent):
    SPEC_CLASS = AnomaliesSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(AnomaliesExecutor)

    def __init__(self, anomalies: str) -> None:
        channel = types.Channel(type=standard_artifacts.ExampleAnomalies)
        other = types.Channel(type=standard_artifacts.ExampleAnomalies)
        super().__init__(AnomaliesSpec(anomalies=anomalies, interactions=channel, items=other))


class AfterExecutor(base_executor.BaseExecutor):
    """Leaves a trace of each run."""

    def Do(self, input_dict: dict, output_dict: dict, exec_properties: dict[str, Any]) -> None:
        with Path(exec_properties["trace"]).open("a") as file:
            file.write("ran\n")


class AfterSpec(types.ComponentSpec):
    PARAMETERS = {"trace": ExecutionParameter(type=str)}
    INPUTS = {}
    OUTPUTS = {}


class After(base_component.BaseComponent):
    SPEC_CLASS = AfterSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(AfterExecutor)

    def __init__(self, trace: str) -> None:
        super().__init__(AfterSpec(trace=trace))


def run_pipeline(root: Path, anomalies: str) -> list[str]:
    """Runs anomalies -> gate -> after, cached; returns the states of the gate's executions so far."""
    source = Anomalies(anomalies)
    gate = AnomalyGate(interactions=source.outputs["interactions"], items=source.outputs["items"], code_fingerprint="")
    after = After(str(root / "trace"))
    after.add_upstream_node(gate)
    metadata = tfx.orchestration.metadata.sqlite_metadata_connection_config(str(root / "metadata.sqlite"))
    tfx.orchestration.LocalDagRunner().run(
        tfx.dsl.Pipeline(
            pipeline_name="gate",
            pipeline_root=str(root / "pipeline"),
            components=[source, gate, after],
            enable_cache=True,
            metadata_connection_config=metadata,
        )
    )
    return gate_states(root)


def gate_states(root: Path) -> list[str]:
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(root / "metadata.sqlite")
    store = metadata_store.MetadataStore(config)
    (gate_type,) = [t.name for t in store.get_execution_types() if t.name.endswith("AnomalyGate")]
    executions = sorted(store.get_executions_by_type(gate_type), key=lambda execution: execution.id)
    return [metadata_store_pb2.Execution.State.Name(e.last_known_state) for e in executions]


def test_a_gate_that_failed_fails_again_though_the_cache_is_on(tmp_path: Path) -> None:
    for run in (1, 2):
        with pytest.raises(AnomaliesFoundError, match="train: age: Out-of-range values"):
            run_pipeline(tmp_path, BAD_AGE)
        assert gate_states(tmp_path) == ["FAILED"] * run
    assert not (tmp_path / "trace").exists()


def test_a_gate_that_passed_is_reused_and_what_follows_runs(tmp_path: Path) -> None:
    assert run_pipeline(tmp_path, "") == ["COMPLETE"]
    assert (tmp_path / "trace").read_text() == "ran\n"
    assert run_pipeline(tmp_path, "") == ["COMPLETE", "CACHED"]
