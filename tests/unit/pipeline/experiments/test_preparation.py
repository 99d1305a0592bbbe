"""The order in time of a query's train rows, which peers get."""

from __future__ import annotations

from types import SimpleNamespace

from components.ingestion.config import SplitByLast
from components.ingestion.ordering import Interaction, in_order
from pipeline.experiments.preparation.__main__ import _in_time_order


def test_positions_are_those_that_ingestion_gave() -> None:
    config = SimpleNamespace(data=SimpleNamespace(split=SplitByLast(by="last", seed=7)))
    tied = [f"i{n}" for n in range(8)]

    made = _in_time_order([("v", "x", 4), ("u", "late", 9), *(("u", i, 5) for i in tied)], config)  # type: ignore[arg-type]

    # Ties are broken as ingestion breaks them, by the split's seed and not by another.
    interactions = [Interaction(item.encode(), 5, b"") for item in tied]
    drawn, another = ([i.item_id.decode() for i in in_order(b"u", interactions, seed, False)] for seed in (7, 0))
    assert drawn != another
    assert made == [
        *(("u", item, 5, position) for position, item in enumerate(drawn)),
        ("u", "late", 9, 8),
        ("v", "x", 4, 0),
    ]
