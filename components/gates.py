"""What a gate raises that stops a run."""

from __future__ import annotations


class GateRefusedError(ValueError):
    """Data, model or release did not pass a gate. The text says which, by how much, and what to do."""
