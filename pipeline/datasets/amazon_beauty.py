"""Amazon Beauty reviews, 5-core, from files that the user has.

J. McAuley, C. Targett, Q. Shi, A. van den Hengel, 2015, Image-Based Recommendations on Styles and Substitutes,
doi:10.1145/2766462.2767755, as prepared by K. Zhou et al., 2020, S3-Rec, doi:10.1145/3340531.3411954, in the public
repository RUCAIBox/CIKM2020-S3Rec, folder data. No licence is stated there: neither this repository nor a package
carries the files.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pipeline.datasets.files import DatasetError, write_csv

_SEQUENCES, _ATTRIBUTES = "Beauty.txt", "Beauty_item2attributes.json"
_INTERACTIONS, _ITEMS = "interactions.csv.gz", "items.csv.gz"
_INTERACTION_COLUMNS = ["user_id", "item_id", "timestamp"]
_ITEM_COLUMNS = ["item_id", "category", "attributes"]


def _sequences(path: Path) -> Iterator[list[str]]:
    """Rows of interactions.csv from lines `user item item ...`."""
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            user, *items = line.split() or [""]
            if not items:
                raise DatasetError(f"{path}, line {number}: expected a user and at least one item")
            for position, item in enumerate(items):
                yield [user, item, str(position)]


def _items(path: Path) -> Iterator[list[str]]:
    """Rows of items.csv from a JSON object of item to its list of attribute numbers."""
    try:
        attributes = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as e:
        raise DatasetError(f"{path}: not JSON at line {e.lineno}") from e
    if not isinstance(attributes, dict):
        raise DatasetError(f"{path}: expected an object of item to its attributes")
    for item, of_item in attributes.items():
        if not isinstance(of_item, list) or not all(isinstance(attribute, int) for attribute in of_item):
            raise DatasetError(f"{path}: item {item}: expected a list of attribute numbers")
    counts = Counter(attribute for of_item in attributes.values() for attribute in set(of_item))
    for item, of_item in attributes.items():
        if not of_item:
            raise DatasetError(f"{path}: item {item} has no attribute, but needs one for its category")
        category = min(of_item, key=lambda attribute: (-counts[attribute], attribute))
        yield [item, str(category), "|".join(map(str, of_item))]


def _unpacked(path: Path, columns: list[str]) -> Iterator[list[str]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
            rows = csv.reader(lines)
            header = next(rows, [])
            if header != columns:
                raise DatasetError(f"{path}: columns {','.join(header)}, expected {','.join(columns)}")
            yield from rows
    except (gzip.BadGzipFile, EOFError, zlib.error) as e:
        raise DatasetError(f"{path}: damaged gzip file: {e}") from e
    except (UnicodeDecodeError, csv.Error) as e:
        raise DatasetError(f"{path}: not UTF-8 CSV: {e}") from e


def amazon_beauty(source: Path, folder: Path) -> None:
    """Writes interactions.csv and items.csv of Amazon Beauty; the set has no user features.

    A timestamp is the position in the user's sequence, counted from 0, and no time: only splits by the last
    interactions of each user make sense. An item's category is the attribute of it that most items have, of several
    the smallest number; all are in the column attributes, separated by |.

    Args:
      source: a folder with Beauty.txt and Beauty_item2attributes.json as that repository has them, or with
        interactions.csv.gz (user_id, item_id, timestamp) and items.csv.gz (item_id, category, attributes) made of them.
      folder: created if need be.

    Raises:
      DatasetError: the folder has neither pair, or a file is not what it should be.
    """
    if all((source / name).is_file() for name in (_SEQUENCES, _ATTRIBUTES)):
        items, interactions = _items(source / _ATTRIBUTES), _sequences(source / _SEQUENCES)
    elif all((source / name).is_file() for name in (_INTERACTIONS, _ITEMS)):
        items = _unpacked(source / _ITEMS, _ITEM_COLUMNS)
        interactions = _unpacked(source / _INTERACTIONS, _INTERACTION_COLUMNS)
    else:
        raise DatasetError(
            f"{source}: expected {_SEQUENCES} and {_ATTRIBUTES} in it, or {_INTERACTIONS} and {_ITEMS}; "
            "the first two are in the public repository RUCAIBox/CIKM2020-S3Rec, folder data"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "items.csv", _ITEM_COLUMNS, items)
    write_csv(folder / "interactions.csv", _INTERACTION_COLUMNS, interactions)
