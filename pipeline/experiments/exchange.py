"""How programs that are no part of the pipeline take part: the prepared data out as CSV, ranks back as .npz.

`python -m pipeline experiment` writes a folder for each data set and split,
`runs/experiments/<data set>/exchange/<last|time>-<eval|test>-<fingerprint of the data>/`, with

  train.csv  query_id,item_id,timestamp,position
             Every interaction that a model may learn from, each pair of query and item once. timestamp: unix seconds.
             position: the row's place among its query's rows, from 0, oldest first; rows of the same second are in an
             order that was drawn with a seed. A peer that wants a validation split can hold out each query's last
             position.
  test.csv   query_id,item_id
             The held-out rows, whichever of eval and test they are. Each pair once, and none of them in train.csv.
             With a split by time a query may have several rows here, or no row in train.csv.
  items.csv  item_id,category
             The catalogue: exactly the items that are ranked, those without a train row included. category may be
             empty.

UTF-8, comma, a header, LF, fields quoted where need be as Python's csv module does it. Ids are text: leading zeros
count.
train.csv and test.csv are sorted by query_id and position or item_id, items.csv by item_id.

What comes back is `<peer>.npz` in a folder beside them, with one entry for each row of test.csv, in any order:

  query_id   str (NumPy kind U)
  item_id    str (NumPy kind U)
  rank       int64, from 1

  rank = 1 + number of other ranked items that score at least as high as the row's item

Ties count against the model; NaN is the lowest score. Not ranked for a row are the items of its query in train.csv and
the query's other items in test.csv. So with N items, n of them in train.csv and m in test.csv for the query, a rank is
between 1 and N - n - m + 1. An item that the model doesn't know has a score below all it knows.

Needs NumPy only.
"""

from __future__ import annotations

import csv
import os
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

TRAIN, TEST, ITEMS = "train.csv", "test.csv", "items.csv"


class ExchangeError(ValueError):
    """A file of the exchange that is not what it should be; the text names the file and the row."""


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    with temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    temporary.replace(path)


def write_folder(
    folder: Path,
    train: Iterable[tuple[str, str, int, int]],
    held_out: Iterable[tuple[str, str]],
    items: Iterable[tuple[str, str]],
) -> None:
    """Writes the three files.

    Args:
      folder: created if need be.
      train: (query id, item id, unix seconds, position).
      held_out: (query id, item id).
      items: (item id, category, "" for none).
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / TRAIN, ("query_id", "item_id", "timestamp", "position"), train)
    _write(folder / ITEMS, ("item_id", "category"), items)
    _write(folder / TEST, ("query_id", "item_id"), held_out)


def write_ranks(path: Path, query_ids: Sequence[str], item_ids: Sequence[str], rank: np.ndarray) -> None:
    """Writes ranks in the form that `read_ranks` takes.

    Args:
      path: an .npz file; appears when it is complete.
      query_ids, item_ids: of each held-out row.
      rank: int [rows], from 1.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    columns = {"query_id": np.array(query_ids, np.str_), "item_id": np.array(item_ids, np.str_)}
    np.savez_compressed(temporary, **columns, rank=np.asarray(rank, np.int64))
    temporary.replace(path)


def _pairs(columns: dict[str, np.ndarray]) -> Iterator[tuple[str, str]]:
    return zip(columns["query_id"].tolist(), columns["item_id"].tolist(), strict=True)


def read_ranks(path: Path, query_ids: Sequence[str], item_ids: Sequence[str]) -> np.ndarray:
    """Reads ranks and brings them into the order of the held-out rows.

    Args:
      path: an .npz file as described above.
      query_ids, item_ids: of each held-out row; its rows must be exactly these.

    Returns:
      int64 [rows].

    Raises:
      ExchangeError: the file cannot be read, lacks an array, has a row twice, lacks a row, has one too many, or a rank
        is below 1.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            columns = {name: file[name] for name in ("query_id", "item_id", "rank")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as e:
        raise ExchangeError(f"{path}: cannot be read as query_id, item_id and rank: {e}") from e
    if len({len(column) for column in columns.values()}) > 1 or columns["rank"].dtype.kind not in "iu":
        raise ExchangeError(f"{path}: query_id, item_id and rank must be equally long, and rank of integers")
    given = dict(zip(_pairs(columns), columns["rank"].tolist(), strict=True))
    if len(given) < len(columns["rank"]):
        raise ExchangeError(f"{path}: {len(columns['rank']) - len(given)} rows stand there twice")
    rank = np.zeros(len(query_ids), np.int64)
    for row, pair in enumerate(zip(query_ids, item_ids, strict=True)):
        if pair not in given:
            raise ExchangeError(f"{path}: no rank for query {pair[0]!r}, item {pair[1]!r}, which is held out")
        rank[row] = given.pop(pair)
    if given:
        query, item = next(iter(given))
        raise ExchangeError(f"{path}: has query {query!r}, item {item!r}, which is not held out")
    if len(rank) and rank.min() < 1:
        raise ExchangeError(f"{path}: rank {rank.min()}; ranks begin at 1")
    return rank
