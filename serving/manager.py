"""Keeps what is served what the releases root and its state file say, from a thread of its own.

A new release is verified, loaded, warmed up and asked canary queries beside the ones that answer, then takes its place
by one assignment. A request that has begun ends on the release it began with, for it holds it; a release that nobody
holds any more is freed. A broken release is refused once and tried again only when its files have changed. What is
loaded follows from the folder and the state alone, not from what was loaded before: a restart comes to the same.
"""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from pathlib import Path

from serving.canary import check_canary
from serving.config import TowerConfig, VersionPolicy
from serving.release import ReleaseError, list_versions
from serving.retriever import Retriever, load_release
from serving.served import Current, Served, VersionState, VersionStatus
from serving.state import ServingState, parse, read_bytes
from serving.status import RequestError
from serving.versions import Selection, select

POLL_SECONDS = 0.5
DATA_LOSS, UNKNOWN = 15, 2  # google.rpc.Code

Stamp = tuple[tuple[str, int, int], ...]

logger = logging.getLogger(__name__)


class Manager:
    """Watches one releases root. `poll` and all that it calls run under one lock; requests never take it."""

    def __init__(self, root: Path, current: Current, policy: VersionPolicy, remote: TowerConfig | None = None) -> None:
        """Does nothing yet.

        Args:
          root: folder of the releases.
          current: what the servicers answer from; the manager alone writes to it.
          policy: the configuration's.
          remote: where the towers run; None for this process.
        """
        self.root, self._current, self._policy, self._remote = root, current, policy, remote
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="releases", daemon=True)
        self._state = ServingState()
        self._state_bytes: bytes | None = None
        self._refused: dict[int, Stamp | None] = {}  # None: to be tried again at the next look
        self._leaving: dict[int, weakref.ref[Retriever]] = {}
        self._complaints: list[str] = []

    def start(self) -> int:
        """Loads what is to be served, then goes on watching.

        Returns:
          The version that answers requests which name none.

        Raises:
          ReleaseError: there is no release that can be served, or the state file is broken.
        """
        self._state_bytes = read_bytes(self.root)
        self._state = parse(self.root, self._state_bytes)
        self._complaints = [self._why_none(list_versions(self.root))]  # raised below, not logged as well
        self.poll()
        version = self._current.served.default[1]
        if version is None:
            raise ReleaseError(self._why_none(list_versions(self.root)))
        self._thread.start()
        return version

    def stop(self) -> None:
        """Ends the watching; a load under way is waited for."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def poll(self) -> None:
        """Looks once, loads what is new, swaps, and lets go of what nobody uses.

        Raises:
          ReleaseError: the root cannot be listed.
        """
        with self._lock:
            try:
                self._look()
            except OSError as error:
                raise ReleaseError(f"{self.root}: cannot look for releases: {error}") from error

    def _look(self) -> None:
        complaints = self._read_state()
        versions = list_versions(self.root)
        self._forgive(versions)
        selection, loaded = self._load(versions)
        if selection.newest is None:
            complaints.append(self._why_none(versions))
        else:
            self._swap(selection, loaded)
        for label, version in self._state.labels.items():
            if version not in selection.versions:
                complaints.append(f"label {label!r} names version {version}, which cannot be served")
        self._complain(complaints)
        self._bury(versions)

    def _run(self) -> None:
        while not self._stopped.wait(POLL_SECONDS):
            try:
                self.poll()
            except ReleaseError as error:
                self._complain([str(error)])

    def _read_state(self) -> list[str]:
        """Takes over the state file where it has changed. Returns what is wrong with it."""
        try:
            content = read_bytes(self.root)
            if content != self._state_bytes:
                self._state = parse(self.root, content)
                self._state_bytes = content
        except ReleaseError as error:
            return [f"{error}; what was decided before still holds"]
        return []

    def _forgive(self, versions: list[int]) -> None:
        """Forgets the refusal of a release whose files have changed since."""
        for version, stamp in list(self._refused.items()):
            if version not in versions or _stamp(self.root / str(version)) != stamp:
                del self._refused[version]

    def _load(self, versions: list[int]) -> tuple[Selection, dict[int, Retriever]]:
        """What ought to be served, loaded; a release that turns out broken makes room for another."""
        loaded = dict(self._current.served.retrievers)
        while True:
            selection = select(versions, self._policy, self._state, self._refused)
            missing = [version for version in selection.versions if version not in loaded]
            if not missing:
                return selection, loaded
            retriever = self._try(missing[0])
            if retriever is not None:
                loaded[missing[0]] = retriever

    def _try(self, version: int) -> Retriever | None:
        folder = self.root / str(version)
        # Taken first: what changes while it is being read is then read again.
        stamp: Stamp | None = _stamp(folder)
        self._tell(version, VersionState.LOADING)
        try:
            retriever = load_release(folder, self._remote)
            expected, found = self._current.served.model_name, retriever.manifest.model_name
            if found != expected:
                raise ReleaseError(f"{folder}: is of model {found!r}, not of {expected!r}")  # noqa: TRY301
            check_canary(folder, retriever)
        except ReleaseError as error:
            code = DATA_LOSS
            if self._remote is not None and isinstance(error.__cause__, RequestError):
                # Nothing is wrong with the files: TensorFlow Serving may have the version when it is next asked.
                code, _ = error.__cause__.status.value
                stamp = None
            logger.error("release %d is refused: %s", version, error)  # noqa: TRY400 - the message says it all
            self._tell(version, VersionState.END, code, str(error))
        except Exception as error:
            # A release must not be able to end the watching, whatever it does to the libraries that read it.
            logger.exception("release %d is refused", version)
            self._tell(version, VersionState.END, UNKNOWN, f"{folder}: {type(error).__name__}: {error}")
        else:
            return retriever
        self._refused[version] = stamp
        return None

    def _swap(self, selection: Selection, loaded: dict[int, Retriever]) -> None:
        before, state = self._current.served, self._state
        after = Served(
            before.model_name,
            {version: loaded[version] for version in selection.versions},
            {label: version for label, version in state.labels.items() if version in selection.versions},
            state.traffic,
            state.salt,
            selection.newest,
        )
        if after == before:
            return
        self._current.served = after
        for version in after.retrievers.keys() - before.retrievers.keys():
            self._tell(version, VersionState.AVAILABLE)
        for version in before.retrievers.keys() - after.retrievers.keys():
            self._leaving[version] = weakref.ref(before.retrievers[version])
            self._tell(version, VersionState.UNLOADING)
        logger.info(
            "version %d answers; loaded: %s; labels: %s; traffic: %s",
            selection.newest, list(after.retrievers), dict(after.labels), dict(after.traffic),
        )  # fmt: skip

    def _bury(self, versions: list[int]) -> None:
        """Frees the releases that their last request has let go of, and forgets what is neither loaded nor on disk."""
        gone = [version for version, retriever in self._leaving.items() if retriever() is None]
        if gone:
            gc.collect()  # a SavedModel is full of cycles, which would hold its memory for a long time
        for version in gone:
            del self._leaving[version]
            if version not in self._current.served.retrievers:
                self._tell(version, VersionState.END)
        known = {*versions, *self._current.served.retrievers, *self._leaving}
        statuses = self._current.statuses
        if not known.issuperset(statuses):
            self._current.statuses = {version: statuses[version] for version in statuses if version in known}

    def _tell(self, version: int, state: VersionState, error_code: int = 0, error_message: str = "") -> None:
        status = VersionStatus(state, error_code, error_message)
        self._current.statuses = {**self._current.statuses, version: status}

    def _complain(self, complaints: list[str]) -> None:
        """Logs what is wrong once, not with each look."""
        for complaint in complaints:
            if complaint not in self._complaints:
                logger.error("%s", complaint)
        self._complaints = complaints

    def _why_none(self, versions: list[int]) -> str:
        if not versions:
            return f"there is no release in {self.root}"
        pinned = "" if self._state.pinned is None else f" with version {self._state.pinned} pinned"
        name = self._current.served.model_name
        return f"none of the {len(versions)} releases in {self.root} can be served as {name!r}{pinned}"


def _stamp(folder: Path) -> Stamp:
    """Names, times and sizes of a release's files: what changes when somebody repairs it.

    The time is the inode's: it also moves where a copy keeps the file's own time, or only its mode is mended.
    """
    files = []
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        files.append((str(path), status.st_ctime_ns, status.st_size))
    return tuple(files)
