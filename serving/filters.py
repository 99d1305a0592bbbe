"""Which items have which value of which attribute, for requests that allow or deny some.

A folder with
  keys/         blob table: JSON [attribute, value], sorted by its bytes, each once
  offsets.npy   int64 [keys + 1]: where the rows of each key start, and the number of all
  rows.npy      int32: for each key the rows of the items that have the value, ascending
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.blobs import BlobError, BlobTable, write_table

KEYS = "keys"
OFFSETS = "offsets.npy"
ROWS = "rows.npy"

Filter = tuple[str, Sequence[str]]  # an attribute, and the values of which an item must have one


@dataclass(frozen=True)
class Selection:
    """The items that filters leave.

    Attributes:
      mask: bool [num_items], by row.
      count: how many are true.
    """

    mask: NDArray[np.bool_]
    count: int


def write_postings(folder: Path, attributes: Sequence[str], items: Iterable[Mapping[str, Sequence[str]]]) -> None:
    """Writes which items have which value.

    Args:
      folder: created; must not exist.
      attributes: the names of the attributes to filter by.
      items: for each row the values by the attribute's name; other attributes are left alone.
    """
    postings: dict[bytes, list[int]] = {}
    for row, item in enumerate(items):
        for attribute in attributes:
            for value in dict.fromkeys(item.get(attribute, ())):
                postings.setdefault(_key(attribute, value), []).append(row)
    keys = sorted(postings)
    lengths = [len(postings[key]) for key in keys]
    folder.mkdir()
    write_table(folder / KEYS, keys)
    np.save(folder / OFFSETS, np.cumsum([0, *lengths], dtype=np.int64), allow_pickle=False)
    rows = np.fromiter((row for key in keys for row in postings[key]), np.int32, sum(lengths))
    np.save(folder / ROWS, rows, allow_pickle=False)


def _key(attribute: str, value: str) -> bytes:
    return json.dumps([attribute, value], ensure_ascii=False).encode()


class Postings:
    """Looks up items by their attributes. Safe for any number of threads."""

    def __init__(self, folder: Path, attributes: Sequence[str], num_items: int) -> None:
        """Opens what `write_postings` wrote.

        Args:
          folder: of the postings; not read where there are no attributes.
          attributes: the names it was written with.
          num_items: of the index.

        Raises:
          BlobError: a file is missing, damaged or does not fit the others or the index.
        """
        self._attributes = tuple(attributes)
        self._num_items = num_items
        if not attributes:
            return
        self._keys = BlobTable(folder / KEYS)
        try:
            offsets = np.load(folder / OFFSETS, mmap_mode="r", allow_pickle=False)
            rows = np.load(folder / ROWS, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise BlobError(f"postings {folder}: cannot read them: {error}") from error
        if offsets.dtype != np.int64 or offsets.shape != (len(self._keys) + 1,):
            raise BlobError(f"postings {folder}: {OFFSETS} must be int64 [{len(self._keys) + 1}]")
        if rows.dtype != np.int32 or rows.ndim != 1:
            raise BlobError(f"postings {folder}: {ROWS} must be int32 with one axis")
        if offsets[0] != 0 or offsets[-1] != len(rows) or (np.diff(offsets) < 0).any():
            raise BlobError(f"postings {folder}: {OFFSETS} does not fit the {len(rows)} rows of {ROWS}")
        if len(rows) and not 0 <= rows.min() <= rows.max() < num_items:
            raise BlobError(f"postings {folder}: {ROWS} names rows that an index of {num_items} items does not have")
        self._offsets: NDArray[np.int64] = np.asarray(offsets)
        self._rows: NDArray[np.int32] = np.asarray(rows)

    def select(self, allow: Sequence[Filter], deny: Sequence[Filter]) -> Selection | None:
        """The items that match every filter of `allow` and none of `deny`; None where there are no filters.

        Raises:
          ValueError: there are no postings of an attribute, or a filter names no value.
        """
        if not allow and not deny:
            return None
        mask = ~self._matching(deny)
        for one in allow:
            mask &= self._matching([one])
        return Selection(mask, int(np.count_nonzero(mask)))

    def _matching(self, filters: Sequence[Filter]) -> NDArray[np.bool_]:
        """[num_items], true where an item matches one of the filters."""
        mask = np.zeros(self._num_items, dtype=bool)
        for attribute, values in filters:
            if attribute not in self._attributes:
                known = ", ".join(self._attributes) or "none"
                raise ValueError(f"attribute {attribute!r} is not one to filter by, which are: {known}")
            if not values:
                raise ValueError(f"the filter by attribute {attribute!r} names no value")
            for value in values:
                number = self._keys.find(_key(attribute, value))
                if number is not None:
                    mask[self._rows[self._offsets[number] : self._offsets[number + 1]]] = True
        return mask
