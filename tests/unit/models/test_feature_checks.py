from __future__ import annotations

from typing import Any

import pytest

from models.config import FeatureSpec, ModelConfig
from models.feature_checks import check_features

USER = {"name": "user", "kind": "id", "side": "query"}
HISTORY = {"name": "history", "kind": "history", "side": "query"}
ITEM = {"name": "item", "kind": "id", "side": "item"}
COLOUR = {"name": "colour", "kind": "categorical", "side": "item"}


def spec(*features: dict[str, Any]) -> FeatureSpec:
    return FeatureSpec(query_id="user", item_id="item", timestamp="at", category="colour", features=features)


@pytest.mark.parametrize(
    ("features", "model", "message"),
    [
        ((USER, HISTORY, COLOUR), {}, "the item's id is not declared"),
        ((USER, ITEM), {}, "no feature of kind history is declared"),
        ((USER, HISTORY, {**ITEM, "min_count": 2}), {}, "feature 'item' must keep every item"),
        ((USER, HISTORY, {**ITEM, "vocabulary_size": 2}), {}, "feature 'item' must keep every item"),
        ((USER, HISTORY, {**ITEM, "hash_buckets": 2}), {}, "feature 'item' must keep every item"),
        ((USER, HISTORY, {**ITEM, "embedding_dim": 8}), {}, "embedding_dim of 'history' is 32, of 'item' 8"),
        (
            (USER, {**HISTORY, "embedding_dim": 8}, {**ITEM, "embedding_dim": 8}),
            {"kind": "youtube_dnn", "output_dim": 16},
            "of 'history' is 8, .* of output_dim 16: leave it out",
        ),
    ],
)
def test_sharing_that_cannot_work_is_refused(
    features: tuple[dict[str, Any], ...], model: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^model.share_item_embedding: .*{message}"):
        check_features(spec(*features), ModelConfig(share_item_embedding=True, **model))
    check_features(spec(*features), ModelConfig(**model))


def test_sharing_that_works() -> None:
    both = {"embedding_dim": 8}
    check_features(spec(USER, HISTORY | both, ITEM | both, COLOUR), ModelConfig(share_item_embedding=True))
    wide = ModelConfig(share_item_embedding=True, kind="youtube_dnn", output_dim=8)
    check_features(spec(USER, HISTORY | both, ITEM | both), wide)
    check_features(spec(USER, HISTORY, ITEM), wide)


def test_a_factorization_machine_has_factors_of_one_width() -> None:
    config = ModelConfig(kind="factorization_machine", output_dim=3)
    check_features(spec(USER, ITEM, {**COLOUR, "embedding_dim": 32}), config)
    with pytest.raises(ValueError, match=r"feature 'colour': embedding_dim is 8, .* output_dim - 1 = 2: leave it out"):
        check_features(spec(USER, ITEM, {**COLOUR, "embedding_dim": 8}), config)
