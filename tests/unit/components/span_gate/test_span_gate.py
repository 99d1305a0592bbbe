from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx import types
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import io_utils

from components.schema.schemas import interaction_schema
from components.span_gate.checks import distance_problems, volume_problems
from components.span_gate.config import DistanceGate, GatesConfig, VolumeGate, distances
from components.span_gate.executor import Executor, SpanRefusedError
from models.config import FeatureSpec

SPEC = FeatureSpec(
    query_id="user",
    item_id="item",
    timestamp="time",
    category="kind",
    features=[
        {"name": "user", "kind": "id", "side": "query"},
        {"name": "history", "kind": "history", "side": "query"},
        {"name": "age", "kind": "number", "side": "query"},
        {"name": "device", "kind": "categorical", "side": "interaction"},
        {"name": "kind", "kind": "categorical", "side": "item"},
    ],
)
VOLUME = VolumeGate(min_ratio=0.5, max_ratio=2.0)


def volume(rows: dict[int, int]) -> list[str]:
    """The lines, up to the median; the run's span is the last."""
    return [line.partition(")")[0].removeprefix("volume: ") for line in volume_problems(rows, max(rows), VOLUME)]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (50, []),
        (49, ["span 4 has 49 rows, 0.49 times the median of the 3 other spans (100"]),
        (200, []),
        (201, ["span 4 has 201 rows, 2.01 times the median of the 3 other spans (100"]),
        (0, ["span 4 has 0 rows, 0.00 times the median of the 3 other spans (100"]),
    ],
)
def test_a_span_is_held_against_the_median_of_the_others(rows: int, told: list[str]) -> None:
    # 1: against 80, 100 and rows; 2: 80, 100 and rows; 3: 100, 100 and rows. Always 80 or 100 in the middle.
    assert volume({1: 100, 2: 100, 3: 80, 4: rows}) == told


def test_a_refused_span_is_refused_in_later_windows_too() -> None:
    told = "span 4 has 1,000 rows, 10.00 times the median of the 3 other spans (100"
    assert volume({2: 100, 3: 100, 4: 1000}) == [told.replace("3 other", "2 other")]
    assert volume({2: 100, 3: 100, 4: 1000, 5: 100}) == [told]
    (line,) = volume_problems({2: 100, 3: 100, 4: 1000, 5: 100}, 5, VOLUME)
    assert line.endswith(
        "gates.volume.max_ratio is 2. Deliver span 4 again, or name it in data.split.skip; if the change is real, set "
        "gates.volume.max_ratio beyond it"
    )
    assert volume({2: 100, 3: 100, 5: 100}) == []  # named in data.split.skip
    # A span whose rows all came before has none of its own.
    assert volume({2: 100, 3: 0, 4: 100}) == ["span 3 has 0 rows, 0.00 times the median of the 2 other spans (100"]


def test_the_first_spans_have_few_others() -> None:
    # Of two spans the run's is judged.
    assert volume({1: 100, 2: 1000}) == ["span 2 has 1,000 rows, 10.00 times the median of the 1 other spans (100"]
    assert volume({1: 1000, 2: 100}) == ["span 2 has 100 rows, 0.10 times the median of the 1 other spans (1,000"]
    # Of three the odd one: 100 is like 100, 1000 like neither.
    assert volume({1: 100, 2: 1000, 3: 100}) == [
        "span 2 has 1,000 rows, 10.00 times the median of the 2 other spans (100"
    ]
    assert volume({1: 100, 2: 1000, 3: 1000}) == [
        "span 1 has 100 rows, 0.10 times the median of the 2 other spans (1,000"
    ]
    # None is like the others, but none is beyond both.
    assert volume({1: 80, 2: 150, 3: 250}) == []
    # 0, 10 and 10 have 10 in the middle, 0, 0 and 10 have 0.
    assert volume({1: 0, 2: 0, 3: 10, 4: 10}) == [
        "span 1 has 0 rows, 0.00 times the median of the 3 other spans (10",
        "span 2 has 0 rows, 0.00 times the median of the 3 other spans (10",
        "span 3 has 10 rows, inf times the median of the 3 other spans (0",
        "span 4 has 10 rows, inf times the median of the 3 other spans (0",
    ]


def test_a_gate_looks_at_categoricals_and_numbers_of_the_interactions_and_at_what_it_names() -> None:
    gate = DistanceGate(max=0.1, features={"device": 0.3, "item": 0.2})
    assert distances(gate, SPEC) == {"age": 0.1, "device": 0.3, "item": 0.2}
    assert distances(None, SPEC) == {}
    with pytest.raises(ValueError, match="no feature 'kind' among those of the interactions"):
        distances(DistanceGate(max=0.1, features={"kind": 0.3}), SPEC)


def test_the_schema_holds_the_limits() -> None:
    schema = interaction_schema(SPEC, drift={"age": 0.1, "device": 0.3}, skew={"item": 0.2})
    features = {feature.name: feature for feature in schema.feature}
    assert features["age"].drift_comparator.jensen_shannon_divergence.threshold == 0.1
    assert features["device"].drift_comparator.infinity_norm.threshold == 0.3
    assert features["item"].skew_comparator.infinity_norm.threshold == 0.2
    assert not features["device"].HasField("skew_comparator")


def statistics(folder: Path, span: int, **splits: dict[str, int]) -> types.Artifact:
    """Statistics of splits in which `device` has these values so many times."""
    artifact = standard_artifacts.ExampleStatistics()
    artifact.uri, artifact.span = str(folder), span
    artifact.split_names = artifact_utils.encode_split_names(list(splits))
    for split, counts in splits.items():
        rows = sum(counts.values())
        listed = statistics_pb2.DatasetFeatureStatisticsList()
        dataset = listed.datasets.add(num_examples=rows)
        feature = dataset.features.add(type=statistics_pb2.FeatureNameStatistics.STRING)
        feature.path.step.append("device")
        feature.string_stats.common_stats.num_non_missing = rows
        for value, count in counts.items():
            feature.string_stats.rank_histogram.buckets.add(label=value, sample_count=count)
        target = folder / f"Split-{split}"
        target.mkdir(parents=True)
        (target / "FeatureStats.pb").write_bytes(listed.SerializeToString())
    return artifact


def check(folder: Path, config: GatesConfig, previous: dict[str, int] | None = None, rows: int = 100) -> None:
    """Span 5: the window's devices are half phones, the span's 7 in 10."""
    examples = standard_artifacts.Examples()
    examples.span = 5
    examples.set_string_custom_property("span_rows", json.dumps({"3": 100, "4": 100, "5": rows}))
    schema = standard_artifacts.Schema()
    schema.uri = str(folder / "schema")
    limits = {key: distances(getattr(config, key), SPEC) for key in ("drift", "skew")}
    io_utils.write_pbtxt_file(f"{schema.uri}/schema.pbtxt", interaction_schema(SPEC, **limits))
    now = statistics(folder / "now", 5, train={"phone": 50, "tv": 50}, eval={"phone": 70, "tv": 30})
    inputs = {"examples": [examples], "statistics": [now], "schema": [schema], "previous_statistics": []}
    if previous is not None:
        inputs["previous_statistics"] = [statistics(folder / "before", 4, eval=previous)]
    Executor().Do(inputs, {}, {"config": config.model_dump_json(), "code_fingerprint": ""})


def test_nothing_is_checked_that_is_not_asked_for(tmp_path: Path) -> None:
    check(tmp_path, GatesConfig(), previous={"tv": 9}, rows=1)


def test_skew_is_the_span_against_its_window(tmp_path: Path) -> None:
    check(tmp_path / "a", GatesConfig(skew=DistanceGate(max=0.21)))
    with pytest.raises(SpanRefusedError) as error:
        check(tmp_path / "b", GatesConfig(skew=DistanceGate(max=0.19)))
    assert str(error.value) == (
        "skew: feature 'device', span 5 against the window before it: one value's share moved by 0.200, gates.skew "
        "allows 0.19. Look at what changed in its source; if the change is real, set gates.skew.features.device "
        "beyond it"
    )


def test_drift_is_the_span_against_the_one_before(tmp_path: Path) -> None:
    drift = GatesConfig(drift=DistanceGate(max=0.5, features={"device": 0.25}))
    check(tmp_path / "a", drift, previous={"phone": 50, "tv": 50})
    check(tmp_path / "b", drift)  # the first span has nothing before it
    with pytest.raises(SpanRefusedError, match=r"against span 4: one value's share moved by 0\.300"):
        check(tmp_path / "c", drift, previous={"phone": 40, "tv": 60})


def test_numbers_are_compared_by_their_distribution() -> None:
    # Disjoint values: the Jensen-Shannon divergence, in bits, is 1.
    young, old = (
        tfdv.generate_statistics_from_dataframe(pd.DataFrame({"age": np.full(100, age, np.float32)}))
        for age in (20, 70)
    )
    for limit, lines in ((0.9, 1), (1.1, 0)):
        schema = interaction_schema(SPEC, drift={"age": limit})
        found = list(distance_problems(tfdv.validate_statistics(old, schema, previous_statistics=young), "drift", "x"))
        assert len(found) == lines
        assert all(
            "feature 'age', x: the Jensen-Shannon divergence is 1.000, gates.drift allows 0.9" in f for f in found
        )


def test_every_gate_that_refuses_is_told(tmp_path: Path) -> None:
    config = GatesConfig(volume=VOLUME, skew=DistanceGate(max=0.1), drift=DistanceGate(max=0.1))
    with pytest.raises(SpanRefusedError) as error:
        check(tmp_path, config, previous={"phone": 40, "tv": 60}, rows=10)
    assert [line.split(":")[0] for line in str(error.value).splitlines()] == ["volume", "skew", "drift"]
