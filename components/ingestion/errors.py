"""The errors of ingestion."""

from __future__ import annotations

from components.gates import GateRefusedError


class IngestionError(ValueError):
    """The input or its configuration cannot be used.

    Attributes:
      problems: one line each, naming the file or the config key and what was expected.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class BadRowsError(IngestionError, GateRefusedError):
    """Of a delivery too many rows cannot be used. Tried again it ends the same."""


class BadValue(ValueError):
    """A row cannot be used. `str()` gives the reason's code, such as "missing_id"."""
