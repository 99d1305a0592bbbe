"""A root of releases that a manager watches; `poll` is called by hand."""

import logging
from pathlib import Path

import pytest

from serving.config import VersionPolicy
from serving.manager import Manager
from serving.served import Current, VersionState, VersionStatus
from serving.state import ServingState, change_state
from tests.unit.serving import tiny

AVAILABLE = VersionStatus(VersionState.AVAILABLE)
END = VersionStatus(VersionState.END)


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the manager complained of."""
    records = [record for record in caplog.records if record.name in ("serving.manager", "serving.loading")]
    return [record.getMessage() for record in records if record.levelno >= logging.ERROR]


class Root:
    """A releases root with a manager on it."""

    def __init__(self, folder: Path, model: Path, policy: VersionPolicy) -> None:
        self.folder, self.model, self.count = folder / "r", model, 0
        self.work = folder
        self.current = Current("tiny")
        self.manager = Manager(self.folder, self.current, policy)

    def publish(self, model: Path | None = None, **values: object) -> int:
        """A release whose items nobody else has: the nth one's are "n-a" and "n-b"."""
        self.count += 1
        items = {f"{self.count}-a": [1, 0, 0, 0], f"{self.count}-b": [2, 0, 0, 0]}
        return tiny.publish(
            self.folder, model or self.model, self.work / f"index-{self.count}", **{"items": items, **values}
        )

    def decide(self, **values: object) -> None:
        change_state(self.folder, lambda state: ServingState(**values))

    def answer(self) -> tuple[int, str]:
        """(version, item) that answer a query now."""
        _, retriever = self.current.served.assign("alice")
        answer = retriever.recommend(query_id="alice", features={}, k=1)
        return retriever.manifest.version, answer.hits[0].item_id.decode()


def truncate(folder: Path) -> None:
    path = folder / "index" / "embeddings.npy"
    path.write_bytes(path.read_bytes()[:-1])
