"""What all readers of files yield."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

SNIPPET = 500  # characters of a bad row that go to the quarantine


class Record(NamedTuple):
    """One row of a file.

    number: the line of a CSV file that it starts on, the header's being 1; else the row, from 1.
    values: in the order of the reader's columns; None if the row could not be read.
    raw: the row's text, for the quarantine; None where the values tell as much.
    reason: why the row could not be read; None if it could.
    """

    number: int
    values: Sequence[object] | None
    raw: str | None
    reason: str | None
