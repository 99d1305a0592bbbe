"""Loads the releases that ought to be served, and remembers which ones cannot be.

A new release is verified, loaded, warmed up and asked canary queries. A broken one is refused once and tried again only
when its files have changed. One whose version TensorFlow Serving does not have yet is asked for once with each look, so
that nothing else waits for it; after `load_seconds` it counts as refused, and is asked for all the same.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import grpc

from serving.canary import check_canary
from serving.config import TowerConfig, VersionPolicy
from serving.release import Manifest, ReleaseError
from serving.remote_tower import AnyTower
from serving.retriever import Retriever, complete_release, open_release
from serving.served import Current, VersionState
from serving.state import ServingState
from serving.status import RequestError
from serving.versions import Selection, select

DATA_LOSS, UNKNOWN = 15, 2  # google.rpc.Code
HINT = "TensorFlow Serving has only what its own version policy loads: does that have this version?"

Stamp = tuple[tuple[str, int, int], ...]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Waiting:
    """A release whose files are whole, and whose version TensorFlow Serving does not answer for."""

    stamp: Stamp
    manifest: Manifest
    tower: AnyTower
    until: float  # time.monotonic() from which on it counts as refused; it is asked for all the same


class Loader:
    """Of one releases root. Not safe for threads: the manager calls it under its lock."""

    def __init__(
        self,
        root: Path,
        current: Current,
        policy: VersionPolicy,
        remote: TowerConfig | None,
        stopped: threading.Event,
    ) -> None:
        """Loads nothing yet.

        Args:
          root: folder of the releases.
          current: what is loaded already; of it, only the statuses are written.
          policy: the configuration's.
          remote: where the towers run; None for this process.
          stopped: no further release is begun once it is set.
        """
        self._root, self._current, self._policy, self._remote = root, current, policy, remote
        self._stopped = stopped
        self._refused: dict[int, Stamp] = {}
        self._waiting: dict[int, Waiting] = {}

    def load(self, versions: list[int], state: ServingState) -> tuple[Selection, dict[int, Retriever]]:
        """What ought to be served, and what of it is loaded; the rest is awaited.

        A release that turns out broken, or is awaited for too long, makes room for another.
        """
        self._forgive(versions)
        loaded, asked, late = dict(self._current.served.retrievers), set[int](), set[int]()
        while True:
            selection = select(versions, self._policy, state, self._refused.keys() | late)
            missing = [version for version in selection.versions if version not in loaded and version not in asked]
            if not missing or self._stopped.is_set():
                break
            version = missing[0]
            retriever = self._try(version)
            if retriever is not None:
                loaded[version] = retriever
            elif version in self._waiting:
                asked.add(version)
                if self._current.statuses[version].state is VersionState.END:
                    late.add(version)
                elif not loaded:
                    break  # nothing answers before it does: what comes after it would be loaded in vain
        self._waiting = {version: self._waiting[version] for version in asked}
        return selection, loaded

    def is_waiting(self) -> bool:
        """Whether something is awaited, and not for too long yet."""
        return any(self._current.statuses[version].state is VersionState.LOADING for version in self._waiting)

    def _forgive(self, versions: list[int]) -> None:
        """Forgets what was found out about a release whose files have changed since."""
        for version, stamp in [*self._refused.items(), *((v, waiting.stamp) for v, waiting in self._waiting.items())]:
            if version not in versions or _stamp(self._root / str(version)) != stamp:
                self._refused.pop(version, None)
                self._waiting.pop(version, None)
        for version, status in self._current.statuses.items():
            if status.state is VersionState.LOADING and version not in self._waiting:
                self._current.tell(version, VersionState.END)  # what asked for it no longer does

    def _try(self, version: int) -> Retriever | None:
        folder, waiting = self._root / str(version), self._waiting.get(version)
        # Taken first: what changes while it is being read is then read again.
        stamp = _stamp(folder) if waiting is None else waiting.stamp
        if waiting is None:
            self._current.tell(version, VersionState.LOADING)
        try:
            if waiting is None:
                until = time.monotonic() + (0 if self._remote is None else self._remote.load_seconds)
                waiting = Waiting(stamp, *open_release(folder, self._remote), until)
            expected, found = self._current.served.model_name, waiting.manifest.model_name
            if found != expected:
                raise ReleaseError(f"{folder}: is of model {found!r}, not of {expected!r}")  # noqa: TRY301
            retriever = complete_release(folder, waiting.manifest, waiting.tower)
            check_canary(folder, retriever)
        except ReleaseError as error:
            cause = error.__cause__
            if self._remote is not None and waiting is not None and isinstance(cause, RequestError):
                # Nothing is wrong with the files.
                self._wait(version, waiting, f"{folder}: {cause.message}", cause.status)
                return None
            logger.error("release %d is refused: %s", version, error)  # noqa: TRY400 - the message says it all
            self._current.tell(version, VersionState.END, DATA_LOSS, str(error))
        except Exception as error:
            # A release must not be able to end the watching, whatever it does to the libraries that read it.
            logger.exception("release %d is refused", version)
            self._current.tell(version, VersionState.END, UNKNOWN, f"{folder}: {type(error).__name__}: {error}")
        else:
            return retriever
        self._refused[version] = stamp
        return None

    def _wait(self, version: int, waiting: Waiting, message: str, status: grpc.StatusCode) -> None:
        first = version not in self._waiting
        self._waiting[version] = waiting
        if time.monotonic() < waiting.until:
            if first:
                logger.info("release %d waits for its tower: %s", version, message)
        elif self._current.statuses[version].state is not VersionState.END:
            message = f"{message}; {HINT}"
            logger.error("release %d is refused: %s", version, message)
            self._current.tell(version, VersionState.END, status.value[0], message)


def _stamp(folder: Path) -> Stamp:
    """Names, times and sizes of a release's files: what changes when somebody repairs it.

    The time is the inode's: it also moves where a copy keeps the file's own time, or only its mode is mended.
    """
    files = []
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        files.append((str(path), status.st_ctime_ns, status.st_size))
    return tuple(files)
