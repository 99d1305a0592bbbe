"""Forty queries and twenty items in two groups; who is of one group chooses six items of that group."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import yaml

ROWS, QUERIES = 240, 40


def write_toy(folder: Path) -> dict[str, Any]:
    """Writes interactions.csv, items.csv and toy.yaml, and returns a grid over it. Paths are relative to the folder."""
    drawn = random.Random(1)
    lines = ["user,item,at"]
    for user in range(QUERIES):
        chosen = drawn.sample(range(user % 2, 20, 2), 6)
        lines += [f"u{user},i{item},{1000 * user + 10 * place}" for place, item in enumerate(chosen)]
    (folder / "interactions.csv").write_text("\n".join(lines) + "\n")
    (folder / "items.csv").write_text(
        "item,group\n" + "".join(f"i{i},{'even' if i % 2 == 0 else 'odd'}\n" for i in range(20))
    )
    tree = {
        "name": "toy",
        "data": {
            "interactions": {"files": "interactions.csv", "query_id": "user", "item_id": "item", "timestamp": "at"},
            "items": {"files": "items.csv", "id": "item", "category": "group"},
            "split": {"by": "last"},
        },
        "features": [
            {"name": "user", "kind": "id", "side": "query"},
            {"name": "history", "kind": "history", "side": "query", "max_values": 5},
            {"name": "item", "kind": "id", "side": "item"},
            {"name": "group", "kind": "categorical", "side": "item"},
        ],
        "negatives": {"per_positive": 1},
        "model": {
            "hidden_units": [16],
            "embedding_dim": 8,
            "augmented_dim": 8,
            "output_dim": 8,
            "last_activation": "linear",
            "objective": "in_batch_softmax",
            "temperature": 0.2,
        },
        "train": {"epochs": 2, "batch_size": 64},
    }
    (folder / "toy.yaml").write_text(yaml.safe_dump(tree))
    return {
        "datasets": {"toy": "toy.yaml"},
        "split": "last",
        "seeds": 1,
        "reference": "DAT",
        "baseline": "two-tower",
        "rows": [{"name": "DAT"}, {"name": "two-tower", "overrides": {"model.kind": "two_tower"}}],
        "sweeps": [
            {
                "name": "size",
                "label": "size of the augmented vectors",
                "dataset": "toy",
                "row": "DAT",
                "points": [{"value": 0, "overrides": {"model.kind": "two_tower"}}],
            }
        ],
    }
