"""Twenty-two users, eight items, ids that are easily mangled."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.e2e.conftest import Workspace

ITEMS = ["007", "7", 'say "hi"', "a,b", "näive ☕", " spaced ", "x" * 200, "only-one"]

CONFIG: dict[str, Any] = {
    "name": "awkward",
    "data": {
        "interactions": {"files": "i.csv", "query_id": "user", "item_id": "item", "timestamp": "at"},
        "items": {"files": "items.csv", "id": "item", "category": "category", "show": ["title"]},
        "split": {"by": "last", "eval": 1},
        "max_bad_share": 0.2,
    },
    "features": [
        {"name": "user", "kind": "id", "side": "query"},
        {"name": "history", "kind": "history", "side": "query", "max_values": 5},
        {"name": "item", "kind": "id", "side": "item"},
        {"name": "price", "kind": "number", "side": "item"},
    ],
    "train": {"epochs": 1, "batch_size": 32},
}


def write(file: Path, rows: Iterable[Iterable[Any]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows(rows)


def make_small(workspace: Workspace) -> Workspace:
    """The same folder with this data and a configuration for it: a run takes half of what the sample's takes."""
    small = Workspace(workspace.folder, CONFIG)
    small.write_config()
    random.seed(3)
    write(
        small.folder / "items.csv",
        [["item", "category", "title", "price"]]
        + [[item, "solo" if item == "only-one" else "most", f"title of {item}", n] for n, item in enumerate(ITEMS)],
    )
    users = [f"u{n}" for n in range(20)] + ["0042", 'ünï,"q"']
    rows = [[user, item, 1000 + n] for user in users for n, item in enumerate(random.sample(ITEMS, 5))]
    write(small.folder / "i.csv", [["user", "item", "at"], *rows])
    return small
