"""What came of an item shown: clicks, and orders with their value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from components.ingestion.values import to_number
from pipeline.online_comparison.impressions import UNSET, Impressions, seconds
from pipeline.online_comparison.table import Piece

COLUMNS = ("impression_id", "item_id", "time", "kind", "value")
KINDS = {"click": 0, "order": 1}
CLICK, ORDER = KINDS["click"], KINDS["order"]
NAMED = 5  # of the rows without an impression


class Outcomes:
    """Takes the log piece by piece and finds the rows of the impressions it is about.

    Attributes:
      counted: rows that are not of labels which are not compared.
      without_impression: those of them that no impression shows.
      named: where the first of these are.
    """

    def __init__(self, impressions: Impressions) -> None:
        self._impressions = impressions
        self.counted = self.without_impression = 0
        self.named: list[str] = []
        self._clicks: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
        self._orders: list[NDArray[np.float64]] = [np.zeros((0, 3))]

    def add(self, piece: Piece) -> None:
        """Takes some rows.

        Raises:
          LogError: a value is bad.
        """
        shown = self._impressions
        impression = piece.map("impression_id", _known(shown.ids), "an id", np.int32)
        item = piece.map("item_id", _known(shown.items), "an id", np.int32)
        time = piece.map("time", seconds, "unix seconds", np.int64)
        kind = piece.map("kind", KINDS.__getitem__, "click or order", np.int8)
        value = piece.map("value", _money, "a number from 0, or nothing for a click", np.float64)
        priced = np.flatnonzero((kind == CLICK) & (value > 0))
        if len(priced):
            raise piece.error(int(priced[0]), "value", "nothing for a click")
        free = np.flatnonzero((kind == ORDER) & np.isnan(value))
        if len(free):
            raise piece.error(int(free[0]), "value", "an order's value")

        # UNSET asks for the last impression's label here, which `impression != UNSET` then rules out.
        compared = (impression == UNSET) | (shown.label_of[impression] < len(shown.arms))
        rows = shown.find(impression, item)
        lost = np.flatnonzero(compared & (rows == UNSET))
        self.counted += int(compared.sum())
        self.without_impression += len(lost)
        self.named += [f"{piece.path}, row {piece.first + row}" for row in lost[: NAMED - len(self.named)]]
        found = rows != UNSET
        self._clicks.append(rows[found & (kind == CLICK)])
        order = found & (kind == ORDER)
        self._orders.append(np.stack([rows, time, value], axis=1)[order])

    def finish(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], int]:
        """What happened, each thing once.

        Returns:
          Rows of the impressions that were clicked, each once; rows of the impressions that led to an order, one for
          each order; the orders' values; how many outcomes were there before.
        """
        clicks = np.concatenate(self._clicks)
        orders = np.concatenate(self._orders)
        clicked, ordered = np.unique(clicks), np.unique(orders, axis=0)
        repeated = len(clicks) - len(clicked) + len(orders) - len(ordered)
        return clicked, ordered[:, 0].astype(np.int64), ordered[:, 2], repeated


def _known(numbers: Mapping[str, int]) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text:
            raise ValueError(text)
        return numbers.get(text, UNSET)

    return number


def _money(text: str) -> float:
    value = to_number(text)
    if value is None:
        return math.nan
    if value < 0:
        raise ValueError(text)
    return value
