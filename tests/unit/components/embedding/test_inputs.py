from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from components.embedding.inputs import unmet_inputs
from models.config import FeatureSpec

USER = {"name": "user", "kind": "id", "side": "query"}
PRICE = {"name": "price", "kind": "number", "side": "item"}
AGE = {"name": "age", "kind": "number", "side": "query"}


def spec(*features: dict[str, Any], query_id: str = "user") -> FeatureSpec:
    return FeatureSpec(query_id=query_id, item_id="film", timestamp="time", category="genre", features=features)


def unmet(folder: Path, before: FeatureSpec, now: FeatureSpec) -> str:
    (folder / "assets.extra").mkdir(exist_ok=True)
    # A key that a later version no longer has.
    features = {**before.model_dump(mode="json"), "forgotten": 1}
    (folder / "assets.extra" / "model.json").write_text(json.dumps({"features": features}))
    return unmet_inputs(str(folder), now)


def test_what_a_model_reads_and_the_examples_lack(tmp_path: Path) -> None:
    before = spec(USER, PRICE, AGE)
    assert unmet(tmp_path, before, before) == ""
    assert unmet(tmp_path, before, spec(USER, PRICE)) == "'age' (query number, not declared now)"
    changed = spec(USER, {**PRICE, "kind": "categorical"}, {**AGE, "side": "interaction"})
    assert unmet(tmp_path, before, changed) == (
        "'price' (item number, now item categorical), 'age' (query number, now interaction number)"
    )


def test_what_it_does_not_read_may_change(tmp_path: Path) -> None:
    assert unmet(tmp_path, spec(USER, PRICE), spec(USER, PRICE, AGE)) == ""
    assert unmet(tmp_path, spec(USER, PRICE), spec(USER, {**PRICE, "buckets": 4, "embedding_dim": 8})) == ""


def test_the_ids_are_read_whether_or_not_they_are_features(tmp_path: Path) -> None:
    assert unmet(tmp_path, spec(AGE, PRICE), spec(USER, AGE, PRICE)) == ""
    assert unmet(tmp_path, spec(AGE, PRICE), spec(AGE, PRICE, query_id="visitor")) == (
        "'user' (query id, not declared now)"
    )
