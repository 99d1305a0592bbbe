"""The node as TFX sees it."""

from __future__ import annotations

from pathlib import Path

from tfx.types import standard_artifacts

from components.artifacts import Quarantine
from components.ingestion.component import RetrievalExampleGen
from tests.unit.components.ingestion.helpers import make_config


def test_the_node_has_its_outputs_and_parameters(tmp_path: Path) -> None:
    config = make_config(tmp_path).model_dump_json()
    node = RetrievalExampleGen(config=config, code_fingerprint="c", input_fingerprint="f")
    assert {key: channel.type for key, channel in node.outputs.items()} == {
        "examples": standard_artifacts.Examples,
        "queries": standard_artifacts.Examples,
        "quarantine": Quarantine,
    }
    assert node.exec_properties == {"config": config, "code_fingerprint": "c", "input_fingerprint": "f"}
