"""What was shown to whom under which label. Ids become numbers as they are read, so that a row takes a few bytes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from components.ingestion.values import timestamp_parser
from pipeline.online_comparison.table import LogError, Piece

COLUMNS = ("impression_id", "time", "query_id", "label", "item_id", "position")
MAX_POSITION = 1_000_000
UNSET = -1

_seconds = timestamp_parser("unix_seconds")


def seconds(text: str) -> int:
    """Unix seconds. Raises ValueError where the text is none."""
    parsed = _seconds(text)
    if parsed is None:
        raise ValueError(text)
    return parsed


class Impressions:
    """Takes the log piece by piece, then knows each row by its impression and item.

    Attributes, after `finish`:
      arms: the two labels that are compared; label number 0 and 1.
      ids, queries, labels, items: id -> number.
      query_of, label_of: int32 [impressions], whom each impression was for and which label answered.
      keys: int64 [rows], sorted: impression * number of items + item, of the compared labels.
      positions: int32 [rows].
      repeated: rows that were there before.
      other_labels: rows under labels that are not compared.
      start, end: unix seconds of the first and the last row of the compared labels.
    """

    def __init__(self, control: str, treatment: str) -> None:
        self.arms = (control, treatment)
        self.ids: dict[str, int] = {}
        self.queries: dict[str, int] = {}
        self.labels: dict[str, int] = {control: 0, treatment: 1}
        self.items: dict[str, int] = {}
        self.query_of = self.label_of = np.zeros(0, np.int32)
        self.start, self.end = np.iinfo(np.int64).max, -1
        self.other_labels = 0
        self._rows: list[NDArray[np.int32]] = []

    def add(self, piece: Piece) -> None:
        """Takes some rows.

        Raises:
          LogError: a value is bad, or an impression has two queries or labels.
        """
        impression = piece.map("impression_id", _numbered(self.ids), "an id", np.int32)
        time = piece.map("time", seconds, "unix seconds", np.int64)
        query = piece.map("query_id", _numbered(self.queries), "an id (without one nothing was randomised)", np.int32)
        label = piece.map("label", _numbered(self.labels), "a label", np.int32)
        item = piece.map("item_id", _numbered(self.items), "an id", np.int32)
        position = piece.map("position", _position, "a whole number from 1", np.int32)
        self.query_of = _hold(self.query_of, len(self.ids), impression, query, piece, "query_id")
        self.label_of = _hold(self.label_of, len(self.ids), impression, label, piece, "label")
        compared = label < len(self.arms)
        self.other_labels += int((~compared).sum())
        if compared.any():
            self.start = min(self.start, int(time[compared].min()))
            self.end = max(self.end, int(time[compared].max()))
            self._rows.append(np.stack([impression, item, position])[:, compared])

    def finish(self) -> None:
        """Sorts the rows and drops those that were there before.

        Raises:
          LogError: one of the labels has no row, or an impression shows an item at two positions.
        """
        present = set(np.unique(self.label_of[: len(self.ids)]).tolist())
        for number, label in enumerate(self.arms):
            if number not in present:
                found = ", ".join(name for name, there in self.labels.items() if there in present)
                raise LogError(f"no impression has the label {label!r}; the log has: {found or 'no row'}")
        impression, item, position = np.concatenate(self._rows, axis=1)
        self._rows = []
        keys = impression.astype(np.int64) * len(self.items) + item
        order = np.argsort(keys, kind="stable")
        keys, position = keys[order], position[order]
        again = np.concatenate([[False], keys[1:] == keys[:-1]])
        moved = np.flatnonzero(again[1:] & (position[1:] != position[:-1]))
        if len(moved):
            first, row = int(moved[0]), int(order[moved[0]])
            raise LogError(
                f"impression {list(self.ids)[impression[row]]!r} shows item {list(self.items)[item[row]]!r} at the "
                f"positions {position[first]} and {position[first + 1]}; expected one"
            )
        self.repeated = int(again.sum())
        self.keys, self.positions = keys[~again], position[~again]

    def find(self, impression: NDArray[np.int32], item: NDArray[np.int32]) -> NDArray[np.int64]:
        """The row of each impression and item, int64 like them; UNSET where there is none.

        Args:
          impression: their numbers, UNSET for an unknown one.
          item: likewise.
        """
        keys = impression.astype(np.int64) * len(self.items) + item
        rows = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        known = (impression != UNSET) & (item != UNSET) & (self.keys[rows] == keys)
        return np.where(known, rows, UNSET)

    def users(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """(users of the first label, of the second, those under more than one label), as numbers of queries."""
        labels = len(self.labels)
        pairs = np.unique(self.query_of[: len(self.ids)].astype(np.int64) * labels + self.label_of[: len(self.ids)])
        query, label = np.divmod(pairs, labels)
        changed = np.bincount(query, minlength=len(self.queries)) > 1
        touched = np.unique(query[changed[query] & (label < len(self.arms))])
        first, second = (query[(label == arm) & ~changed[query]] for arm in range(len(self.arms)))
        return first, second, touched

    def user_of_rows(self) -> NDArray[np.int32]:
        """int32 [rows], whom each row was shown to."""
        return self.query_of[self.keys // len(self.items)]


def _numbered(numbers: dict[str, int]) -> Callable[[str], int]:
    """Ids to numbers, in the order they come; the empty one is bad."""

    def number(text: str) -> int:
        if not text:
            raise ValueError(text)
        return numbers.setdefault(text, len(numbers))

    return number


def _position(text: str) -> int:
    # Python reads "1_0" as a number; a file that says so means something else.
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_POSITION):
        raise ValueError(text)
    return int(text)


def _hold(
    held: NDArray[np.int32],
    count: int,
    impression: NDArray[np.int32],
    value: NDArray[np.int32],
    piece: Piece,
    name: str,
) -> NDArray[np.int32]:
    """Each impression's one value, with those of a piece; grown where there is no room."""
    if len(held) < count:
        held = np.concatenate([held, np.full(max(count, 2 * len(held)) - len(held), UNSET, np.int32)])
    new = held[impression] == UNSET
    # Backwards, so that of several rows of one impression the first one's value stays.
    held[impression[new][::-1]] = value[new][::-1]
    other = np.flatnonzero(held[impression] != value)
    if len(other):
        raise piece.error(int(other[0]), name, "the same as in the impression's other rows")
    return held
