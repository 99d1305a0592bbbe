"""Sixty queries and twelve items in two groups; who is of one group chooses items of that group."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import tensorflow_transform as tft

from models.config import FeatureSpec, ModelConfig, TrainConfig
from tests.unit.models import helpers

SPEC = FeatureSpec(
    query_id="user",
    item_id="item",
    timestamp="time",
    category="group",
    features=[
        {"name": "user", "kind": "id", "side": "query"},
        {"name": "history", "kind": "history", "side": "query", "max_values": 3},
        {"name": "age", "kind": "number", "side": "query"},
        {"name": "about", "kind": "text", "side": "query"},
        {"name": "time", "kind": "timestamp", "side": "interaction"},
        {"name": "item", "kind": "id", "side": "item"},
        {"name": "tags", "kind": "multi_categorical", "side": "item"},
        {"name": "price", "kind": "number", "side": "item", "buckets": 3},
    ],
)
ITEMS = [f"i{i}" for i in range(12)]
PER_POSITIVE = 3


def raw_items() -> list[helpers.Row]:
    rows: list[helpers.Row] = [
        {"item": [item], "group": ["even" if i % 2 == 0 else "odd"], "tags": ["x", f"t{i % 3}"], "price": [float(i)]}
        for i, item in enumerate(ITEMS)
    ]
    rows[3] |= {"group": [], "tags": [], "price": []}
    return rows


def raw_interactions() -> tuple[list[helpers.Row], list[helpers.Row]]:
    """Train rows, and one held-out row of each query: each chose five of its group's six items."""
    train: list[helpers.Row] = []
    held_out: list[helpers.Row] = []
    random = np.random.default_rng(1)
    for u in range(60):
        chosen = [ITEMS[i] for i in random.permutation(range(u % 2, 12, 2))]
        for k, item in enumerate(chosen):
            row: helpers.Row = {"user": [f"u{u}"], "item": [item], "time": [3600 * k], "history": chosen[:k][-3:]}
            if u % 3:
                row |= {"age": [20.0 + u], "about": ["Über uns"]}
            (train if k < 5 else held_out).append(row)
    return train, held_out


@dataclass(frozen=True)
class Toy:
    train: Path
    items: Path
    graph: str
    raw_train: list[helpers.Row]
    raw_held_out: list[helpers.Row]
    raw_items: list[helpers.Row]

    @property
    def transform_output(self) -> tft.TFTransformOutput:
        return tft.TFTransformOutput(self.graph)

    def fn_args(self, folder: Path, model: ModelConfig, train: TrainConfig, **further: Any) -> SimpleNamespace:
        """What TFX hands to run_fn; the run's own files go to `folder`."""
        negatives = {"per_positive": PER_POSITIVE, "hard_per_positive": 0, "sampling": "uniform", "alpha": 0.75}
        custom_config = {
            "features": SPEC.model_dump_json(),
            "model": model.model_dump_json(),
            "train": train.model_dump_json(),
            "negatives": json.dumps(negatives),
            "checkpoints": str(folder / "checkpoints"),
            "fingerprint": "code",
        }
        return SimpleNamespace(
            train_files=[str(self.train / "*")],
            eval_files=[str(self.items / "*")],
            transform_output=self.graph,
            serving_model_dir=str(folder / "Format-Serving"),
            model_run_dir=str(folder / "logs"),
            base_model=None,
            custom_config={**custom_config, **further},
        )


def make(folder: Path, spec: FeatureSpec = SPEC, train_rows: list[helpers.Row] | None = None) -> Toy:
    """The toy data, or other train rows, transformed, with uniform negatives and counts."""
    raw_train, held_out = raw_interactions()
    raw_train = train_rows or raw_train
    items = raw_items()
    rows, _, output = helpers.transform(spec, raw_train + items, folder)
    train, catalogue = rows[: len(raw_train)], rows[len(raw_train) :]
    counts = np.bincount([int(row["candidate_index"][0]) for row in train], minlength=len(ITEMS))
    random = np.random.default_rng(0)
    drawn = {"negative_log_q": [-float(np.log(len(ITEMS)))] * PER_POSITIVE}
    helpers.write_records(
        folder / "train" / "data-0.gz",
        [{**row, "negative_indices": random.integers(0, len(ITEMS), PER_POSITIVE), **drawn} for row in train],
    )
    helpers.write_records(
        folder / "items" / "data-0.gz",
        [{**row, "item_count": [counts[int(row["candidate_index"][0])]]} for row in catalogue],
    )
    graph = str(Path(output.transform_savedmodel_dir).parent)
    return Toy(folder / "train", folder / "items", graph, raw_train, held_out, items)
