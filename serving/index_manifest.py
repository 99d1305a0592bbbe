"""What index.json says of an item index. Imports neither ScaNN nor TensorFlow, so that releases are checked fast."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import Field, ValidationError

from models.config import Frozen
from serving.searcher import SearcherConfig

MANIFEST = "index.json"


class ItemIndexError(ValueError):
    """An index folder is damaged, unsafe or of another format, or its items cannot be indexed."""


class Latency(Frozen):
    """Median time of one query, in microseconds, and index / exact."""

    index_p50_us: float
    exact_p50_us: float
    ratio: float


class Measurement(Frozen):
    """How well the index finds what exact search finds."""

    recall_at: int  # K of recall@K
    recall: float  # mean over the queries of the share of the index's top K that belongs to an exact top K
    min_recall: float  # the index was refused below this
    queries: int  # so many queries were measured
    latency: Latency


class IndexManifest(Frozen):
    """What index.json says. The measurement's keys stand at the top level of the file."""

    items: int
    dimension: int
    searcher: SearcherConfig
    attributes: tuple[str, ...] = Field(strict=False)  # names of the attributes that items have
    filters: tuple[str, ...] = Field(default=(), strict=False)  # names of those that requests may filter by
    model_fingerprint: str  # of the SavedModel that made the embeddings
    measurement: Measurement | None = None  # None until it was measured


def write_manifest(folder: Path, manifest: IndexManifest) -> None:
    """Writes index.json, the measurement's keys at the top level."""
    content = manifest.model_dump(mode="json", exclude={"measurement"})
    if manifest.measurement is not None:
        content |= manifest.measurement.model_dump(mode="json")
    (folder / MANIFEST).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> IndexManifest:
    """Reads index.json.

    Raises:
      ItemIndexError: it is missing or not as expected.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        measured = {name: content.pop(name) for name in Measurement.model_fields if name in content}
        if measured:
            content["measurement"] = measured
        return IndexManifest.model_validate(content)
    except (OSError, ValidationError, ValueError, AttributeError) as error:
        problem = str(error).replace("\n", " ")
        raise ItemIndexError(f"{path}: cannot read the index's manifest: {problem}") from error
