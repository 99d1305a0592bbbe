"""The items that a search found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, overload


class Hit(NamedTuple):
    """One found item."""

    row: int
    item_id: bytes
    score: float


@dataclass(frozen=True)
class Hits(Sequence[Hit]):
    """Found items, best first; kept by column, for a hundred objects take longer to make than their order to find.

    Attributes:
      rows: in the index.
      item_ids: as many.
      scores: as many.
    """

    rows: list[int]
    item_ids: list[bytes]
    scores: list[float]

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> Hit: ...
    @overload
    def __getitem__(self, place: slice) -> Hits: ...
    def __getitem__(self, place: int | slice) -> Hit | Hits:
        parts = self.rows[place], self.item_ids[place], self.scores[place]
        return Hits(*parts) if isinstance(place, slice) else Hit(*parts)  # type: ignore[arg-type]
