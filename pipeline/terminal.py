"""The terminal, for text that comes from data."""

from __future__ import annotations

from typing import Any

from rich.console import Console


def plain_console(**settings: Any) -> Console:
    """A console that prints what it is given: to Rich "[red]" is markup and ":m:" a picture, in a title they are text.

    Args:
      **settings: of rich.console.Console.
    """
    return Console(highlight=False, markup=False, emoji=False, **settings)
