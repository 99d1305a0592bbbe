"""Id columns with names that no feature can have: from the configuration to the names of a served request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components.ingestion.checks import check_inputs
from components.ingestion.inputs import read_records
from components.ingestion.layout import layouts
from models.features import make_encodings, serving_signature
from pipeline.config import ConfigError, PipelineConfig, validate

FILES = {
    "interactions": "Kunde Nr,Artikel-Größe,at\nk 1,a/1,5\n",
    "items": "Artikel Nr,Waren Gruppe\na/1,w\n",
    "queries": "Kundennummer,Land\nk 1,NL\n",
}
ID_FEATURES = (
    {"name": "user", "column": "Kunde Nr", "kind": "id", "side": "query"},
    {"name": "item_id", "column": "Artikel Nr", "kind": "id", "side": "item"},
)


class Sizes:
    def vocabulary_size_by_name(self, vocab_filename: str) -> int:
        return 3


def _config(folder: Path, *ids: dict[str, str]) -> PipelineConfig:
    tree: dict[str, Any] = {
        "name": "shop",
        "data": {
            "interactions": {"query_id": "Kunde Nr", "item_id": "Artikel-Größe", "timestamp": "at"},
            "items": {"id": "Artikel Nr", "category": "Waren Gruppe"},
            "queries": {"id": "Kundennummer"},
            "split": {"by": "last"},
        },
        "features": [*ids, {"name": "history", "kind": "history", "side": "query"}],
        "model": {"share_item_embedding": True},
    }
    for source, content in FILES.items():
        (folder / source).write_text(content, encoding="utf-8")
        tree["data"][source]["files"] = str(folder / source)
    return validate(PipelineConfig, tree, "c.yaml")


def test_a_column_whose_name_no_served_value_can_have(tmp_path: Path) -> None:
    tree = _config(tmp_path, ID_FEATURES[1]).model_dump(mode="json", exclude_defaults=True)
    tree["data"]["interactions"]["query_id"] = "self"
    tree["data"]["queries"]["id"] = "seen_items"
    assert validate(PipelineConfig, tree, "c.yaml").feature_spec.query_id == "query_id"


def test_ids_are_called_like_their_features(tmp_path: Path) -> None:
    config = _config(tmp_path, *ID_FEATURES)
    ingestion = config.ingestion(0)
    check_inputs(ingestion)
    read = {
        layout.source.value: dict(
            zip(
                (field.name for field in layout.fields),
                next(iter(read_records(layout.files.files, layout, 100))).values or (),
                strict=True,
            )
        )
        for layout in layouts(ingestion)
    }
    assert read == {
        "interactions": {"user": "k 1", "item_id": "a/1", "at": "5"},
        "items": {"item_id": "a/1", "Waren Gruppe": "w"},
        "queries": {"user": "k 1"},
    }
    spec = config.feature_spec
    encodings = make_encodings(spec, config.model, Sizes())
    assert (encodings.query_id, encodings.item_id) == ("user", "item_id")
    assert encodings.query[1].table == "item_id"
    assert set(serving_signature(spec)) == {"user", "history"}


def test_a_name_that_no_signature_has_is_not_taken_for_an_undeclared_id(tmp_path: Path) -> None:
    spec = _config(tmp_path, ID_FEATURES[1]).feature_spec
    assert set(serving_signature(spec)) == {"query_id", "history"}


def test_another_column_is_no_id(tmp_path: Path) -> None:
    query, item = ID_FEATURES
    with pytest.raises(ConfigError, match=r"feature 'item_id': kind id on side item must be the id column 'Artikel-Gr"):
        _config(tmp_path, query, {**item, "column": "EAN"})
    twice = {**item, "name": "article", "column": "Artikel-Größe"}
    with pytest.raises(ConfigError, match=r"feature 'article': of kind id on side item there is 'item_id' already"):
        _config(tmp_path, query, item, twice)
