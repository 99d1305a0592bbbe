"""configs/your_data.yaml: it has every key, and each of them can be used."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from models.config import MODELS, Feature, ModelConfig, TrainConfig
from pipeline.config import PipelineConfig, load_config

CONFIGS = Path("configs")


def test_the_template_explains_every_key() -> None:
    """A key that a model class has and the template does not mention would be one that users can't find."""
    text = (CONFIGS / "your_data.yaml").read_text()

    def keys(model: Any) -> set[str]:
        return set(model.model_fields)

    from components.ingestion import config as ingestion
    from components.item_indexer.config import IndexConfig
    from components.negative_sampler.config import NegativesConfig
    from components.retrieval_evaluator.config import EvaluationConfig, SliceGate, Threshold
    from components.span_gate.config import DistanceGate, GatesConfig, VolumeGate
    from models.config import AlignmentConfig, AlsConfig, MimicConfig, MindConfig, WarmStartConfig
    from pipeline.airflow.config import ScheduleConfig
    from serving.config import ServingConfig, TlsConfig, TowerConfig, VersionPolicy

    models = [PipelineConfig, Feature, ModelConfig, MimicConfig, AlignmentConfig, TrainConfig, NegativesConfig]
    models += [MindConfig, AlsConfig, IndexConfig, EvaluationConfig, Threshold]
    models += [ServingConfig, VersionPolicy, TlsConfig, TowerConfig]
    models += [ingestion.DataConfig, ingestion.InteractionFiles, ingestion.ItemFiles, ingestion.QueryFiles]
    models += [ingestion.SplitByLast, ingestion.SplitByTime, ingestion.SplitBySpan, WarmStartConfig]
    models += [GatesConfig, VolumeGate, DistanceGate, SliceGate, ScheduleConfig]
    missing = {key for model in models for key in keys(model) if key not in text}
    assert missing == set()


_TEMPLATE = (CONFIGS / "your_data.yaml").read_text()
# A commented key with its value, which is one word, a list or a mapping; prose has several words.
_COMMENTED = re.findall(r"^ *# (?:\w+:(?: \[.*\]| \{.*\}| \S+)?|- \{.*\})\n", _TEMPLATE, re.MULTILINE)
_BY_SPAN = (
    ("interactions.csv\n", "interactions-{SPAN}.csv\n"),
    ("  split: {by: last, eval: 1, test: 0, seed: 7}\n", "  split: {by: span, window: 14}\n"),
)
_SCHEDULE = (("# schedule:\n", "schedule:\n"), ("  # start: ", "  start: "))
# What a key takes beside itself.
_TAKES = {
    "volume": _BY_SPAN,
    "drift": _BY_SPAN,
    "skew": _BY_SPAN,
    "warm_start": _BY_SPAN,
    "split: {by: time": ((_BY_SPAN[1][0], ""),),
    "split: {by: span": (_BY_SPAN[0], (_BY_SPAN[1][0], "")),
    "slices": (("  #   - {by: category", "    - {by: category"),),
}


@pytest.mark.parametrize("line", _COMMENTED, ids=str.strip)
def test_each_key_of_the_template_can_be_uncommented_alone(tmp_path: Path, line: str) -> None:
    uncommented = line.replace("# ", "", 1)
    of_schedule = _TEMPLATE.index(line) >= _TEMPLATE.index("# schedule:\n")
    text = _TEMPLATE.replace(line, uncommented, 1)
    for key, edits in (_TAKES | {"": _SCHEDULE if of_schedule else ()}).items():
        for old, new in edits if uncommented.strip().startswith(key) else ():
            text = text.replace(old, new, 1)
    file = tmp_path / "c.yaml"
    file.write_text(text)
    load_config(file)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("name", ["your_data", "movielens", "ta_feng", "amazon_beauty"])
def test_the_kind_is_all_there_is_to_change_for_another_model(tmp_path: Path, name: str, kind: str) -> None:
    text = (CONFIGS / f"{name}.yaml").read_text()
    assert text.count("\n  kind: dat\n") == 1
    file = tmp_path / "c.yaml"
    file.write_text(text.replace("\n  kind: dat\n", f"\n  kind: {kind}\n"))
    assert load_config(file).model.kind == kind


def test_the_commented_keys_were_found() -> None:
    found = {line.strip().removeprefix("# ").partition(":")[0] for line in _COMMENTED}
    assert {"root", "ready", "split", "volume", "mind", "slices", "tower", "schedule", "alert"} <= found
    assert len(_COMMENTED) > 50
