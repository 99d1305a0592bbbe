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
