"""What the commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", envvar="RETRIEVAL_CONFIG", help="The YAML file that says all.")
]
DEFAULT_CONFIG = Path("configs/movielens.yaml")


class UserError(RuntimeError):
    """Something the user can mend; shown without a stack trace."""


def parse_share(option: str, text: str) -> tuple[str, int]:
    """LABEL=PERCENT as (label, percent).

    Raises:
      UserError: it is something else; the message names the option.
    """
    label, _, percent = text.rpartition("=")
    if not label or not percent.isascii() or not percent.isdigit():
        raise UserError(f"{option} {text}: expected LABEL=PERCENT, say canary=10")
    return label, int(percent)
