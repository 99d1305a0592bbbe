"""Configuration of the item index. Imports no TensorFlow."""

from __future__ import annotations

from pydantic import Field

from models.config import Frozen, PositiveInt, Share


class IndexConfig(Frozen):
    """What the index must reach and can filter by. Its ScaNN parameters follow from the catalogue's size."""

    recall_at: PositiveInt = 100  # K of recall@K, against exact search
    min_recall: Share = 0.95  # an index below this is refused
    sample_queries: PositiveInt = 1000  # so many queries of the eval split measure recall and latency
    filter: tuple[str, ...] = Field(default=(), strict=False)  # item attributes to filter by, beside the category
