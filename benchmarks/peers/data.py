"""The exchange folder as integers: `pipeline/experiments/exchange.py` describes its files. Needs NumPy only."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HISTORY = 50  # items, as in the pipeline's own configurations


class PeerError(RuntimeError):
    """What the user can mend; the text names the file and what was expected."""


@dataclass(frozen=True)
class Rows:
    """Pairs of query and item, in order of query, the oldest first.

    query: int64 [rows], index of the query.
    item: int64 [rows], index of the item.
    """

    query: np.ndarray
    item: np.ndarray

    def __len__(self) -> int:
        return len(self.query)

    def __getitem__(self, chosen: np.ndarray) -> Rows:
        return Rows(self.query[chosen], self.item[chosen])


@dataclass(frozen=True)
class Exchange:
    """What a peer may know, and what it is asked.

    query_ids: of each query of train and test. item_ids: of each item of the catalogue.
    category: int64 [items], from 1; 0 is none. train, test: the rows.
    """

    query_ids: list[str]
    item_ids: list[str]
    category: np.ndarray
    train: Rows
    test: Rows

    @property
    def queries(self) -> int:
        return len(self.query_ids)

    @property
    def items(self) -> int:
        return len(self.item_ids)


def _read(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Line number and values of each row."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            header = next(rows, [])
            if header != list(columns):
                raise PeerError(f"{path}: columns {','.join(header)}, expected {','.join(columns)}")
            for row in rows:
                if len(row) != len(columns):
                    raise PeerError(f"{path}, line {rows.line_num}: {len(row)} values, expected {len(columns)}")
                yield rows.line_num, row
    except OSError as e:
        raise PeerError(f"{path}: cannot be read: {e.strerror}") from e


def _index(path: Path, line: int, items: dict[str, int], item: str) -> int:
    if item not in items:
        raise PeerError(f"{path}, line {line}: item {item!r} is not in items.csv")
    return items[item]


def read_exchange(folder: Path) -> Exchange:
    """Reads train.csv, test.csv and items.csv.

    Args:
      folder: as `python -m pipeline experiment` writes it.

    Raises:
      PeerError: a file is missing, has other columns, an item that items.csv lacks, a position that is no number, or
        no row at all.
    """
    items: dict[str, int] = {}
    categories: dict[str, int] = {"": 0}
    category = []
    for line, (item, name) in _read(folder / "items.csv", ("item_id", "category")):
        if item in items:
            raise PeerError(f"{folder / 'items.csv'}, line {line}: item {item!r} stands twice")
        items[item] = len(items)
        category.append(categories.setdefault(name, len(categories)))

    queries: dict[str, int] = {}
    path = folder / "train.csv"
    train = []
    for line, (query, item, _, position) in _read(path, ("query_id", "item_id", "timestamp", "position")):
        if not position.isdecimal():
            raise PeerError(f"{path}, line {line}: position {position!r}, expected a number from 0")
        train.append((queries.setdefault(query, len(queries)), int(position), _index(path, line, items, item)))
    train.sort()
    path = folder / "test.csv"
    test = [
        (queries.setdefault(query, len(queries)), _index(path, line, items, item))
        for line, (query, item) in _read(path, ("query_id", "item_id"))
    ]
    for name, rows in (("train.csv", train), ("test.csv", test)):
        if not rows:
            raise PeerError(f"{folder / name}: no row, expected at least one")
    known, held_out = np.array(train, np.int64), np.array(sorted(test), np.int64)
    return Exchange(
        query_ids=list(queries),
        item_ids=list(items),
        category=np.array(category, np.int64),
        train=Rows(known[:, 0], known[:, 2]),
        test=Rows(held_out[:, 0], held_out[:, 1]),
    )


def hold_out_last(rows: Rows) -> tuple[Rows, Rows]:
    """Takes the last row of each query that has two or more.

    Returns:
      The rows that stay, and those taken.
    """
    ends = np.append(rows.query[1:] != rows.query[:-1], True)
    several = np.bincount(rows.query)[rows.query] > 1
    taken = ends & several
    return rows[~taken], rows[taken]


def starts(rows: Rows, queries: int) -> np.ndarray:
    """int64 [queries + 1]: the rows of query q are those from starts[q] up to starts[q + 1]."""
    return np.searchsorted(rows.query, np.arange(queries + 1))


def _windows(items: np.ndarray, begin: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    begin = np.maximum(begin, end - HISTORY)
    places = begin[:, None] + np.arange(HISTORY)
    inside = places < end[:, None]
    padded = np.where(inside, items[np.where(inside, places, 0)] + 1, 0)
    return padded.astype(np.int32), (end - begin).astype(np.int32)


def histories_before(rows: Rows, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """What each row's query met before it, by position.

    Returns:
      int32 [rows, HISTORY], item index + 1, oldest first, 0 after the end; and int32 [rows], how many there are.
    """
    return _windows(rows.item, starts(rows, queries)[rows.query], np.arange(len(rows)))


def histories_of_all(rows: Rows, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """The last items of each query: as `histories_before`, [queries, HISTORY] and [queries]."""
    places = starts(rows, queries)
    return _windows(rows.item, places[:-1], places[1:])
