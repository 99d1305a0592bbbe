"""What operators decided about the releases of one root: pin, labels, split of traffic.

It is one small file, `<root>/state.json`, so that all servers of the root see the same and a restart changes nothing.
TensorFlow Serving ignores it. Imports no TensorFlow.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, model_validator

from models.config import Frozen, PositiveInt
from serving.config import VersionPolicy
from serving.release import TEMPORARY, ReleaseError, locked, sync

STATE = "state.json"
WHOLE = 100  # percent

Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
Percent = Annotated[int, Field(ge=1, le=WHOLE)]


class ServingState(Frozen):
    """The decisions. The default is what an absent file says: follow the newest release."""

    pinned: PositiveInt | None = None  # answers the requests that name no version; no newer one does
    labels: dict[Label, PositiveInt] = {}  # label -> version, which is then loaded whatever the policy says
    traffic: dict[Label, Percent] = {}  # label -> share of the requests that name no version, in percent
    salt: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]*$", max_length=64)] = ""  # deals the queries to the shares
    policy: VersionPolicy | None = None  # in place of the configuration's

    @model_validator(mode="after")
    def _parts_fit(self) -> ServingState:
        for label in self.traffic:
            if label not in self.labels:
                raise ValueError(f"label {label!r} has a share of the traffic, but no version")
        if self.traffic and sum(self.traffic.values()) != WHOLE:
            raise ValueError(
                f"the shares of the traffic add up to {sum(self.traffic.values())} percent, not to {WHOLE}"
            )
        return self

    def replace(self, **changes: object) -> ServingState:
        """A copy with other values.

        Raises:
          ReleaseError: they do not fit together.
        """
        try:
            return ServingState.model_validate({**dict(self), **changes})
        except ValidationError as error:
            raise ReleaseError(_problems(error)) from error


def read_bytes(root: Path) -> bytes | None:
    """The file as it is; None where there is none.

    Raises:
      ReleaseError: it cannot be read.
    """
    try:
        return (root / STATE).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ReleaseError(f"{root / STATE}: cannot be read: {error.strerror}") from error


def parse(root: Path, content: bytes | None) -> ServingState:
    """What `read_bytes` gave, as decisions.

    Raises:
      ReleaseError: it is not what this module writes.
    """
    if content is None:
        return ServingState()
    try:
        return ServingState.model_validate_json(content)
    except ValidationError as error:
        raise ReleaseError(f"{root / STATE}: {_problems(error)}") from error


def read_state(root: Path) -> ServingState:
    """The decisions of a root.

    Raises:
      ReleaseError: the file cannot be read or is broken.
    """
    return parse(root, read_bytes(root))


def change_state(root: Path, change: Callable[[ServingState], ServingState]) -> ServingState:
    """Reads, changes and writes the decisions under the root's lock; a reader sees the old file or the new one.

    Returns:
      The new decisions.

    Raises:
      ReleaseError: the file is broken or cannot be written, or `change` refuses.
    """
    try:
        with locked(root):
            state = change(read_state(root))
            temporary = root / f"{TEMPORARY}{STATE}"
            temporary.write_text(json.dumps(state.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")
            sync(temporary)
            temporary.replace(root / STATE)
            sync(root)
    except OSError as error:
        raise ReleaseError(f"{root / STATE}: cannot be written: {error.strerror}") from error
    return state


def _problems(error: ValidationError) -> str:
    places = (
        (".".join(str(part) for part in problem["loc"]), problem["msg"].removeprefix("Value error, "))
        for problem in error.errors()
    )
    return "; ".join(f"{place}: {message}" if place else message for place, message in places)
