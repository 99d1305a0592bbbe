"""Spans of a small shop: what it sells a day, and the pipeline's configuration for it."""

from __future__ import annotations

import csv
import random
from pathlib import Path

DAY = 86_400
CONFIG = {
    "name": "spans",
    "data": {
        "interactions": {
            "files": "{SPAN}/*.csv", "ready": "{SPAN}/_SUCCESS",
            "query_id": "user", "item_id": "item", "timestamp": "time",
        },
        "items": {"files": "items.csv", "id": "item", "category": "kind"},
        "split": {"by": "span", "window": 2, "first_day": "1970-01-01"},
    },
    "features": [
        {"name": "user", "kind": "id", "side": "query"},
        {"name": "history", "kind": "history", "side": "query", "max_values": 5},
        {"name": "item", "kind": "id", "side": "item"},
        {"name": "kind", "kind": "categorical", "side": "item"},
    ],
    "gates": {"volume": {"min_ratio": 0.5, "max_ratio": 2.0}, "skew": {"max": 0.9}},
    "negatives": {"per_positive": 0},
    "model": {
        "kind": "dat", "embedding_dim": 8, "augmented_dim": 8, "output_dim": 8, "hidden_units": [16],
        "last_activation": "linear", "objective": "in_batch_softmax", "temperature": 0.2, "unknown_rate": 0.05,
    },
    "train": {"epochs": 3, "batch_size": 64, "learning_rate": 0.01, "warm_start": {"epochs": 1}},
    "index": {"recall_at": 10, "min_recall": 0.5},
    "evaluation": {
        "ks": [10], "exclude_seen": False,
        "thresholds": [
            {"metric": "HR@10", "min_ratio_to_popular": 0.1}, {"metric": "HR@10", "min_ratio_to_blessed": 0.1},
        ],
        "slices": [{"by": "category", "metric": "HR@10", "min_rows": 50, "min_ratio_to_blessed": 0.2}],
    },
}  # fmt: skip


def deliver(folder: Path, span: int, users: int) -> None:
    """Five rows of each user, of items of its own kind; a later span has users and items that earlier ones have not."""
    chance = random.Random(span)
    (folder / str(span)).mkdir()
    with (folder / str(span) / "part.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user", "item", "time"])
        for user in range(span * 5, span * 5 + users):
            for place in range(5):
                item = 2 * chance.randrange(15 + span) + user % 2
                rows.writerow([f"u{user}", f"i{item}", span * DAY + 60 * place])
    (folder / str(span) / "_SUCCESS").touch()


def deliver_items(folder: Path) -> None:
    """The catalogue of all spans: 40 items of two kinds."""
    rows = [f"i{item},{'even' if item % 2 == 0 else 'odd'}" for item in range(40)]
    (folder / "items.csv").write_text("\n".join(["item,kind", *rows]) + "\n")
